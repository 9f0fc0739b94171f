"""Whole processes that crash, are stopped, are drained: nothing lost, nothing settled by who lost it."""

from __future__ import annotations

import signal
import time
from typing import Any

import orjson
import pytest
from pydantic import SecretStr

from streams import Streams
from streams.consuming.membership import new_consumer_name
from tests.conftest import RedisFactory
from tests.faults.conftest import ProbeLog, SpawnProbe
from tests.support.child import Child
from tests.support.programs.probe import Probed
from tests.support.waiting import wait_until


async def pending(streams: Streams) -> int:
    """What is delivered and not settled, over all streams of the group."""
    total = 0
    for key in (*streams.keys.by_priority("probes"), streams.keys.inbox("probe")):
        if await streams.redis.exists(key):
            total += sum(info["pending"] for info in await streams.redis.xinfo_groups(key))
    return total


async def done(streams: Streams) -> bool:
    """Whether the group has nothing left to read, to settle or to wait for."""
    for key in (*streams.keys.by_priority("probes"), streams.keys.inbox("probe")):
        if await streams.redis.exists(key):
            for info in await streams.redis.xinfo_groups(key):
                if info["pending"] or info["lag"]:
                    return False
    return not await streams.redis.zcard(streams.keys.due())


KILLERS = ["exit", *(pytest.param(act, marks=[pytest.mark.slow, pytest.mark.newest_redis]) for act in ("segv", "kill"))]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("act", KILLERS)
async def test_a_message_that_kills_its_process_is_dead_lettered(
    streams: Streams, spawn_probe: SpawnProbe, probe_log: ProbeLog, act: str
) -> None:
    """`os._exit` in the handler (a broken pointer, the kernel for want of memory), five deliveries configured: it runs
    exactly five times, is a dead letter, and the 500 good events beside it are all handled.
    """
    crashes = await die_of(streams, spawn_probe, probe_log, [act])
    assert crashes == 5
    assert probe_log.numbers("start").count(-1) == 5
    ((_, letter),) = await streams.redis.xrange(streams.keys.dead("probe"))
    assert letter[b"reason"] == b"crashed"
    assert letter[b"deliveries"] == b"5"
    assert letter[b"attempts"] == b"0"


@pytest.mark.slow
@pytest.mark.newest_redis
@pytest.mark.timeout(300)
async def test_five_messages_that_kill_their_process_take_no_other_along(
    streams: Streams, spawn_probe: SpawnProbe, probe_log: ProbeLog
) -> None:
    """Whatever was beside them when they died is handled; they alone are dead letters."""
    crashes = await die_of(streams, spawn_probe, probe_log, ["exit", "segv", "kill", "exit", "segv"])
    letters = [letter async for letter in streams.dead_letters("probe").ls()]
    assert sorted(orjson.loads(letter.message.data)["n"] for letter in letters) == [-5, -4, -3, -2, -1]
    assert {letter.reason for letter in letters} == {"crashed"}
    print(f"5 that kill among 500: {crashes} processes died, 5 dead letters, 500 handled")
    assert crashes <= 25


async def die_of(streams: Streams, spawn_probe: SpawnProbe, probe_log: ProbeLog, acts: list[Any]) -> int:
    """One process after the other, among 500 good events, until all that kill are dead letters; returns how many."""
    await streams.publish_many([Probed(n=n) for n in range(250)])
    await streams.publish_many([Probed(n=-n, act=act) for n, act in enumerate(acts, 1)])
    await streams.publish_many([Probed(n=n) for n in range(250, 500)])

    async def all_dead() -> bool:
        return bool(await streams.redis.xlen(streams.keys.dead("probe")) == len(acts))

    crashes = 0
    child = spawn_probe(STREAMS_LEASE="0.5", STREAMS_DELIVERIES="5")
    while not await all_dead():
        if not child.running:
            crashes += 1
            assert crashes <= 5 * len(acts)
            child = spawn_probe(STREAMS_LEASE="0.5", STREAMS_DELIVERIES="5")

        async def over(child: Child = child) -> bool:
            return not child.running or await all_dead()

        await wait_until(over, timeout=30)
    await wait_until(lambda: done(streams), timeout=15)
    assert set(probe_log.numbers("end")) == set(range(500))
    return crashes


def test_no_consumer_has_the_name_of_another() -> None:
    """A process that is started again, in the same container with the same pid, is not taken for the one that died."""
    names = {new_consumer_name() for _ in range(1_000)}
    assert len(names) == 1_000


async def owners(streams: Streams) -> dict[str, int]:
    """Who holds how many pending entries of the probes stream."""
    summary = await streams.redis.xpending(streams.keys.stream("probes"), "probe")
    return {consumer["name"].decode(): consumer["pending"] for consumer in summary["consumers"]}


