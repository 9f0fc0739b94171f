"""Batch handlers: filled by size or time, bad events singled out, settled together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from streams import (
    Backoff,
    Batch,
    BatchFailed,
    Consumer,
    CurrentBatch,
    CurrentDelivery,
    DeadLetter,
    Delivery,
    Depends,
    Event,
    Middleware,
    Processor,
    Retry,
    Snooze,
    Streams,
    StreamsError,
    Unavailable,
)
from streams.executing.batch_collector import RunningBatch
from streams.inspecting.reconciliation import Accounts
from streams.messages.middleware import DeliverBatch
from streams.messages.outcome import Outcome
from tests.streams.admin.test_cancel_and_pause import state
from tests.streams.conftest import MakeSettings, StartConsumer
from tests.streams.consuming.test_consumer import entries, settled
from tests.support.events import Followed, Noted, Other, Renamed
from tests.support.waiting import wait_until


class Calls:
    """The batches that a handler was called with."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def add(self, events: Sequence[Any]) -> None:
        self.batches.append([event.n for event in events])

    @property
    def numbers(self) -> list[int]:
        return [n for batch in self.batches for n in batch]


def notes(count: int, start: int = 0) -> list[Noted]:
    return [Noted(n=n) for n in range(start, start + count)]


def held(consumer: Consumer) -> set[Delivery]:
    return {delivery for part in consumer._parts for delivery in part.leases.held}


async def two_dead(streams: Streams) -> bool:
    return bool(await streams.redis.xlen(streams.keys.dead("probe")) == 2)


async def nothing_is_lost(streams: Streams, group: str = "probe") -> None:
    """Everything is settled, and the books add up."""
    await wait_until(lambda: settled(streams, group))
    assert not list((await Accounts.take(streams)).gaps())


async def test_a_full_batch_is_handled_at_once_and_the_rest_in_time(streams: Streams, start: StartConsumer) -> None:
    """Two full ones without waiting for an hour; what is left when its time is up; all in the order read."""
    probe, calls = Processor("probe", concurrency=1), Calls()

    @probe.on(Noted, batch=Batch(size=10, within=3600))
    async def take(events: list[Noted]) -> None:
        calls.add(events)

    other = Processor("other", concurrency=1)
    others = Calls()

    @other.on(Noted, batch=Batch(size=10, within=0.2))
    async def take_too(events: list[Noted]) -> None:
        others.add(events)

    hasty, hastily = Processor("hasty", concurrency=1), Calls()

    @hasty.on(Noted, batch=Batch(size=10, within=0))
    async def take_what_is_there(events: list[Noted]) -> None:
        hastily.add(events)

    await streams.publish_many(notes(25))
    for processor in (probe, other, hasty):
        await start(processor)
    await wait_until(lambda: len(calls.batches) == 2)
    assert calls.batches == [list(range(10)), list(range(10, 20))]
    await wait_until(lambda: len(others.numbers) == 25)
    assert others.numbers == list(range(25))
    assert max(map(len, others.batches)) == 10
    await wait_until(lambda: hastily.numbers == list(range(25)))
    await nothing_is_lost(streams, "other")


async def test_a_batch_is_collected_across_lanes_and_inbox(streams: Streams, start: StartConsumer) -> None:
    """Also with what comes back: one call has them all."""
    probe, calls = Processor("probe", retry=Backoff(attempts=3, first=0.01)), Calls()

    @probe.on(Noted, batch=Batch(size=4, within=3600))
    async def take(events: list[Noted], deliveries: Sequence[Delivery] = CurrentBatch()) -> None:
        calls.add(events)
        if len(calls.batches) == 1:
            raise BatchFailed({n: ConnectionResetError("gone") for n in range(2)})
        assert {delivery.attempt for delivery in deliveries} == {1, 2}

    await start(probe)
    await streams.publish_many(notes(2), priority="high")
    await streams.publish_many(notes(2, 2), priority="low")
    await wait_until(lambda: len(calls.batches) == 1)
    assert sorted(calls.numbers) == [0, 1, 2, 3]
    await streams.publish_many(notes(2, 4))
    await wait_until(lambda: len(calls.batches) == 2)
    assert sorted(calls.batches[1]) == sorted([*calls.batches[0][:2], 4, 5])
    await nothing_is_lost(streams)


