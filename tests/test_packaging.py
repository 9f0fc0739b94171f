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

from tests.support.installed import build_wheels

ROOT = Path(__file__).parents[1]
PACKAGES = {"planning-bord-streams": ("streams", "observability"), "planning-bord": ("schemas", "processors")}
# Where a checkout has a package -> where a wheel has it; see deploy/application/hatch_build.py.
RENAMED = {"examples/demo": "planning_bord_examples/demo", "examples/fakes": "planning_bord_examples/fakes"}
PROJECTS = {
    "planning-bord-streams": tomllib.loads((ROOT / "pyproject.toml").read_text()),
    "planning-bord": tomllib.loads((ROOT / "deploy/application/pyproject.toml").read_text()),
}
VERSION = PROJECTS["planning-bord-streams"]["project"]["version"]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, zipfile.ZipFile]:
    """Both wheels by the name of their distribution."""
    built = build_wheels(tmp_path_factory.mktemp("dist"))
    return {path.name.split("-")[0].replace("_", "-"): zipfile.ZipFile(path) for path in built}


def _metadata(wheel: zipfile.ZipFile, name: str) -> str:
    return wheel.read(next(entry for entry in wheel.namelist() if entry.endswith(f".dist-info/{name}"))).decode()


@pytest.mark.parametrize("name", PACKAGES)
def test_a_wheel_holds_every_file_of_its_packages_and_nothing_else(
    wheels: dict[str, zipfile.ZipFile], name: str
) -> None:
    """Scripts, templates and type markers too: without one of them it would fail only where it is installed."""
    shipped = {entry for entry in wheels[name].namelist() if ".dist-info/" not in entry}
    written = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES[name]
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    if name == "planning-bord":
        written.add("planning_bord_examples/__init__.py")
        written |= {
            f"{target}/{path.relative_to(ROOT / source)}"
            for source, target in RENAMED.items()
            for path in (ROOT / source).rglob("*.py")
        }

    assert shipped == written
    assert {f"{package}/py.typed" for package in PACKAGES[name]} <= shipped
    if name == "planning-bord":
        assert any(entry.startswith("processors/email/templates/") for entry in shipped)
    else:
        assert any(entry.endswith(".lua") for entry in shipped)


def test_the_wheels_say_what_they_offer(wheels: dict[str, zipfile.ZipFile]) -> None:
    """The command, its plug-ins, the extras and the licence; one version, which the application asks of the engine."""
    entries = configparser.ConfigParser()
    for wheel in wheels.values():
        entries.read_string(_metadata(wheel, "entry_points.txt"))
    assert entries["console_scripts"]["streams"] == "streams.cli:main"
    assert entries["streams.commands"]["demo"] == "planning_bord_examples.demo:command"
    assert entries["streams.events"]["planning-bord"] == "schemas"
    for name, wheel in wheels.items():
        metadata = Parser().parsestr(_metadata(wheel, "METADATA"))
        assert set(metadata.get_all("Provides-Extra", [])) == set(PROJECTS[name]["project"]["optional-dependencies"])
        assert metadata["License-Expression"] == "MIT"
        assert metadata["Requires-Python"] == ">=3.11"
        assert metadata["Version"] == VERSION
    asked = PROJECTS["planning-bord"]["project"]["dependencies"]
    assert [line for line in asked if line.endswith(f"=={VERSION}")] == [
        f"planning-bord-streams[cli,tracing]=={VERSION}"
    ]


def test_the_lock_names_the_public_index_only() -> None:
    """A lock made behind a company's mirror would lock everybody else out."""
    hosts = set(re.findall(r"(?:https?|file)://([^/\"]+)", (ROOT / "uv.lock").read_text()))

    assert hosts == {"pypi.org", "files.pythonhosted.org"}


@pytest.mark.parametrize("name", PROJECTS)
def test_the_lock_has_what_the_project_asks_for(name: str) -> None:
    """Every dependency of the project, its extras and its groups is in the lock, which is therefore not an old one."""
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    own = next(package for package in lock["package"] if package["name"] == name)["metadata"]
    locked = {entry["name"]: entry.get("specifier", "") for entry in own["requires-dist"]}
    groups = own.get("requires-dev", {}).values()
    locked |= {entry["name"]: entry.get("specifier", "") for group in groups for entry in group}
    project = PROJECTS[name]["project"]
    asked = [*project["dependencies"], *(line for lines in project["optional-dependencies"].values() for line in lines)]
    groups = PROJECTS[name].get("dependency-groups", {}).values()
    asked += [line for group in groups for line in group if isinstance(line, str)]

    for line in asked:
        package, specifier = re.fullmatch(r"([\w.-]+)(?:\[[^\]]*\])?([^;]*)(?:;.*)?", line.strip()).groups()  # type: ignore[union-attr]
        if package not in PROJECTS:
            assert sorted(locked[package].split(",")) == sorted(specifier.strip().split(",")), line


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
