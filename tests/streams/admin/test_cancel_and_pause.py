"""Calling events off, and pausing groups, while they wait, run, or are between two tries."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from time import monotonic
from typing import Any

import pytest

from streams import Backoff, Cancellation, Consumer, CurrentDelivery, Delivery, NotFound, Processor, Settings, Streams
from tests.conftest import RedisFactory
from tests.streams.conftest import StartConsumer
from tests.streams.consuming.test_consumer import entries, settled
from tests.support.events import Noted
from tests.support.waiting import wait_until


async def state(streams: Streams, id: str, group: str = "probe") -> str:
    """The event's state in a group."""
    trail = await streams.event(id)
    return next((found.state for found in trail.groups if found.group == group), "")


def probe_that_waits(gate: asyncio.Event, seen: list[str]) -> Processor:
    """A processor whose handler waits for the gate and notes how it ended."""
    probe = Processor("probe", retry=Backoff(attempts=3, first=60))

    @probe.on(Noted)
    async def wait(event: Noted) -> None:
        seen.append(f"start {event.n}")
        try:
            await gate.wait()
        except asyncio.CancelledError:
            seen.append(f"cancelled {event.n}")
            raise
        if event.text == "fail":
            raise RuntimeError("again later")
        seen.append(f"end {event.n}")

    return probe


async def test_a_delayed_event_is_called_off(streams: Streams, start: StartConsumer) -> None:
    """It leaves the due set at once; its history says by whom; a second call-off finds nothing to do."""
    await start(probe_that_waits(asyncio.Event(), []))
    receipt = await streams.publish(Noted(n=1), delay=3600)
    assert (await streams.cancel(receipt.id)).groups == {"probe": "cancelled"}
    assert await streams.redis.zcard(streams.keys.due()) == 0
    assert await streams.redis.hlen(streams.keys.waiting()) == 0
    (line,) = await entries(streams.redis, streams.keys.history("probe"))
    assert (line["id"], line["outcome"]) == (receipt.id, "cancelled")
    assert line["consumer"]


async def test_an_unread_event_is_called_off_for_every_group(streams: Streams, start: StartConsumer) -> None:
    """Nobody has it: it leaves the stream, and no group is given it."""
    gate, seen = asyncio.Event(), list[str]()
    gate.set()
    consumer = await start(probe_that_waits(gate, seen))
    await streams.pause("probe")
    await wait_until(lambda: consumer._pool.paused)
    await consumer.stop()
    receipt = await streams.publish(Noted(n=1))
    await streams.publish(Noted(n=2))
    assert (await streams.cancel(receipt.id)).groups == {"probe": "cancelled"}
    await streams.resume("probe")
    await start(probe_that_waits(gate, seen))
    await wait_until(lambda: "end 2" in seen)
    await wait_until(lambda: settled(streams))
    assert "start 1" not in seen
    with pytest.raises(NotFound):
        await streams.cancel("01a20c50-ac10-7e68-ad90-06e7bb86ee16")


async def test_a_running_handler_gets_cancelled_error(streams: Streams, start: StartConsumer) -> None:
    """Its delivery ends as cancelled, and what waited behind it goes on."""
    gate, seen = asyncio.Event(), list[str]()
    await start(probe_that_waits(gate, seen), concurrency=1)
    receipt = await streams.publish(Noted(n=1))
    await wait_until(lambda: seen == ["start 1"])
    assert (await streams.cancel(receipt.id)).groups == {"probe": "running"}
    await wait_until(lambda: "cancelled 1" in seen)
    await wait_until(lambda: settled(streams))
    assert await state(streams, receipt.id) == "cancelled"
    gate.set()
    await streams.publish(Noted(n=2))
    await wait_until(lambda: "end 2" in seen)
    assert await streams.redis.xlen(streams.keys.dead("probe")) == 0