async def test_each_failure_of_a_batch_is_judged_alone(streams: Streams, start: StartConsumer) -> None:
    """Retry, snooze, dead letter, an error to give up on: each with its own outcome; the others are acked."""
    probe, calls = Processor("probe", retry=Backoff(attempts=2, first=0.01, give_up_on=(TypeError,))), Calls()

    @probe.on(Noted, batch=Batch(size=6, within=0.2))
    async def take(events: list[Noted]) -> None:
        calls.add(events)
        errors: dict[int, Exception] = {
            1: Retry(after=0.01), 2: Snooze(0.01), 3: DeadLetter("no"), 4: TypeError("a bug"), 5: OSError("away"),
        }  # fmt: skip
        wrong = range(1, 6) if len(events) == 6 else [5]
        raise BatchFailed({at: errors[event.n] for at, event in enumerate(events) if event.n in wrong})

    await start(probe)
    await streams.publish_many(notes(6))
    await wait_until(lambda: sorted(calls.numbers) == [0, 1, 1, 2, 2, 3, 4, 5, 5])
    await nothing_is_lost(streams)
    dead = await entries(streams.redis, streams.keys.dead("probe"))
    assert sorted((letter["error"], letter["attempts"]) for letter in dead) == [
        ("DeadLetter: no", "1"), ("OSError: away", "2"), ("TypeError: a bug", "1"),
    ]  # fmt: skip
    history = await entries(streams.redis, streams.keys.history("probe"))
    assert sorted(line["outcome"] for line in history) == [
        "acked", "dead_lettered", "dead_lettered", "dead_lettered", "retried", "retried", "snoozed",
    ]  # fmt: skip


async def test_what_cannot_be_given_to_the_handler_is_not_in_the_list(streams: Streams, start: StartConsumer) -> None:
    """Wrong data, a newer version, too much data: each goes its own way, and the batch goes on without them."""
    probe, calls = Processor("probe"), Calls()

    gate = asyncio.Event()

    @probe.on(Noted, batch=Batch(size=6, within=3600))
    async def take(events: list[Noted]) -> None:
        calls.add(events)
        await gate.wait()

    await start(probe, max_bytes=1024)
    key = streams.keys.stream("notes")
    for data, version in (('{"n": 1}', "1"), ('{"n": "x"}', "1"), ('{"n": 2}', "2"), ('{"n": 3}', "1")):
        await streams.redis.xadd(key, {"type": "Noted", "dataversion": version, "data": data})
    await streams.redis.xadd(key, {"type": "Noted", "data": '{"n": 4, "text": "%s"}' % ("x" * 2000)})
    await streams.redis.xadd(key, {"type": "Noted", "data": '{"n": 5}', "expirytime": "2020-01-01T00:00:00Z"})
    await wait_until(lambda: calls.batches == [[1, 3]])
    await wait_until(lambda: streams.redis.zcard(streams.keys.due()))
    await wait_until(lambda: two_dead(streams))  # while the batch still runs
    gate.set()
    dead = await entries(streams.redis, streams.keys.dead("probe"))
    assert sorted(letter["reason"] for letter in dead) == ["invalid", "too_large"]


async def test_a_batch_that_fails_as_a_whole_is_tried_one_by_one(streams: Streams, start: StartConsumer) -> None:
    """Once, at once, as lists of one; only the bad one fails, by its own policy."""
    probe, calls = Processor("probe", concurrency=2, retry=Backoff(attempts=1)), Calls()

    @probe.on(Noted, batch=Batch(size=5, within=3600))
    async def take(events: list[Noted], deliveries: Sequence[Delivery] = CurrentBatch()) -> None:
        assert [delivery.message.data for delivery in deliveries] == [event.encode() for event in events]
        calls.add(events)
        if any(event.n == 3 for event in events):
            raise RuntimeError("three")

    await start(probe)
    await streams.publish_many(notes(5))
    await nothing_is_lost(streams)
    assert calls.batches[0] == [0, 1, 2, 3, 4]
    assert sorted(calls.batches[1:]) == [[0], [1], [2], [3], [4]]
    (letter,) = await entries(streams.redis, streams.keys.dead("probe"))
    assert (letter["data"], letter["attempts"]) == ('{"n":3,"text":""}', "1")


