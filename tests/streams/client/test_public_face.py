"""The public face: every name is there, and nothing else comes along."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

import streams

ENGINE: Final = Path(streams.__file__).parent
FACES: Final = sorted(
    f"streams.{path.parent.name}" for path in ENGINE.glob("*/__init__.py") if "_HOMES" in path.read_text()
)


def test_every_public_name_is_there_and_documented() -> None:
    """Each has a docstring that says what it is."""
    homes = sorted(name for names in streams._HOMES.values() for name in names)
    assert homes == streams.__all__ == sorted(streams.__all__)
    for name in streams.__all__:
        assert getattr(streams, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = streams.Nothing


def test_publishing_does_not_import_the_consumer() -> None:
    """A command that publishes one event starts fast."""
    loaded = "print('mode' in sys.modules, 'streams.consuming.consumer' in sys.modules)"
    code = f"import sys; from streams import Streams; {loaded}"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("package", FACES)
def test_every_name_of_a_package_is_there_and_is_no_module(package: str) -> None:
    """A name that a module has as well would be the one or the other, by what was imported before."""
    face = importlib.import_module(package)
    assert sorted(name for names in face._HOMES.values() for name in names) == sorted(face.__all__) == dir(face)
    modules = {path.stem for path in Path(face.__file__ or "").parent.glob("*.py")}
    assert modules.isdisjoint(face.__all__)
    for home, names in face._HOMES.items():
        assert home.startswith(f"{package}.")
        for name in names:
            assert getattr(face, name) is getattr(importlib.import_module(home), name)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = face.Nothing


def test_a_package_loads_nothing_until_a_name_is_asked_for() -> None:
    """Importing one module of it never loads its neighbours."""
    assert len(FACES) == 12
    code = (
        f"import importlib, sys\nfor each in {FACES!r}: importlib.import_module(each)\n"
        f"print(*(name for name in sys.modules if name.startswith('streams.') and name not in {FACES!r}))\n"
        "from streams.messages import Outcome\n"
        "print('streams.messages.outcome' in sys.modules, 'streams.messages.letter' in sys.modules)\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.splitlines() == ["", "True False"]
