"""`--wait`: what a command prints and ends with, against running processors; and which businesses there are."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import orjson
import pytest

from tests.support.child import Spawn
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.newest_redis, pytest.mark.timeout(120)]


@pytest.fixture
def place(streams_env: Mapping[str, str], tmp_path: Path) -> Mapping[str, str]:
    """The environment of all commands: a Redis, and a home with three businesses."""
    env = {
        **os.environ, **streams_env, "STREAMS_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    for name in ("DATABASE_URL", "PYTHONDONTWRITEBYTECODE"):
        env.pop(name, None)
    assert run(env, "processors.shared.database", "seed", "--skus", "30", "--sales", "300").returncode == 0
    return env


def run(env: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command, to its end."""
    return subprocess.run(
        [sys.executable, "-m", *arguments], env=dict(env), capture_output=True, text=True, timeout=60, check=False
    )


ASK = ("processors.report", "ask", "inventory-summary", "--email", "ada@example.com", "--format", "csv")


def test_a_business_that_is_not_there_is_refused_with_those_that_are(place: Mapping[str, str], tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("sku,name,quantity\nA,Screw,1\n")
    commands = (ASK, ("processors.file", "upload", str(tmp_path / "s.csv")), ("processors.file", "export"))
    for command in commands:
        ended = run(place, *command, "--business", "99")
        assert (ended.returncode, ended.stdout) == (2, "")
        assert "there is no business 99; there are 1 (Alder & Finch Hardware), 2 (" in ended.stderr
    ended = run(place, *ASK, "--business", "1", "--wait", "soon")
    assert (ended.returncode, "no number of seconds" in ended.stderr) == (2, True)


def test_nothing_that_runs_is_waited_for_so_long_and_no_longer(place: Mapping[str, str]) -> None:
    ended = run(place, *ASK, "--business", "1", "--wait", "1")
    id, *told = ended.stdout.splitlines()
    assert (ended.returncode, told[:2]) == (4, ["outcome: waiting", "state: unread"])
    assert id in told[2]


@pytest.mark.slow
async def test_what_was_asked_for_is_waited_for(place: Mapping[str, str], spawn: Spawn, tmp_path: Path) -> None:
    """A report with its link, one that there cannot be, an import, an import again, and an export."""
    children = [spawn(module, env=dict(place)) for module in ("processors.report", "processors.file")]
    for child in children:
        await wait_until(lambda child=child: _started(child), 30, child.output)  # type: ignore[misc]
    ended = run(place, *ASK, "--business", "2", "--wait", "40")
    assert ended.returncode == 0, ended
    assert "\noutcome: done\n" in ended.stdout
    assert "\nurl: http://localhost:8002/files/reports/2/" in ended.stdout
    ended = run(place, *ASK, "--business", "2", "--category", "Spoons", "--wait", "40")
    assert ended.returncode == 3
    assert "problem: Kestrel Kitchenware has no products of Spoons" in ended.stdout
    (tmp_path / "s.csv").write_text("sku,name,quantity\nA,Screw,1\n")
    upload = ("processors.file", "upload", str(tmp_path / "s.csv"), "--business", "1", "--wait", "40")
    ended = run(place, *upload)
    assert (ended.returncode, "written: 1\n" in ended.stdout) == (0, True), ended
    assert run(place, *upload).returncode == 0  # it is the same file: there is nothing to do
    (tmp_path / "s.csv").write_text("sku,name,quantity\n" + "".join(f"A-{n},Screw,lots\n" for n in range(20)))
    ended = run(place, *upload)
    assert (ended.returncode, "outcome: failed\nproblem: " in ended.stdout) == (3, True), ended
    ended = run(place, "processors.file", "export", "--business", "1", "--wait", "40")
    assert (ended.returncode, "outcome: done" in ended.stdout) == (0, True), ended


async def _started(child: object) -> bool:
    return "consumer.started" in child.output()  # type: ignore[attr-defined]


def test_the_businesses_and_their_time_zones(place: Mapping[str, str]) -> None:
    ended = run(place, "processors.shared.database", "zone", "2", "Europe/Berlin")
    assert ended.returncode == 0, ended
    listed = orjson.loads(run(place, "processors.shared.database", "ls", "--json").stdout)
    assert [(each["id"], each["time_zone"]) for each in listed] == [(1, "UTC"), (2, "Europe/Berlin"), (3, "UTC")]
    assert (
        "2   Kestrel Kitchenware     EUR       Europe/Berlin" in run(place, "processors.shared.database", "ls").stdout
    )
    for wrong, told in ((("2", "Europe/Berlim"), "is it Europe/Berlin"), (("9", "UTC"), "there is no business 9")):
        ended = run(place, "processors.shared.database", "zone", *wrong)
        assert (ended.returncode, told in ended.stderr) == (2, True), ended


@pytest.mark.parametrize(
    ("module", "commands"), [("processors.report", ["ask"]), ("processors.file", ["upload", "export"])]
)
def test_help_names_the_commands(module: str, commands: list[str]) -> None:
    """And a command that is mistyped is refused with those that there are."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = run(env, module, "--help")
    assert ended.returncode == 0
    assert all(f"{module} {command}" in ended.stdout for command in commands)
    ended = run(env, module, "aks")
    assert (ended.returncode, "aks" in ended.stderr) == (2, True)