@pytest.mark.parametrize("signal", [Retry(after=0.01), Snooze(0.01), Unavailable("database")])
async def test_not_now_holds_for_the_whole_batch(signal: Exception, streams: Streams, start: StartConsumer) -> None:
    """A handler that asks to be called later is not called for each event at once."""
    probe, calls = Processor("probe"), Calls()

    @probe.on(Noted, batch=Batch(size=3, within=0.2))
    async def take(events: list[Noted]) -> None:
        calls.add(events)
        if len(calls.batches) == 1:
            raise signal

    await start(probe)
    await streams.publish_many(notes(3))
    await wait_until(lambda: len(calls.numbers) == 6)
    assert calls.batches[0] == [0, 1, 2]
    assert [0] not in calls.batches[1:2]
    await nothing_is_lost(streams)
    assert await streams.redis.xlen(streams.keys.dead("probe")) == 0


async def test_a_batch_that_hangs_is_cut_off_and_singled_out(streams: Streams, start: StartConsumer) -> None:
    """Its timeout is that of one handler; then each event has the same time for itself."""
    probe, calls = Processor("probe", retry=Backoff(attempts=1)), Calls()

    @probe.on(Noted, batch=Batch(size=3, within=3600), timeout=0.3)
    async def take(events: list[Noted]) -> None:
        calls.add(events)
        if any(event.n == 1 for event in events):
            await asyncio.Event().wait()

    await start(probe)
    await streams.publish_many(notes(3))
    await nothing_is_lost(streams)
    assert sorted(calls.batches) == [[0], [0, 1, 2], [1], [2]]
    (letter,) = await entries(streams.redis, streams.keys.dead("probe"))
    assert letter["error"] == "HandlerTimeout: the handler took longer than 0.3 s"


async def test_follow_ups_come_with_the_acks(streams: Streams, start: StartConsumer) -> None:
    """Of the batch: once, caused by its first event. By position: caused by that event. What failed has none."""
    probe, after = Processor("probe", retry=Backoff(attempts=1)), Processor("after")
    seen: dict[int, tuple[str, str]] = {}

    @probe.on(Noted, batch=Batch(size=3, within=3600))
    async def take(events: list[Noted]) -> Any:
        if events[0].n == 0:
            return [Followed(n=10), Followed(n=11)]
        if events[0].n == 3:
            return {1: Followed(n=20), 2: [Followed(n=21)]}
        raise BatchFailed({0: RuntimeError("no")}, follow_ups={0: Followed(n=30), 1: Followed(n=31)})

    @after.on(Followed)
    async def note(event: Followed, delivery: Delivery = CurrentDelivery()) -> None:
        seen[event.n] = (delivery.message.causation_id, delivery.message.correlation_id)

    await start(probe)
    await start(after)
    receipts = await streams.publish_many(notes(9))
    ids = [receipt.id for receipt in receipts]
    await wait_until(lambda: len(seen) == 5)
    await nothing_is_lost(streams)
    assert seen == {
        10: (ids[0], ids[0]), 11: (ids[0], ids[0]), 20: (ids[4], ids[4]), 21: (ids[5], ids[5]), 31: (ids[7], ids[7]),
    }  # fmt: skip
    lines = await entries(streams.redis, streams.keys.stream("notes"))
    assert len(lines) == 14  # nothing twice


async def test_what_follows_from_a_batch_is_caused_by_an_event_that_was_done(
    streams: Streams, start: StartConsumer
) -> None:
    """Not by the first one, which failed."""
    probe = Processor("probe", retry=Backoff(attempts=1))

    @probe.on(Noted, batch=Batch(size=3, within=3600))
    async def take(events: list[Noted]) -> Any:
        raise BatchFailed({0: RuntimeError("no")}, follow_ups=[Other(n=1)])

    await start(probe)
    receipts = await streams.publish_many(notes(3))
    await nothing_is_lost(streams)
    ((_, fields),) = await streams.redis.xrange(streams.keys.stream("others"))
    assert fields[b"causationid"].decode() == receipts[1].id


