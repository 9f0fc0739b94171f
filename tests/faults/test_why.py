"""Why, of events whose process was killed, stopped, or is blocked: real processes, real signals."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator

import pytest

from streams import Streams
from streams.inspecting.states import Reason
from tests.faults.conftest import ProbeLog, SpawnProbe
from tests.support.programs.probe import Probed
from tests.support.waiting import wait_until

pytestmark = pytest.mark.newest_redis

COVERED = {"silent", "unresponsive", "overdue", "dead"}
"""The states that are made here."""


@pytest.fixture
async def quick(streams: Streams) -> AsyncIterator[Streams]:
    """A client that knows the lease of the probes."""
    async with Streams(settings=streams.settings.model_copy(update={"lease": 2.0})) as client:
        yield client


async def publish(streams: Streams, **options: object) -> str:
    """One event for the probe."""
    delay = options.pop("delay", None)
    return (await streams.publish(Probed(n=1, **options), delay=delay)).id  # type: ignore[arg-type]


async def told(streams: Streams, id: str, state: str, *words: str) -> Reason:
    """Waits until why says so."""
    seen: list[Reason] = []

    async def look() -> bool:
        (reason,) = await streams.why(id)
        seen.append(reason)
        return state in (reason.state, reason.cause) and all(word in reason.why for word in words)

    await wait_until(look, 20, lambda: f"{state} {words}, not {seen[-1:]}")
    return seen[-1]


async def begun(log: ProbeLog, count: int = 1) -> None:
    """Waits until so many handlers have begun."""
    await wait_until(lambda: len(log.lines("start")) >= count, 20)


async def test_killed_and_nobody_takes_it_over(quick: Streams, spawn_probe: SpawnProbe, probe_log: ProbeLog) -> None:
    id = await publish(quick, act="sleep", seconds=30)
    child = spawn_probe()
    await begun(probe_log)
    child.kill()
    reason = await told(quick, id, "silent", "which had it", "no other consumer of probe is alive")
    assert reason.remedy == "python -m processors.probe"


async def test_stopped_and_another_will_take_it_over(
    quick: Streams, spawn_probe: SpawnProbe, probe_log: ProbeLog
) -> None:
    id = await publish(quick, act="sleep", seconds=30)
    child = spawn_probe()
    await begun(probe_log)
    child.signal(signal.SIGSTOP)
    try:
        reason = await told(quick, id, "silent", "is silent for", "no other consumer")
        assert reason.group == "probe"
        spawn_probe(STREAMS_LEASE="30")  # it takes over what is silent for 30 s: long enough to be asked meanwhile
        reason = await told(quick, id, "silent", "another takes it over (1 consumer alive)")
        assert "wait" in reason.remedy
    finally:
        child.signal(signal.SIGCONT)


async def test_every_consumer_stopped_while_it_is_unread(quick: Streams, spawn_probe: SpawnProbe) -> None:
    child = spawn_probe()
    await wait_until(lambda: quick.redis.zcard(quick.keys.consumers("probe")), 20)
    child.signal(signal.SIGSTOP)
    try:
        await publish(quick)  # Redis hands it to the read that waits, stopped or not
        id = await publish(quick)
        reason = await told(quick, id, "silent", "every consumer of probe is silent", "stopped")
        assert reason.remedy == "python -m processors.probe"
    finally:
        child.signal(signal.SIGCONT)


@pytest.mark.parametrize("stop", [None, signal.SIGSTOP])
async def test_it_does_not_answer(
    streams: Streams, spawn_probe: SpawnProbe, probe_log: ProbeLog, stop: signal.Signals | None
) -> None:
    """A handler that blocks the event loop, and a process that was stopped a moment ago."""
    child = spawn_probe(STREAMS_LEASE="30")
    held = await publish(streams, act="block" if stop is None else "sleep", seconds=20)
    await begun(probe_log)
    if stop is not None:
        await told(streams, held, "running")  # its answer stays for a minute, and must not be taken for a new one
        child.signal(stop)
    await publish(streams)  # a read that waits is given it
    unread = await publish(streams)
    delayed = await publish(streams, delay=0.01)
    reason = await told(streams, held, "unresponsive", "holds it and does not answer", "blocks its event loop")
    assert "restart it" in reason.remedy
    reason = await told(streams, unread, "unresponsive", "no consumer of probe answers (1 alive")
    assert "look at its handlers" in reason.remedy
    reason = await told(streams, delayed, "overdue", "no consumer has moved it yet")
    assert "streams doctor" in reason.remedy
    child.kill()


async def test_poison(quick: Streams, spawn_probe: SpawnProbe, probe_log: ProbeLog) -> None:
    """An event that kills its process: first the next consumer has it to take over, then it is a dead letter."""
    id = await publish(quick, act="exit")
    for death in (1, 2):
        child = spawn_probe(STREAMS_DELIVERIES="2")
        await begun(probe_log, death)
        assert child.wait() == 9
    await told(quick, id, "silent", "which had it")
    spawn_probe(STREAMS_DELIVERIES="2")
    reason = await told(quick, id, "dead", "its process died 2 times")
    assert reason.remedy.startswith("streams dead show probe ")
