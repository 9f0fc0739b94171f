"""What is installed is what was written: every file of the packages, and libraries from the public index."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = ("schemas", "streams", "processors", "observability")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built as a release builds it; hatchling is installed, so nothing is fetched."""
    directory = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)]
    result = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return zipfile.ZipFile(next(directory.glob("*.whl")))


def _metadata(wheel: zipfile.ZipFile, name: str) -> str:
    return wheel.read(next(entry for entry in wheel.namelist() if entry.endswith(f".dist-info/{name}"))).decode()


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    """Scripts, templates and type markers too: without one of them it would fail only where it is installed."""
    shipped = {name for name in wheel.namelist() if ".dist-info/" not in name}
    written = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }

    assert shipped == written
    assert {f"{package}/py.typed" for package in PACKAGES} <= shipped
    assert any(name.startswith("streams/lua/") for name in shipped)
    assert any(name.startswith("processors/email/templates/") for name in shipped)


def test_the_wheel_says_what_it_offers(wheel: zipfile.ZipFile) -> None:
    """The command, its plug-ins, the extras and the licence."""
    entries = configparser.ConfigParser()
    entries.read_string(_metadata(wheel, "entry_points.txt"))
    metadata = Parser().parsestr(_metadata(wheel, "METADATA"))

    assert entries["console_scripts"]["streams"] == "streams.cli:main"
    assert entries["streams.commands"]["demo"] == "processors.demo:command"
    assert set(metadata.get_all("Provides-Extra", [])) == set(PROJECT["project"]["optional-dependencies"])
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.11"


def test_the_lock_names_the_public_index_only() -> None:
    """A lock made behind a company's mirror would lock everybody else out."""
    hosts = set(re.findall(r"(?:https?|file)://([^/\"]+)", (ROOT / "uv.lock").read_text()))

    assert hosts == {"pypi.org", "files.pythonhosted.org"}


def test_the_lock_has_what_the_project_asks_for() -> None:
    """Every dependency of the project, its extras and its groups is in the lock, which is therefore not an old one."""
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    own = next(package for package in lock["package"] if package["name"] == "planning-bord-streams")["metadata"]
    locked = {entry["name"]: entry.get("specifier", "") for entry in own["requires-dist"]}
    locked |= {entry["name"]: entry.get("specifier", "") for group in own["requires-dev"].values() for entry in group}
    project = PROJECT["project"]
    asked = [*project["dependencies"], *(line for lines in project["optional-dependencies"].values() for line in lines)]
    asked += [line for group in PROJECT["dependency-groups"].values() for line in group if isinstance(line, str)]

    for line in asked:
        name, specifier = re.fullmatch(r"([\w.-]+)(?:\[[^\]]*\])?([^;]*)(?:;.*)?", line.strip()).groups()  # type: ignore[union-attr]
        if name != "planning-bord-streams":
            assert sorted(locked[name].split(",")) == sorted(specifier.strip().split(",")), line


def test_the_email_processor_does_not_hide_the_standard_library() -> None:
    """`processors/email` is named like `email`: run as documented, everybody still gets Python's own."""
    script = "import processors.email, email, email.message; print(email.__file__)"

    command = [sys.executable, "-W", "error", "-c", script]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stderr
    assert Path(result.stdout.strip()).is_relative_to(sysconfig.get_path("stdlib"))


def test_every_command_of_the_makefile_is_in_its_help() -> None:
    """`make` alone shows what there is."""
    text = (ROOT / "Makefile").read_text()
    phony = set(re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)[0].split())

    shown = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout

    assert set(re.findall(r"^  make ([a-z-]+)", shown, re.MULTILINE)) == phony
    assert {"demo", "test", "check", "bench", "lock", "clean", "help"} <= phony