async def test_a_cancelled_item_ends_in_exactly_one_state(streams: Streams, start: StartConsumer) -> None:
    """Collected: taken out. In a running batch: the batch goes on, and it is acked if done, else cancelled."""
    probe, calls = Processor("probe", concurrency=1, retry=Backoff(attempts=3, first=60)), Calls()
    gate = asyncio.Event()

    @probe.on(Noted, batch=Batch(size=3, within=3600))
    async def take(events: list[Noted]) -> None:
        calls.add(events)
        await gate.wait()
        if events[0].n == 0:
            raise BatchFailed({0: RuntimeError("again later")})

    consumer = await start(probe)
    receipts = await streams.publish_many(notes(5))
    await wait_until(lambda: calls.batches == [[0, 1, 2]])
    await wait_until(lambda: len(held(consumer)) == 5)
    for at in (0, 1, 3):
        assert (await streams.cancel(receipts[at].id)).groups == {"probe": "running"}
    await wait_until(lambda: len(held(consumer)) == 4)
    await streams.publish_many(notes(2, 5))
    (bundle,) = [slot.delivery for slot in consumer._pool._tasks if slot.delivery is not None]
    await wait_until(lambda: isinstance(bundle, RunningBatch) and len(bundle.cancelled) == 2)
    gate.set()
    await wait_until(lambda: settled(streams))
    assert calls.batches[1:] == [[4, 5, 6]]
    states = [await state(streams, receipt.id) for receipt in receipts]
    assert states == ["cancelled", "acked", "acked", "cancelled", "acked"]
    await nothing_is_lost(streams)


async def test_one_called_off_is_not_tried_alone(streams: Streams, start: StartConsumer) -> None:
    """Its batch fails as a whole while it runs: the others are, and it is cancelled."""
    probe, calls = Processor("probe", concurrency=1), Calls()
    gate = asyncio.Event()

    @probe.on(Noted, batch=Batch(size=3, within=3600))
    async def take(events: list[Noted]) -> None:
        calls.add(events)
        await gate.wait()
        if len(events) > 1:
            raise RuntimeError("who was it?")

    consumer = await start(probe)
    receipts = await streams.publish_many(notes(3))
    await wait_until(lambda: calls.batches == [[0, 1, 2]])
    await streams.cancel(receipts[1].id)
    (bundle,) = [slot.delivery for slot in consumer._pool._tasks if slot.delivery is not None]
    await wait_until(lambda: isinstance(bundle, RunningBatch) and bundle.cancelled)
    gate.set()
    await nothing_is_lost(streams)
    assert calls.batches == [[0, 1, 2], [0], [2]]
    assert [await state(streams, receipt.id) for receipt in receipts] == ["acked", "cancelled", "acked"]


async def test_what_has_not_started_is_handed_back(streams: Streams, start: StartConsumer) -> None:
    """At a stop the running batch gets the grace; what is collected goes to another consumer, uncounted."""
    probe, calls = Processor("probe", concurrency=1), Calls()
    gate = asyncio.Event()

    @probe.on(Noted, batch=Batch(size=2, within=0.2))
    async def take(events: list[Noted], deliveries: Sequence[Delivery] = CurrentBatch()) -> None:
        assert {(delivery.attempt, delivery.deliveries) for delivery in deliveries} == {(1, 1)}
        calls.add(events)
        await gate.wait()

    consumer = await start(probe, grace=20)
    await streams.publish_many(notes(5))
    await wait_until(lambda: calls.batches == [[0, 1]])
    await wait_until(lambda: len(held(consumer)) == 5)
    stopping = asyncio.create_task(consumer.stop())
    await wait_until(lambda: streams.redis.xlen(streams.keys.inbox("probe")))
    gate.set()
    await stopping
    assert calls.batches == [[0, 1]]
    await start(probe)
    await wait_until(lambda: sorted(calls.numbers) == [0, 1, 2, 3, 4])
    await nothing_is_lost(streams)


@pytest.mark.parametrize("count", [1, 2])
async def test_a_batch_cut_off_by_the_stop_is_handed_back(streams: Streams, start: StartConsumer, count: int) -> None:
    """After the grace it is cancelled; its events are released and cost nothing."""
    probe, calls = Processor("probe"), Calls()

    @probe.on(Noted, batch=Batch(size=2, within=0.2))
    async def take(events: list[Noted], deliveries: Sequence[Delivery] = CurrentBatch()) -> None:
        assert {(delivery.attempt, delivery.deliveries) for delivery in deliveries} == {(1, 1)}
        calls.add(events)
        if len(calls.batches) == 1:
            await asyncio.Event().wait()

    consumer = await start(probe, grace=0.1)
    await streams.publish_many(notes(count))
    await wait_until(lambda: calls.batches == [list(range(count))])
    with capture_logs() as logs:
        await consumer.stop()
    assert "batch.handled_singly" not in [line["event"] for line in logs], "it has not failed"
    await start(probe)
    await wait_until(lambda: sorted(calls.numbers) == sorted([*range(count)] * 2))
    await nothing_is_lost(streams)


