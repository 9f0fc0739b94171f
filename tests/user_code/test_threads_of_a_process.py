"""Whole processes whose handlers are in threads: they end within their grace, and hand over only what has ended."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal

import orjson
import pytest

from streams import Streams
from tests.support.child import Child, Spawn
from tests.support.programs.sleepers import Slept, SleptInExecutor, SleptInOwnExecutor, Swept
from tests.support.waiting import wait_until
from tests.user_code.test_cancelling import all_settled

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.newest_redis


class Sleepers:
    """Starts processes, and reads what they have written."""

    def __init__(self, spawn: Spawn, log: Path) -> None:
        self._spawn, self._log = spawn, log

    def start(self, **settings: str) -> Child:
        """One process."""
        env = {"SLEEPERS_LOG": str(self._log), "PYTHONPATH": str(ROOT), **settings}
        return self._spawn("tests.support.programs.sleepers", env=env)

    def lines(self, what: str, pid: int = 0) -> list[dict[str, Any]]:
        """What was written, in order."""
        if not self._log.exists():
            return []
        written, _, _ = self._log.read_bytes().rpartition(b"\n")
        lines = [orjson.loads(line) for line in written.splitlines()]
        return [line for line in lines if line["what"] == what and (not pid or line["pid"] == pid)]


@pytest.fixture
def sleepers(spawn: Spawn, tmp_path: Path) -> Sleepers:
    """The processes."""
    return Sleepers(spawn, tmp_path / "sleepers.jsonl")


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("event", [Slept, SleptInExecutor, SleptInOwnExecutor])
async def test_sigterm_is_obeyed_while_a_thread_sleeps_for_a_minute(
    streams: Streams, sleepers: Sleepers, event: type[Slept], loop: str
) -> None:
    """Within the grace and a few seconds, with 0, also over the timeout of the handler; the log says what is left."""
    child = sleepers.start(STREAMS_GRACE="1", SLEEPERS_TIMEOUT="0.5", SLEEPERS_LOOP=loop)
    await streams.publish(event(n=1, seconds=60))
    await wait_until(lambda: sleepers.lines("start"), 15)
    began = time.monotonic()
    child.terminate()
    assert child.wait(15) == 0, child.output()
    took = time.monotonic() - began
    print(f"{event.__name__} on {loop}: ended {took:.1f} s after SIGTERM, grace 1 s")
    assert took < 8
    assert "left_behind" in child.stdout() + child.stderr()


@pytest.mark.timeout(90)
async def test_what_a_thread_does_is_handed_over_when_its_process_is_gone(streams: Streams, sleepers: Sleepers) -> None:
    """A deploy in the middle of a handler of 12 s, with a grace of 2 s and a lease of 1 s: the next process begins when
    the last trace of the old one is over.
    """
    settings = {"STREAMS_GRACE": "2", "STREAMS_LEASE": "1", "SLEEPERS_TIMEOUT": "3"}
    old = sleepers.start(**settings)
    await streams.publish(Slept(n=1, seconds=12))
    await wait_until(lambda: sleepers.lines("start"), 15)
    new = sleepers.start(**settings)
    await wait_until(lambda: "consumer.started" in new.stdout() + new.stderr(), 15)
    old.terminate()
    assert old.wait(15) == 0, old.output()
    await wait_until(lambda: sleepers.lines("start", new.pid), 15)
    last = max(line["at"] for line in sleepers.lines("alive", old.pid))
    first = sleepers.lines("start", new.pid)[0]["at"]
    print(f"the next process began {first - last:.2f} s after the last sign of the old one")
    assert first > last
    assert not sleepers.lines("end", old.pid)
    await wait_until(lambda: sleepers.lines("end", new.pid), 30)
    await all_settled(streams)
    assert len(sleepers.lines("end")) == 1


async def test_no_process_begins_what_another_has_in_a_thread(streams: Streams, sleepers: Sleepers) -> None:
    """Five leases and a grace after SIGTERM: it is renewed to the last."""
    settings = {"STREAMS_GRACE": "4", "STREAMS_LEASE": "0.5", "SLEEPERS_TIMEOUT": "0.2"}
    old = sleepers.start(**settings)
    await streams.publish(Slept(n=1, seconds=3))
    await wait_until(lambda: sleepers.lines("start"), 15)
    new = sleepers.start(**settings)
    await wait_until(lambda: "consumer.started" in new.stdout() + new.stderr(), 15)
    old.terminate()
    assert old.wait(15) == 0, old.output()
    await all_settled(streams)
    assert [line["pid"] for line in sleepers.lines("start")] == [old.pid]
    assert [line["pid"] for line in sleepers.lines("end")] == [old.pid]


@pytest.mark.parametrize("main", ["first", "last"])
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
async def test_code_that_cancels_every_task_ends_the_process_with_a_reason(
    streams: Streams, sleepers: Sleepers, loop: str, main: Literal["first", "last"]
) -> None:
    """It exits 1, so that it is started again, and says why, whichever task is reached first."""
    child = sleepers.start(SLEEPERS_LOOP=loop)
    await streams.publish(Swept(n=1, main=main))
    assert child.wait(15) == 1, child.output()
    assert "cancelled by other code of this process" in child.stdout() + child.stderr()
