"""Commands of other packages: found by their entry points, imported only when called, harmless when broken."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.cli.conftest import Cli

pytestmark = pytest.mark.newest_redis

ENTRY_POINTS = """
[streams.commands]
hello = plugged_in:hello
tools = plugged_in:tools
single = plugged_in:single
broken = plugged_out:nothing
status = plugged_in:hello
"""
MODULE = '''
import sys
import typer

print("imported", file=sys.stderr)
tools, single = typer.Typer(help="Several tools."), typer.Typer()

def hello(name: str = "you") -> None:
    """Greets."""
    print(f"hello {name}")

@tools.command()
def one() -> None:
    """The first."""
    print("one")

@tools.command()
def two() -> None:
    """The second."""
    raise typer.Exit(7)

@single.command()
def only() -> None:
    """The only one."""
    print("only")
'''


@pytest.fixture
def plugged(tmp_path: Path) -> Mapping[str, str]:
    """An environment with an installed package that adds commands."""
    info = tmp_path / "site" / "plugged-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    (tmp_path / "site" / "plugged_in.py").write_text(MODULE)
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")]))}


async def test_commands_of_other_packages(cli: Cli, plugged: Mapping[str, str]) -> None:
    helped = await cli("--help", env=plugged)
    assert helped.err == ""  # nothing was imported
    assert re.search(r"^  hello +\(from plugged\)$", helped.out, re.MULTILINE)
    assert (await cli("hello", "--name", "Ada", env=plugged)).out == "hello Ada\n"
    assert "Greets." in (await cli("hello", "--help", env=plugged)).out


async def test_groups_of_commands_of_other_packages(cli: Cli, plugged: Mapping[str, str]) -> None:
    assert (await cli("tools", "one", env=plugged)).out == "one\n"
    assert (await cli("tools", "two", env=plugged)).code == 7
    assert (await cli("single", env=plugged)).out == "only\n"
    wrong = await cli("hello", "--nonsense", env=plugged)
    assert (wrong.code, wrong.err.count("\n")) == (2, 2)  # its own import line, and ours


async def test_a_broken_package_spoils_its_own_command_only(cli: Cli, plugged: Mapping[str, str]) -> None:
    (await cli("broken", env=plugged)).refused(1, "broken", "plugged_out:nothing")
    assert (await cli("schema", env=plugged)).code == 0


async def test_a_built_in_command_cannot_be_replaced(cli: Cli, plugged: Mapping[str, str]) -> None:
    result = await cli("status", env=plugged)
    assert (result.err, "hello" in result.out) == ("", False)