@pytest.mark.parametrize("noticed", [True, False])
async def test_a_lost_lease_costs_the_others_nothing(noticed: bool, streams: Streams, start: StartConsumer) -> None:
    """The batch goes on; the one that somebody else has now is not settled here, and its follow-ups are not lost."""
    probe, calls = Processor("probe"), Calls()
    gate = asyncio.Event()

    @probe.on(Noted, batch=Batch(size=3, within=3600))
    async def take(events: list[Noted]) -> list[Event]:
        calls.add(events)
        await gate.wait()
        return [Followed(n=1)]

    consumer = await start(probe, lease=1.0 if noticed else 60.0)
    await streams.publish_many(notes(3))
    await wait_until(lambda: calls.batches == [[0, 1, 2]])
    key = streams.keys.stream("notes")
    first = (await streams.redis.xrange(key))[0][0]
    await streams.redis.xclaim(key, "probe", "thief", 0, [first])
    await wait_until(lambda: len(held(consumer)) == (2 if noticed else 3))
    gate.set()
    await wait_until(lambda: not held(consumer))
    pending = await streams.redis.xpending_range(key, "probe", "-", "+", 10)
    assert [(entry["message_id"], entry["consumer"]) for entry in pending] == [(first, b"thief")]
    assert [line["type"] for line in await entries(streams.redis, key)] == ["Noted"] * 3 + ["Followed"]


async def test_batches_run_beside_each_other_and_beside_others(streams: Streams, start: StartConsumer) -> None:
    """Each is one of `concurrency`; the next ones are read while they run; single events take turns with them."""
    probe, calls = Processor("probe", concurrency=3), Calls()
    gate, singles = asyncio.Event(), list[int]()

    @probe.on(Noted, batch=Batch(size=100, within=3600))
    async def take(events: list[Noted]) -> None:
        calls.add(events)
        await gate.wait()

    @probe.on(Other)
    async def one(event: Other) -> None:
        singles.append(event.n)

    consumer = await start(probe, prefetch=10)
    await streams.publish_many(notes(200))
    await wait_until(lambda: len(calls.batches) == 2)
    await streams.publish_many(Other(n=n) for n in range(20))
    await wait_until(lambda: len(singles) == 20)
    await streams.publish_many(notes(300, 200))
    await wait_until(lambda: len(calls.batches) == 3)
    assert consumer._pool.running == 3
    gate.set()
    await wait_until(lambda: len(calls.numbers) == 500)
    assert {len(batch) for batch in calls.batches} == {100}
    await nothing_is_lost(streams)


async def test_suspects_run_alone(streams: Streams, start: StartConsumer) -> None:
    """What crashed its process three times is a list of one, and does not take a batch with it again."""
    probe, calls = Processor("probe"), Calls()

    @probe.on(Noted, batch=Batch(size=3, within=0.2))
    async def take(events: list[Noted]) -> None:
        calls.add(events)

    await streams.publish_many(notes(3))
    key = streams.keys.stream("notes")
    await streams.redis.xgroup_create(key, "probe", "0")
    read = await streams.redis.xreadgroup("probe", "dead", {key: ">"})
    ids = [entry_id for entry_id, _ in read[0][1]]
    await streams.redis.xclaim(key, "probe", "dead", 0, ids, retrycount=3)
    await start(probe)
    await wait_until(lambda: len(calls.numbers) == 3)
    await wait_until(lambda: settled(streams))
    assert sorted(calls.batches) == [[0], [1], [2]]