async def test_a_message_that_was_read_and_not_begun_is_not_begun(streams: Streams, start: StartConsumer) -> None:
    """It waits in a consumer's hands behind another: it ends as cancelled without its handler being called."""
    gate, seen = asyncio.Event(), list[str]()
    probe = probe_that_waits(gate, seen)
    consumer = await start(probe, concurrency=1)
    receipts = await streams.publish_many([Noted(n=1), Noted(n=2), Noted(n=3)])
    await wait_until(lambda: seen == ["start 1"])
    reader = consumer._parts[0].readers[streams.keys.stream("notes")]
    reader._most = reader._least = 10  # let it read ahead
    reader._target = 10
    reader._room.set()
    await wait_until(lambda: len(consumer._parts[0].leases.held) == 3)
    assert (await streams.cancel(receipts[1].id)).groups == {"probe": "running"}
    await wait_until(lambda: len(consumer._parts[0].leases.held) == 2)
    gate.set()
    await wait_until(lambda: settled(streams))
    assert "start 2" not in seen
    assert await state(streams, receipts[1].id) == "cancelled"


async def test_a_retry_that_waits_is_called_off(streams: Streams, start: StartConsumer) -> None:
    """Between two tries it is in the due set; the other group's success stands."""
    gate, seen = asyncio.Event(), list[str]()
    gate.set()
    await start(probe_that_waits(gate, seen))
    healthy = Processor("healthy")

    @healthy.on(Noted)
    async def fine(event: Noted) -> None: ...

    await start(healthy)
    receipt = await streams.publish(Noted(n=1, text="fail"))
    await wait_until(lambda: streams.redis.zcard(streams.keys.due()))
    await wait_until(lambda: _acked(streams, receipt.id))
    assert (await streams.cancel(receipt.id)).groups == {"healthy": "acked", "probe": "cancelled"}
    assert await streams.redis.zcard(streams.keys.due()) == 0
    assert await state(streams, receipt.id) == "cancelled"
    assert (await streams.cancel(receipt.id)).groups == {"healthy": "acked", "probe": "cancelled"}


@pytest.mark.parametrize("back", [False, True], ids=["waiting", "back in the inbox"])
async def test_a_retry_is_called_off_whose_stream_was_trimmed(
    streams: Streams, start: StartConsumer, back: bool
) -> None:
    """The message is where it waits; that its first entry is gone is no reason to let it be tried again."""
    gate, seen = asyncio.Event(), list[str]()
    gate.set()
    consumer = await start(probe_that_waits(gate, seen))
    receipt = await streams.publish(Noted(n=1, text="fail"))
    await wait_until(lambda: streams.redis.zcard(streams.keys.due()))
    await wait_until(lambda: any(part._mover._head for part in consumer._parts))  # it knows when that is due
    await streams.trim("notes", keep=0)
    assert await streams.redis.xlen(streams.keys.stream("notes")) == 0
    if back:
        await streams.pause("probe")
        (waiting,) = await streams.redis.zrange(streams.keys.due(), 0, -1)
        await streams.redis.zadd(streams.keys.due(), {waiting: 1})
        await wait_until(lambda: streams.redis.xlen(streams.keys.inbox("probe")))
    assert (await streams.cancel(receipt.id)).groups["probe"] in ("cancelled", "running")
    await streams.resume("probe")
    await wait_until(lambda: settled(streams))
    assert seen == ["start 1"]
    assert (await streams.cancel(receipt.id)).groups == {"probe": "cancelled"}
    assert await state(streams, receipt.id) == "cancelled"


async def _acked(streams: Streams, id: str) -> bool:
    return await state(streams, id, "healthy") == "acked"


async def test_a_call_off_outlives_its_consumer(streams: Streams, start: StartConsumer) -> None:
    """The consumer dies before it hears: whoever takes the message over does not run it."""
    gate, seen = asyncio.Event(), list[str]()
    key = streams.keys.stream("notes")
    await start(probe_that_waits(gate, []), lease=0.4)
    await streams.redis.xgroup_createconsumer(key, "probe", "dead")
    await streams.pause("probe")
    receipt = await streams.publish(Noted(n=1))

    async def deliver_to_dead() -> bool:
        reply = await streams.redis.xreadgroup("probe", "dead", {key: ">"}, count=1)
        pending = await streams.redis.xpending(key, "probe")
        return bool(reply) or bool(pending["pending"])

    await wait_until(deliver_to_dead)
    assert (await streams.cancel(receipt.id)).groups == {"probe": "running"}
    await streams.resume("probe")
    await start(probe_that_waits(gate, seen), lease=0.4)
    await wait_until(lambda: settled(streams))
    assert seen == []
    assert await state(streams, receipt.id) == "cancelled"


