"""Children that handlers fork: processes of their own, and nothing that happens to them happens to the consumer."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from streams import Streams
from tests.faults.conftest import ProbeLog
from tests.support.programs.odd_handlers import Odd, OddInThread
from tests.support.waiting import wait_until
from tests.user_code.conftest import SpawnOdd

pytestmark = pytest.mark.newest_redis

LOOPS = ["asyncio", "uvloop"]
ENDS: dict[str, dict[str, Any]] = {
    "terminated": {"code": -signal.SIGTERM},
    "pool": {"sum": 3},
    "fork_and_exit": {"code": 7},
    "fork_and_sys_exit": {"code": 7},
    "fork_and_return": {"code": 1},
    "signalled": {"code": -signal.SIGTERM},
    "preexec": {"code": -signal.SIGTERM},
}
"""What each of them does, and how its child ends."""


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("kind", [Odd, OddInThread])
async def test_a_child_is_a_process_of_its_own(
    streams: Streams, spawn_odd: SpawnOdd, odd_log: ProbeLog, kind: type[Odd | OddInThread], loop: str
) -> None:
    """However it is forked and ended, from the event loop or from a thread: its signals end it and not the consumer,
    it handles nothing, and the consumer goes on until it is asked to end.
    """
    child = spawn_odd(ODD_LOOP=loop, STREAMS_CONCURRENCY="2")
    acts = list(ENDS) * 3
    await streams.publish_many([kind(n=n, act=act) for n, act in enumerate(acts)])

    def ended() -> bool:
        return {line["n"] for line in odd_log.lines("end") if line["pid"] == child.pid} == set(range(len(acts)))

    await wait_until(ended, 25, child.output)
    await streams.publish(Odd(n=99))
    await wait_until(lambda: 99 in odd_log.numbers("end"))
    assert child.running
    child.terminate()
    assert child.wait() == 0
    for n, act in enumerate(acts):
        (line,) = [line for line in odd_log.lines("child") if line["n"] == n]
        assert ENDS[act].items() <= line.items(), act
    assert {line["pid"] for line in odd_log.lines("start")} == {child.pid}
    assert sorted(odd_log.numbers("start")) == [*range(len(acts)), 99]


@pytest.mark.parametrize("loop", LOOPS)
async def test_a_child_that_waits_in_its_parents_event_loop_ends(
    streams: Streams, spawn_odd: SpawnOdd, odd_log: ProbeLog, loop: str
) -> None:
    """It does not become a second consumer with the connections of the first."""
    child = spawn_odd(ODD_LOOP=loop)
    await streams.publish_many([Odd(n=n, act="fork_and_wait") for n in range(5)])
    await wait_until(lambda: len(odd_log.numbers("child")) == 5, 20, child.output)
    await streams.publish_many([Odd(n=n) for n in range(5, 50)])
    await wait_until(lambda: set(odd_log.numbers("end")) == set(range(50)), 20, child.output)
    child.terminate()
    assert child.wait() == 0
    assert not odd_log.numbers("child in the loop")
    assert sorted(odd_log.numbers("end")) == list(range(50))
    assert [line["code"] for line in odd_log.lines("child")] == [1] * 5


@pytest.mark.parametrize("loop", LOOPS)
async def test_a_child_that_outlives_its_parent_keeps_no_connection(
    streams: Streams, spawn_odd: SpawnOdd, odd_log: ProbeLog, loop: str
) -> None:
    """Redis sees at once that the parent is gone, and hands nothing to its connections; its leases run out."""
    await streams.publish(Odd(n=1, act="outliving", seconds=25))
    ours = await connected(streams)
    child = spawn_odd(ODD_LOOP=loop, STREAMS_LEASE="1")
    await wait_until(lambda: odd_log.numbers("end") == [1])
    (line,) = await wait_until(lambda: odd_log.lines("outliving"))
    try:
        assert await connected(streams) > ours
        child.kill()
        await wait_until(lambda: gone(streams, ours), 5, "connections of the dead parent are left")
        await streams.publish(Odd(n=2))
        other = spawn_odd(ODD_LOOP=loop)
        await wait_until(lambda: odd_log.numbers("end") == [1, 2], 20, other.output)
    finally:
        os.kill(line["pid"], signal.SIGKILL)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("act", ["stop_loop", "exit_loop", "cancel_all"])
async def test_a_consumer_that_nothing_has_asked_to_end_ends_with_an_error(
    streams: Streams, spawn_odd: SpawnOdd, odd_log: ProbeLog, act: str, loop: str
) -> None:
    """A handler has ended its event loop: with 0 a service manager would take that for the end of its work."""
    child = spawn_odd(ODD_LOOP=loop)
    await streams.publish(Odd(n=1, act=act))
    assert child.wait() == 1
    assert "runner.crashed" in child.stderr() or "consumer.crashed" in child.stderr()


async def connected(streams: Streams) -> int:
    """How many connections Redis has."""
    return len(await streams.redis.client_list())


async def gone(streams: Streams, ours: int) -> bool:
    """Whether only the test's own connections are left."""
    return await connected(streams) <= ours
