"""`python -m processors`: processes that are started, started again, given up, and stopped in order."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from processors.__main__ import names
from tests.support.child import Child, Spawn
from tests.support.waiting import wait_until

ROOT = str(Path(__file__).parents[2])


def lines(child: Child, event: str) -> list[dict[str, Any]]:
    """What it has logged under a name."""
    told = [orjson.loads(line) for line in child.stderr().splitlines() if line.startswith("{")]
    return [line for line in told if line["event"] == event]


def test_every_package_with_handlers_is_a_processor() -> None:
    """The database and the demo are none."""
    assert {"email", "inventory"} <= set(names())
    assert not {"database", "demo"} & set(names())


@pytest.mark.newest_redis
@pytest.mark.timeout(120)
async def test_what_ends_is_started_again_and_all_of_it_stops_in_order(spawn: Spawn, redis_url: str) -> None:
    """One line for each change, and nobody is left at the end."""
    env = {"PYTHONPATH": ROOT, "LOG_FORMAT": "json", "OTEL_SDK_DISABLED": "true"}
    child = spawn("processors", "email", "--processes", "email=2", env=env)

    await wait_until(lambda: len(lines(child, "consumer.started")) == 2, 60, child.output)
    victim = lines(child, "supervisor.started")[0]
    os.kill(victim["pid"], signal.SIGKILL)
    await wait_until(lambda: len(lines(child, "consumer.started")) == 3, 60, child.output)
    (ended,) = lines(child, "supervisor.ended")
    assert (ended["process"], ended["code"], ended["again_in"]) == (victim["process"], -9, 1.0)
    child.terminate()
    assert child.wait(40) == 0, child.output()
    assert len(lines(child, "supervisor.stopping")) == 1
    assert [line["code"] for line in lines(child, "supervisor.stopped")] == [0, 0]
    assert len(lines(child, "supervisor.started")) == 3
    for line in lines(child, "supervisor.started"):
        with pytest.raises(ProcessLookupError):
            os.kill(line["pid"], 0)


@pytest.mark.newest_redis
@pytest.mark.timeout(120)
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent is gone")
async def test_a_killed_supervisor_takes_its_processes_along(spawn: Spawn, redis_url: str) -> None:
    """They end in order: nobody would start them again, and the next supervisor starts others."""
    env = {"PYTHONPATH": ROOT, "LOG_FORMAT": "json", "OTEL_SDK_DISABLED": "true"}
    child = spawn("processors", "email", "--processes", "email=2", env=env)
    await wait_until(lambda: len(lines(child, "consumer.started")) == 2, 60, child.output)
    child.kill()
    await wait_until(lambda: len(lines(child, "consumer.drained")) == 2, 40, child.output)


@pytest.mark.timeout(60)
def test_what_cannot_run_is_given_up(spawn: Spawn) -> None:
    """A wrong setting ends a process with 2, however often it is started."""
    env = {"PYTHONPATH": ROOT, "LOG_FORMAT": "json", "SMTP_URL": "nonsense", "REDIS_URL": "unix:///nowhere"}
    child = spawn("processors", "email", env=env)
    assert child.wait(50) == 2, child.output()
    (given_up,) = lines(child, "supervisor.not_restarted")
    assert (given_up["process"], given_up["code"]) == ("email-1", 2)
    assert len(lines(child, "supervisor.started")) == 1


@pytest.mark.parametrize("arguments", [("nobody",), ("--processes", "email"), ("--processes", "email=0")])
def test_what_is_not_there_cannot_be_asked_for(spawn: Spawn, arguments: tuple[str, ...]) -> None:
    """And the answer names what is."""
    child = spawn("processors", *arguments, env={"PYTHONPATH": ROOT})
    assert child.wait() == 2
    assert "email" in child.stderr()
