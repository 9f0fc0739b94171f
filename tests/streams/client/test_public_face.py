"""The public face: every name is there, and nothing else comes along."""

from __future__ import annotations

import subprocess
import sys

import pytest

import streams


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