async def test_a_stopped_consumer_settles_nothing_it_lost(
    streams: Streams, spawn_probe: SpawnProbe, probe_log: ProbeLog
) -> None:
    """SIGSTOP for three leases, then SIGCONT while the successor still works: the zombie notices, takes nothing back
    and settles nothing, 20 of 20 times; the successor then settles all.
    """
    zombie = spawn_probe(STREAMS_LEASE="0.4", STREAMS_CONCURRENCY="20")
    await streams.publish_many([Probed(n=n, act="sleep", seconds=5) for n in range(20)])
    await wait_until(lambda: len(probe_log.numbers("start")) == 20)
    zombie.signal(signal.SIGSTOP)
    stopped_at = time.monotonic()
    successor = spawn_probe(STREAMS_LEASE="0.4", STREAMS_CONCURRENCY="20")
    await wait_until(lambda: len(probe_log.numbers("start")) == 40)
    await wait_until(lambda: time.monotonic() - stopped_at > 3 * 0.4)
    zombie.signal(signal.SIGCONT)
    held: list[dict[str, int]] = []

    async def noticed() -> bool:
        held.append(
            await owners(streams)
        )  # at every look: what it took back would be the successor's again in a moment
        return "lease_lost" in zombie.stderr() or "fenced" in zombie.stderr()

    await wait_until(noticed)
    assert all(list(each.values()) == [20] and str(successor.pid) in next(iter(each)) for each in held), held
    zombie.terminate()
    assert zombie.wait() == 0
    assert list((await owners(streams)).values()) == [20], "the zombie settled or handed back what it did not own"
    await wait_until(lambda: done(streams))
    assert [line["pid"] for line in probe_log.lines("end")].count(successor.pid) == 20
    assert await streams.redis.xlen(streams.keys.inbox("probe")) == 0


async def test_sigterm_under_load_loses_nothing_and_repeats_nothing(
    streams: Streams, spawn_probe: SpawnProbe, probe_log: ProbeLog
) -> None:
    """The stopped consumer finishes what runs and hands the rest back; the other goes on within a second."""
    first, second = (spawn_probe(STREAMS_CONCURRENCY="5", STREAMS_LEASE="10", STREAMS_PREFETCH="100") for _ in range(2))
    await wait_until(lambda: all("consumer.started" in child.stderr() for child in (first, second)), timeout=20)
    await streams.publish_many([Probed(n=n, act="sleep", seconds=0.05) for n in range(400)])
    await wait_until(lambda: {line["pid"] for line in probe_log.lines("end")} == {first.pid, second.pid})
    await wait_until(lambda: len(probe_log.numbers("end")) > 50)
    first.terminate()
    assert first.wait(timeout=10) == 0
    exited = probe_log.lines("end")[-1]["at"]
    await wait_until(lambda: len(set(probe_log.numbers("end"))) == 400, timeout=20)
    await wait_until(lambda: done(streams))
    assert sorted(probe_log.numbers("start")) == list(range(400)), "an event was handled twice or never"
    gaps = [line["at"] for line in probe_log.lines("start") if line["at"] > exited]
    assert gaps[0] - exited < 1
    assert "handed_back" in first.stdout() + first.stderr()


@pytest.mark.newest_redis
async def test_a_second_signal_ends_at_once(streams: Streams, spawn_probe: SpawnProbe, probe_log: ProbeLog) -> None:
    """The operator who insists is obeyed: exit code 130, and the lease hands the work over."""
    child = spawn_probe(STREAMS_GRACE="20")
    await streams.publish(Probed(n=1, act="sleep", seconds=20))
    await wait_until(lambda: probe_log.numbers("start"))
    child.terminate()
    await wait_until(lambda: child.running)
    child.signal(signal.SIGINT)
    child.signal(signal.SIGTERM)
    assert child.wait(timeout=5) == 130
    assert await pending(streams) == 1


@pytest.mark.newest_redis
async def test_a_blocked_event_loop_does_not_lose_its_lease(
    streams: Streams, spawn_probe: SpawnProbe, probe_log: ProbeLog
) -> None:
    """A handler that blocks the loop for four leases is run once: the lease thread renews beside it."""
    spawn_probe(STREAMS_LEASE="0.4")
    await streams.publish(Probed(n=1, act="block", seconds=1.6))
    await wait_until(lambda: probe_log.numbers("start"))
    spawn_probe(STREAMS_LEASE="0.4")
    await wait_until(lambda: probe_log.numbers("end") == [1])
    await wait_until(lambda: done(streams))
    assert probe_log.numbers("start") == [1]


