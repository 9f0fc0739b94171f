"""Handlers that hold the interpreter: their process ends, says where they were, and everything else is handled."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from streams import Streams
from tests.faults.conftest import ROOT, ProbeLog
from tests.support.child import Spawn
from tests.support.programs.odd_handlers import Odd, OddForLong, OddInThread
from tests.support.waiting import wait_until
from tests.user_code.conftest import SpawnOdd

pytestmark = pytest.mark.newest_redis

HOLDERS = ["backtrack", "power", "sort", "parse", "wait_in_c"]


@pytest.fixture
def streams_env(streams_env: Mapping[str, str]) -> Mapping[str, str]:
    """A shorter lease: each test waits for one."""
    return {**streams_env, "STREAMS_LEASE": "1"}


@pytest.mark.parametrize("act", HOLDERS)
async def test_a_handler_that_holds_the_interpreter_costs_its_process(
    streams: Streams, spawn_odd: SpawnOdd, odd_log: ProbeLog, act: str
) -> None:
    """No Python of it runs, so neither its timeout nor its lease thread can end it: the watcher does, a lease after its
    timeout, and says where it stood. Another handler of the process may take an hour: that is not waited for.
    """
    child = spawn_odd(ODD_TIMEOUT="1", STREAMS_CONCURRENCY="1")
    await wait_until(lambda: "consumer.started" in child.output(), timeout=20)
    await streams.publish(Odd(n=1, act=act))
    await wait_until(lambda: odd_log.numbers("start"))
    began = time.monotonic()
    assert child.wait(20) == -signal.SIGKILL
    assert 1.5 < time.monotonic() - began < 10
    assert "consumer.blocked" in child.stderr()
    assert f"in {act}" in child.stderr()
    assert "canary" not in child.output()


@pytest.mark.parametrize("act", ["backtrack", "wait_in_c"])
async def test_the_first_process_of_a_container_ends_too(
    streams: Streams, streams_env: Mapping[str, str], odd_log: ProbeLog, act: str
) -> None:
    """It takes no SIGKILL from inside its container, where the watcher is."""
    if subprocess.run(["unshare", "--pid", "--fork", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may not make a process namespace")
    environment = {**streams_env, "ODD_LOG": str(odd_log.path), "PYTHONPATH": str(ROOT)}
    environment |= {"ODD_TIMEOUT": "1", "STREAMS_LEASE": "1"}
    command = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    command += [sys.executable, "-m", "tests.support.programs.odd_handlers"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as child:
        try:
            await streams.publish(Odd(n=1, act=act))
            await wait_until(lambda: odd_log.numbers("start"), timeout=20)
            assert odd_log.lines("start")[0]["pid"] == 1
            await wait_until(lambda: child.poll() is not None, timeout=20)
            assert child.stderr is not None
            assert f"in {act}" in child.stderr.read().decode()
        finally:
            child.kill()


async def test_one_in_a_thread_costs_its_process_too(streams: Streams, spawn_odd: SpawnOdd, odd_log: ProbeLog) -> None:
    """A plain `def` has a thread, and holds the interpreter from there as well."""
    child = spawn_odd(ODD_TIMEOUT="1")
    await streams.publish(OddInThread(n=1, act="backtrack"))
    assert child.wait(20) == -signal.SIGKILL
    assert "in backtrack" in child.stderr()


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_its_event_becomes_a_dead_letter_and_the_others_are_handled(
    streams: Streams, spawn_odd: SpawnOdd, odd_log: ProbeLog
) -> None:
    """Two consumers that are started again when they end, one such event, five good ones: all of these are handled,
    and after five processes the event is a dead letter. Then a signal drains both.
    """
    await streams.publish_many([Odd(n=0, act="backtrack"), *(Odd(n=n) for n in range(1, 6))])
    settings = {"ODD_TIMEOUT": "2", "STREAMS_LEASE": "2"}
    running = [spawn_odd(**settings) for _ in range(2)]
    ended = 0
    while not await streams.redis.xlen(streams.keys.dead("odd")):
        for place, child in enumerate(running):
            if not child.running:
                assert child.returncode == -signal.SIGKILL, child.output()
                ended += 1
                running[place] = spawn_odd(**settings)
        assert ended <= 6
        await asyncio.sleep(0.1)
    await wait_until(lambda: set(odd_log.numbers("end")) == {1, 2, 3, 4, 5})
    ((_, letter),) = await streams.redis.xrange(streams.keys.dead("odd"))
    assert letter[b"reason"] == b"crashed"
    holding = {line["pid"] for line in odd_log.lines("start") if line["n"] == 0}
    for child in running:
        await wait_until(lambda child=child: "consumer.started" in child.output(), timeout=20)
        child.terminate()
        assert child.wait() == (-signal.SIGKILL if child.pid in holding else 0)
    assert not {child.pid for child in running} <= holding


async def test_a_stopped_process_is_not_taken_for_one_that_holds(
    streams: Streams, spawn_odd: SpawnOdd, odd_log: ProbeLog
) -> None:
    """SIGSTOP in the middle of a handler, for longer than it may take and a few leases: it goes on after SIGCONT."""
    child = spawn_odd(ODD_TIMEOUT="1", STREAMS_LEASE="0.5")
    await streams.publish(Odd(n=1, act="spin", seconds=0.5))
    await wait_until(lambda: odd_log.numbers("start"), timeout=20)
    for _ in range(3):
        child.signal(signal.SIGSTOP)
        await asyncio.sleep(2.5)
        child.signal(signal.SIGCONT)
        await asyncio.sleep(0.2)
    await streams.publish(Odd(n=2))
    await wait_until(lambda: 2 in odd_log.numbers("end"))
    child.terminate()
    assert child.wait() == 0
    assert "consumer.blocked" not in child.output()


async def test_a_handler_within_its_time_may_take_longer_than_a_lease(
    streams: Streams, spawn_odd: SpawnOdd, odd_log: ProbeLog
) -> None:
    """In Python, in a thread, and holding the interpreter: each for several leases, and less than it may."""
    child = spawn_odd(ODD_TIMEOUT="20", STREAMS_LEASE="0.5")
    await streams.publish(Odd(n=1, act="spin", seconds=2))
    await wait_until(lambda: odd_log.numbers("end") == [1], timeout=20)
    await streams.publish(OddForLong(n=2, act="wait_in_c", seconds=3))
    await wait_until(lambda: odd_log.numbers("end") == [1, 2], timeout=20)
    await streams.publish(OddInThread(n=3, act="wait_in_c", seconds=3))
    await wait_until(lambda: odd_log.numbers("end") == [1, 2, 3], timeout=20)
    child.terminate()
    assert child.wait() == 0
    assert "consumer.blocked" not in child.output()


async def test_a_long_drain_and_a_busy_machine_are_no_reason(
    streams: Streams, spawn_odd: SpawnOdd, odd_log: ProbeLog, spawn: Spawn
) -> None:
    """The consumer shares its processors with four programs that never wait, and takes a while to end."""
    hogs = [spawn("timeit", "-n", "1", "-r", "1", "while True: pass", env={"PYTHONPATH": ""}) for _ in range(4)]
    child = spawn_odd(ODD_TIMEOUT="15", STREAMS_GRACE="15")
    await streams.publish_many([Odd(n=n, act="spin", seconds=0.2) for n in range(5)])
    await wait_until(lambda: len(odd_log.numbers("end")) == 5, timeout=25)
    await streams.publish(OddForLong(n=9, act="sleep", seconds=3))
    await wait_until(lambda: 9 in odd_log.numbers("start"))
    child.terminate()
    assert child.wait(25) == 0
    assert all(hog.running for hog in hogs)
    assert 9 in odd_log.numbers("end")


async def test_the_watcher_ends_with_its_process(streams: Streams, spawn_odd: SpawnOdd, odd_log: ProbeLog) -> None:
    """Drained or killed: nothing of it is left."""
    for end in (signal.SIGTERM, signal.SIGKILL):
        child = spawn_odd()
        await wait_until(lambda child=child: "consumer.started" in child.output(), timeout=20)
        (watcher,) = children_of(child.pid)
        child.signal(end)
        child.wait()
        await wait_until(lambda watcher=watcher: not Path(f"/proc/{watcher}").exists() or is_zombie(watcher))


async def test_a_watcher_that_is_killed_is_missed(streams: Streams, spawn_odd: SpawnOdd, odd_log: ProbeLog) -> None:
    """A line says so, and nothing else happens."""
    child = spawn_odd()
    await wait_until(lambda: "consumer.started" in child.output(), timeout=20)
    (watcher,) = children_of(child.pid)
    os.kill(watcher, signal.SIGKILL)
    await wait_until(lambda: "watchdog.ended" in child.stderr())
    await streams.publish(Odd(n=1))
    await wait_until(lambda: odd_log.numbers("end") == [1])
    child.terminate()
    assert child.wait() == 0
    assert child.stderr().count("watchdog.ended") == 1


def children_of(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_zombie(pid: int) -> bool:
    """Whether it has ended, and its new parent has not looked."""
    return b") Z " in Path(f"/proc/{pid}/stat").read_bytes()