@pytest.mark.timeout(120)
async def test_every_cancel_race_ends_in_exactly_one_way(streams: Streams, start: StartConsumer) -> None:
    """1,000 events called off at random moments of their lives: each handler's effect agrees with the history. How long
    it takes is drawn from up to twice what calling off takes here, or one of the two would always be first.
    """
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    effects: Counter[str] = Counter()
    probe = Processor("probe", concurrency=20)

    @probe.on(Noted)
    async def act(event: Noted, delivery: Delivery = CurrentDelivery()) -> None:
        await asyncio.sleep(event.n / 100_000)
        effects[delivery.message.id] += 1

    await start(probe)
    ids: list[str] = []
    most = 0  # of what a handler may take, in 10 us

    async def one() -> None:
        takes = chance.randrange(most + 1)
        receipt = await streams.publish(Noted(n=takes), delay=chance.choice([None, 0.001, 0.01]))
        ids.append(receipt.id)
        await asyncio.sleep(chance.random() * 0.01)
        await streams.cancel(receipt.id)

    for _ in range(50):
        began = monotonic()
        await asyncio.gather(*(one() for _ in range(20)))
        most = round((monotonic() - began) * 2 * 100_000)
    await wait_until(lambda: settled(streams), timeout=30)
    history = await entries(streams.redis, streams.keys.history("probe"))
    cancelled = Counter(line["id"] for line in history if line["outcome"] == "cancelled")
    for id_ in ids:
        assert (effects[id_], cancelled[id_]) in ((1, 0), (0, 1)), (id_, effects[id_], cancelled[id_])
    states = {"acked": sum(effects.values()), "cancelled": sum(cancelled.values())}
    for id_ in chance.sample(ids, 100):
        assert await state(streams, id_) in (("acked",) if effects[id_] else ("cancelled", "")), id_
    print(dict(states))
    assert len(ids) == 1000
    assert min(states.values()) > 10, "a race has two ends that happen"


async def test_a_paused_group_finishes_what_runs_and_begins_nothing(streams: Streams, start: StartConsumer) -> None:
    """It goes on where it stopped; a consumer that starts meanwhile is paused too; other groups are not."""
    gate, seen = asyncio.Event(), list[str]()
    await start(probe_that_waits(gate, seen), concurrency=1)
    others: list[int] = []
    other = Processor("other")

    @other.on(Noted)
    async def note(event: Noted) -> None:
        others.append(event.n)

    await start(other)
    await streams.publish(Noted(n=1))
    await wait_until(lambda: seen == ["start 1"])
    assert await streams.pause("probe")
    assert not await streams.pause("probe")
    late = await start(probe_that_waits(gate, seen))
    assert late._pool.paused
    gate.set()
    await streams.publish_many(Noted(n=n) for n in range(2, 12))
    await wait_until(lambda: len(others) == 11)
    await wait_until(lambda: "end 1" in seen)
    assert seen == ["start 1", "end 1"]
    assert await streams.resume("probe")
    await wait_until(lambda: len(seen) == 22)
    with pytest.raises(NotFound, match="no group nobody"):
        await streams.pause("nobody")


def paused(consumer: Consumer) -> bool:
    """Whether a consumer begins nothing."""
    return consumer._pool.paused