@pytest.mark.newest_redis
async def test_a_handler_that_blocks_for_ever_costs_its_process_and_nothing_else(
    streams: Streams, spawn_probe: SpawnProbe, probe_log: ProbeLog
) -> None:
    """The event loop runs no more, so no timeout can end the handler: the process ends itself a lease after that, and
    says where it stood. What waited behind it is handled elsewhere.
    """
    env = {"STREAMS_LEASE": "0.4", "PROBE_TIMEOUT": "0.5"}
    await streams.publish_many([Probed(n=1, act="block_once", seconds=60), *(Probed(n=n) for n in range(2, 7))])
    blocked = spawn_probe(STREAMS_CONCURRENCY="10", **env)
    assert blocked.wait() == 1
    assert probe_log.numbers("start") == [1]
    assert "a handler blocks the event loop" in blocked.stderr()
    assert "consumer.blocked" in blocked.output()
    assert "probe.py" in blocked.output()
    spawn_probe(**env)
    await wait_until(lambda: sorted(probe_log.numbers("end")) == [1, 2, 3, 4, 5, 6])
    await wait_until(lambda: done(streams))
    assert {line["deliveries"] for line in probe_log.lines("end") if line["n"] == 1} == {2}


@pytest.mark.newest_redis
async def test_a_stopped_process_is_not_taken_for_a_blocked_one(
    streams: Streams, spawn_probe: SpawnProbe, probe_log: ProbeLog
) -> None:
    """Stopped in the middle of a handler, for many leases and longer than the handler may take: it goes on."""
    stopped = spawn_probe(STREAMS_LEASE="0.4", PROBE_TIMEOUT="0.5")
    await streams.publish(Probed(n=1, act="sleep", seconds=0.4))
    await wait_until(lambda: probe_log.numbers("start"))
    stopped.signal(signal.SIGSTOP)
    began = time.monotonic()
    await wait_until(lambda: time.monotonic() - began > 3)
    stopped.signal(signal.SIGCONT)
    await streams.publish(Probed(n=2))
    await wait_until(lambda: 2 in probe_log.numbers("end"))
    assert stopped.running


async def test_a_killed_consumers_work_is_taken_over_in_time(
    streams: Streams, spawn_probe: SpawnProbe, probe_log: ProbeLog
) -> None:
    """After SIGKILL another consumer has everything within a lease and a quarter, plus a second."""
    victim = spawn_probe(STREAMS_LEASE="1")
    await streams.publish_many([Probed(n=n, act="sleep", seconds=20) for n in range(10)])
    await wait_until(lambda: len(probe_log.numbers("start")) == 10)
    spawn_probe(STREAMS_LEASE="1")
    await wait_until(lambda: streams.redis.zrange(streams.keys.consumers("probe"), 1, 1))
    victim.kill()
    await wait_until(lambda: len(probe_log.numbers("start")) == 20, timeout=1 * 1.25 + 1)
    assert {line["deliveries"] for line in probe_log.lines("start")[10:]} == {2}


@pytest.mark.newest_redis
async def test_an_unsafe_redis_ends_the_process_with_78(
    streams: Streams, spawn_probe: SpawnProbe, redis_factory: RedisFactory
) -> None:
    """Restarting cannot help: one line says what to set."""
    server = redis_factory(args=["--maxmemory-policy", "allkeys-lru"])
    child = spawn_probe(REDIS_URL=server.url)
    assert child.wait() == 78
    (line,) = child.stderr().splitlines()
    assert line.startswith("error: Redis at ")
    assert "noeviction" in line


@pytest.mark.newest_redis
async def test_a_redis_that_is_away_is_waited_for_and_sigterm_is_obeyed(
    streams: Streams, spawn_probe: SpawnProbe, probe_log: ProbeLog, redis_factory: RedisFactory
) -> None:
    """No Redis at start: it waits, a line per step; SIGTERM ends it; another one comes up when Redis does."""
    server = redis_factory()
    server.kill()
    stopped, patient = spawn_probe(REDIS_URL=server.url), spawn_probe(REDIS_URL=server.url)
    await wait_until(lambda: stopped.stderr().count("redis.away") >= 5)
    assert stopped.stderr().count("redis.away") < 20
    stopped.terminate()
    assert stopped.wait(timeout=3) == 0
    server.start()
    async with Streams(settings=streams.settings.model_copy(update={"redis_url": SecretStr(server.url)})) as client:
        await client.publish(Probed(n=1))
    await wait_until(lambda: probe_log.numbers("end") == [1])
    patient.terminate()
    assert patient.wait() == 0


@pytest.mark.newest_redis
async def test_sigterm_ends_an_idle_consumer_every_time(streams: Streams, spawn_probe: SpawnProbe) -> None:
    """Six of them, stopped at odd moments while Redis comes and goes: each ends by itself, soon, with 0."""
    children = [spawn_probe(STREAMS_LEASE="0.4") for _ in range(6)]
    await wait_until(lambda: all("consumer.started" in child.stderr() for child in children), timeout=20)
    for child in children:
        await streams.redis.client_kill_filter(_type="normal", skipme=True)
        child.terminate()
    for child in children:
        assert child.wait(timeout=10) == 0