async def test_old_versions_and_threads_and_middleware(streams: Streams, start: StartConsumer) -> None:
    """A batch is upcast event by event, a plain function runs in a thread, a middleware sees the batch as one."""
    seen: list[int] = []

    class Watch(Middleware):
        async def deliver_batch(self, deliveries: Sequence[Delivery], call_next: DeliverBatch) -> Sequence[Outcome]:
            outcomes = await call_next(deliveries)
            assert len(outcomes) == len(deliveries)
            seen.append(len(outcomes))
            return outcomes

    probe, names = Processor("probe"), list[str]()

    @probe.on(Renamed, batch=Batch(size=2, within=3600))
    def take(events: list[Renamed]) -> None:
        names.extend(event.full_name for event in events)

    await start(probe, middleware=(Watch(),))
    key = streams.keys.stream("notes")
    await streams.redis.xadd(key, {"type": "Renamed", "data": '{"first": "Ada", "last": "Lovelace"}'})
    await streams.publish(Renamed(full_name="Bob", locale="en"))
    await nothing_is_lost(streams)
    assert (names, seen) == (["Ada Lovelace", "Bob"], [2])


def test_what_cannot_work_is_refused_where_it_is_declared() -> None:
    """Sizes, times, a transaction, the delivery of a batch, the batch of a single event."""
    for wrong in ({"size": 0}, {"size": 10_001}, {"within": -1}):
        with pytest.raises(ValueError):
            Batch(**wrong)
    with pytest.raises(TypeError, match="position in the list"):
        BatchFailed({Noted(n=1): RuntimeError()})  # type: ignore[dict-item]

    async def of(delivery: Delivery = CurrentDelivery()) -> str:
        return delivery.group

    async def direct(events: list[Noted], delivery: Delivery = CurrentDelivery()) -> None: ...

    async def nested(events: list[Noted], group: str = Depends(of)) -> None: ...

    async def single(event: Noted, batch: Sequence[Delivery] = CurrentBatch()) -> None: ...

    for handler in (direct, nested):
        with pytest.raises(StreamsError, match=r"probe, Noted: .*CurrentBatch\(\)"):
            Processor("probe").on(Noted, batch=Batch())(handler)
    with pytest.raises(StreamsError, match="belongs to a handler with batch="):
        Processor("probe").on(Noted)(single)
    with pytest.raises(StreamsError, match="batch= and transaction= exclude"):
        Processor("probe", transaction=object()).on(Noted, batch=Batch())  # type: ignore[arg-type]


async def test_an_ordered_processor_keeps_the_order_of_each_key(streams: Streams, start: StartConsumer) -> None:
    """A batch has at most one message of a key; one that fails keeps only its own key waiting."""
    probe = Processor("probe", ordered=True, retry=Backoff(attempts=3, first=0.05))
    done: dict[str, list[int]] = {}
    failed: set[tuple[str, int]] = set()

    @probe.on(Noted, batch=Batch(size=5, within=0.05))
    async def take(events: list[Noted]) -> None:
        assert len({event.text for event in events}) == len(events)
        errors: dict[int, Exception] = {}
        for position, event in enumerate(events):
            if event.n == 2 and (event.text, event.n) not in failed:
                failed.add((event.text, event.n))
                errors[position] = ConnectionResetError("gone")
            else:
                done.setdefault(event.text, []).append(event.n)
        raise BatchFailed(errors)

    for key in "abcde":
        await streams.publish_many([Noted(n=n, text=key) for n in range(6)], key=key)
    await start(probe)
    await wait_until(lambda: sum(map(len, done.values())) == 30)
    assert done == {key: list(range(6)) for key in "abcde"}
    await nothing_is_lost(streams)


@pytest.mark.spread
async def test_a_batch_is_of_one_partition(make_settings: MakeSettings, start: StartConsumer) -> None:
    """Because one script settles it, and publishes what follows; all partitions get theirs."""
    probe, after, calls, followed = Processor("probe"), Processor("after"), list[set[str]](), list[int]()

    @probe.on(Noted, batch=Batch(size=10, within=0.1))
    async def take(events: list[Noted], deliveries: Sequence[Delivery] = CurrentBatch()) -> list[Event]:
        calls.append({delivery.source.partition("}")[0] for delivery in deliveries})
        return [Followed(n=event.n) for event in events]

    @after.on(Followed)
    async def note(event: Followed) -> None:
        followed.append(event.n)

    async with Streams(settings=make_settings(partitions=3)) as streams:
        await start(probe, partitions=3)
        await start(after, partitions=3)
        await streams.publish_many(notes(60))
        await wait_until(lambda: sorted(followed) == list(range(60)))
    assert {len(places) for places in calls} == {1}
    assert len(set().union(*calls)) == 3