async def test_another_database_steers_nothing_here(redis_factory: RedisFactory, app: str) -> None:
    """A channel is the same for all databases of a server: what the operator of one says, with the same prefix and the
    same group, changes nothing in the other; nor do words without a meaning.
    """
    server = redis_factory()
    staging = server.url.replace("/0", "/1")
    gate, seen, elsewhere = asyncio.Event(), list[str](), list[str]()
    settings = Settings(redis_url=server.url, app=app, block=0.2, lease=1.0, grace=1.0)
    other = Settings(redis_url=staging, app=app, block=0.2, lease=1.0, grace=1.0)
    here = Consumer(probe_that_waits(gate, seen), Streams(settings=settings))
    there = Consumer(probe_that_waits(gate, elsewhere), Streams(settings=other))
    for consumer in (here, there):
        await consumer.start()
    async with Streams(settings=settings) as prod, Streams(settings=other) as stage:
        await stage.publish(Noted(n=1))
        receipt = await prod.publish(Noted(n=1))
        await wait_until(lambda: seen and elsewhere)
        await stage.pause("probe")
        await wait_until(lambda: paused(there))
        assert not paused(here)
        await prod.pause("probe")
        await wait_until(lambda: paused(here))
        await stage.resume("probe")
        await wait_until(lambda: not paused(there))
        assert paused(here)
        channel = prod.keys.control("probe")
        for words in (
            b"cancel",
            b"cancel \xff x",
            b"cancel a b c",
            b"pause\xff",
            b"\xff",
            b"",
            b"resume now",
            b"report",
        ):
            await stage.redis.publish(channel, words)
        found: Any = await prod.redis.xrange(prod.keys.stream("notes"))
        ((entry, _),) = found
        source = prod.keys.stream("notes").encode()
        await stage.redis.publish(channel, b"cancel " + source + b" " + entry)
        await prod.cancel(receipt.id)  # what is written here is done here, behind all of that
        await wait_until(lambda: "cancelled 1" in seen)
        assert elsewhere == ["start 1"]
        assert paused(here)
        await prod.resume("probe")
        await wait_until(lambda: not paused(here))
    gate.set()
    for consumer in (here, there):
        await consumer.stop()
        assert consumer.crash_reason is None
    server.cli("FLUSHALL")


@pytest.mark.parametrize("delay", [None, 3600])
async def test_an_event_that_no_group_reads_is_cancelled_and_says_so(streams: Streams, delay: int | None) -> None:
    """It is gone before its first group comes, and its trail says by whom; a second time changes nothing."""
    receipt = await streams.publish(Noted(n=1), delay=delay)
    assert await streams.cancel(receipt.id) == Cancellation(receipt.id, {})
    assert await streams.redis.xlen(streams.keys.stream("notes")) == 0
    trail = await streams.event(receipt.id)
    assert trail.cancelled is not None
    assert (trail.cancelled["type"], trail.cancelled["stream"]) == ("Noted", "notes")
    assert trail.as_json()["type"] == "Noted"
    (reason,) = await streams.why(receipt.id)
    assert (reason.group, reason.state) == ("", "cancelled")
    assert trail.cancelled["consumer"] in reason.why
    assert await streams.cancel(receipt.id) == Cancellation(receipt.id, {}, before=True)
    assert [step async for step in streams.progress(receipt.id)] == []


async def test_a_cancelled_delay_is_known_when_every_history_is_trimmed(streams: Streams, start: StartConsumer) -> None:
    """Each group has a line of it; beyond those lines the record of the cancellation stays."""
    await start(probe_that_waits(asyncio.Event(), []))
    receipt = await streams.publish(Noted(n=1), delay=3600)
    assert (await streams.cancel(receipt.id)).groups == {"probe": "cancelled"}
    assert await state(streams, receipt.id) == "cancelled"
    partition = streams.partitions[receipt.partition]
    await partition.redis.delete(partition.keys.history("probe"))
    assert (await streams.event(receipt.id)).cancelled is not None
    assert (await streams.why(receipt.id))[0].state == "cancelled"


async def test_cancellations_are_bounded(streams: Streams) -> None:
    """Ten thousand and a few more are kept, whatever is cancelled."""
    client, keys = streams.redis, streams.keys
    pipe = client.pipeline(transaction=False)
    for _ in range(10_500):
        pipe.xadd(keys.cancellations(), {"id": "x", "outcome": "cancelled"})
    await pipe.execute()
    receipt = await streams.publish(Noted(n=1), delay=3600)
    partition = streams.partitions[receipt.partition]
    await streams.cancel(receipt.id)
    assert await partition.redis.xlen(partition.keys.cancellations()) <= 10_100
    assert (await streams.event(receipt.id)).cancelled is not None
