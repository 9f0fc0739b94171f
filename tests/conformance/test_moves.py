"""Where events go: publishing, delays, lanes, once, order, cancel, pause, dead letters, schedules."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from streams import (
    Backoff,
    CurrentDelivery,
    CurrentStreams,
    Delivery,
    Event,
    NotFound,
    Processor,
    Streams,
    StreamsError,
    TooLarge,
)
from streams import clock as engine_clock
from streams.dead_letters.dead_letters import Tally
from streams.dead_letters.search import Filter
from tests.conformance.engine import Engine, dead, state
from tests.support.events import Followed, Noted, Other


class Recorder:
    """A processor that keeps what it handles, and fails while it is told to."""

    def __init__(self, name: str = "probe", *, ordered: bool = False, attempts: int = 3, concurrency: int = 1) -> None:
        retry = Backoff(attempts=attempts, first=0.02)
        self.processor = Processor(name, retry=retry, ordered=ordered, concurrency=concurrency)
        self.seen: list[int] = []
        self.failing: set[int] = set()

        @self.processor.on(Noted)
        async def handle(event: Noted) -> None:
            if event.n in self.failing:
                raise RuntimeError("not yet")
            self.seen.append(event.n)


@pytest.fixture
async def recorder(engine: Engine) -> Recorder:
    """A started one."""
    made = Recorder()
    await engine.start(made.processor)
    return made


async def test_events_of_a_stream_are_handled_in_their_order(engine: Engine, recorder: Recorder) -> None:
    receipts = await engine.streams.publish_many(Noted(n=n) for n in range(20))
    await engine.until(lambda: len(recorder.seen) == 20)
    assert recorder.seen == list(range(20))
    assert {receipt.stream for receipt in receipts} == {"notes"}
    assert len({receipt.id for receipt in receipts}) == 20


async def test_every_group_is_given_every_event(engine: Engine) -> None:
    one, two = Recorder("one"), Recorder("two")
    await engine.start(one.processor, two.processor)
    await engine.streams.publish(Noted(n=1))
    await engine.until(lambda: one.seen == two.seen == [1])


async def test_delayed_events_come_when_they_are_due_and_in_that_order(engine: Engine, recorder: Recorder) -> None:
    await engine.streams.publish(Noted(n=3), delay=0.3)
    await engine.streams.publish(Noted(n=2), at=engine_clock.now() + timedelta(seconds=0.15))
    await engine.streams.publish(Noted(n=1))
    await engine.until(lambda: len(recorder.seen) == 3)
    assert recorder.seen == [1, 2, 3]


async def test_a_delayed_event_is_never_early(engine: Engine) -> None:
    processor, at = Processor("probe"), list[datetime]()

    @processor.on(Noted)
    async def handle(event: Noted) -> None:
        at.append(engine_clock.now())

    await engine.start(processor)
    began = engine_clock.now()
    await engine.streams.publish(Noted(n=1), delay=0.2)
    await engine.until(lambda: bool(at))
    assert at[0] - began >= timedelta(seconds=0.199)


async def test_a_delayed_event_waits_for_each_group(engine: Engine, recorder: Recorder) -> None:
    receipt = await engine.streams.publish(Noted(n=1), delay=timedelta(hours=1))
    trail = await engine.streams.event(receipt.id)
    assert [(group.group, group.state) for group in trail.groups] == [("probe", "waiting")]
    assert 3590 < trail.due_in <= 3600


@pytest.mark.parametrize(
    "options",
    [
        {"delay": -1},
        {"delay": 1, "at": datetime(2100, 1, 1, tzinfo=UTC)},
        {"at": datetime(2020, 1, 1, tzinfo=UTC)},
        {"at": datetime(2100, 1, 1)},  # noqa: DTZ001 - that is the mistake
        {"key": "k" * 201},
        {"priority": "urgent"},
        {"expires": timedelta(seconds=-1)},
        {"delay": 10, "expires": timedelta(seconds=5)},
    ],
)
async def test_what_cannot_be_meant_is_refused(engine: Engine, recorder: Recorder, options: dict[str, object]) -> None:
    with pytest.raises(StreamsError):
        await engine.streams.publish(Noted(n=1), **options)


async def test_an_event_over_the_cap_is_refused(engine: Engine, recorder: Recorder) -> None:
    with pytest.raises(TooLarge):
        await engine.streams.publish(Noted(n=1, text="x" * 4000))


async def test_once_is_once(engine: Engine, recorder: Recorder) -> None:
    first = await engine.streams.publish(Noted(n=1), once="order-7:paid")
    again = await engine.streams.publish(Noted(n=2), once="order-7:paid")
    await engine.streams.publish(Noted(n=3), once="order-8:paid")
    await engine.until(lambda: 3 in recorder.seen)
    assert recorder.seen == [1, 3]
    assert again.id == first.id


async def test_a_slot_is_reserved_for_high_ones(engine: Engine) -> None:
    probe, others, seen, hurried = (
        Processor("probe", concurrency=3, reserved=1),
        set[int](),
        list[int](),
        asyncio.Event(),
    )
    at_most = 0

    @probe.on(Noted)
    async def handle(event: Noted) -> None:
        nonlocal at_most
        if event.n == 10:
            hurried.set()
        else:
            others.add(event.n)
            at_most = max(at_most, len(others))
            await hurried.wait()
            for _ in range(10):  # all that may begin beside it has begun
                await asyncio.sleep(0)
            others.remove(event.n)
        seen.append(event.n)

    await engine.streams.publish_many(Noted(n=n) for n in range(4))
    await engine.streams.publish(Noted(n=10), priority="high")
    await engine.start(probe)
    await engine.until(lambda: len(seen) == 5)
    assert at_most == 2


async def test_lanes_are_weighted_and_low_is_not_starved(engine: Engine) -> None:
    recorder = Recorder(concurrency=200)  # so many are read at once, and weighed against each other
    await engine.start(recorder.processor)
    await engine.streams.pause("probe")
    for priority, first in (("low", 0), ("normal", 100), ("high", 200)):
        await engine.streams.publish_many([Noted(n=first + n) for n in range(42)], priority=priority)
    await engine.streams.resume("probe")
    await engine.until(lambda: len(recorder.seen) == 126)
    at = {n: position for position, n in enumerate(recorder.seen)}
    high, normal, low = (sum(at[first + n] for n in range(42)) / 42 for first in (200, 100, 0))
    assert high < normal < low  # on average; the exact share is measured in tests/streams/consuming/test_priority.py
    assert min(at[n] for n in range(42)) < max(at[200 + n] for n in range(42))


async def test_an_unread_event_is_cancelled(engine: Engine, recorder: Recorder) -> None:
    await engine.streams.pause("probe")
    receipt = await engine.streams.publish(Noted(n=1))
    cancelled = await engine.streams.cancel(receipt.id)
    assert cancelled.groups["probe"] in ("cancelled", "running")
    await engine.streams.publish(Noted(n=2))
    await engine.streams.resume("probe")
    await engine.until(lambda: bool(recorder.seen))
    assert recorder.seen == [2]


async def test_a_delayed_event_is_cancelled(engine: Engine, recorder: Recorder) -> None:
    receipt = await engine.streams.publish(Noted(n=1), delay=0.1)
    assert (await engine.streams.cancel(receipt.id)).groups == {"probe": "cancelled"}
    await engine.streams.publish(Noted(n=2), delay=0.15)
    await engine.until(lambda: bool(recorder.seen))
    assert recorder.seen == [2]


async def test_a_retry_is_cancelled(engine: Engine) -> None:
    recorder, tries = Processor("probe", retry=Backoff(first=3600)), list[int]()

    @recorder.on(Noted)
    async def handle(event: Noted) -> None:
        tries.append(event.n)
        raise RuntimeError("no")

    await engine.start(recorder)
    receipt = await engine.streams.publish(Noted(n=1))
    await _until_state(engine, receipt.id, "retrying")
    assert (await engine.streams.cancel(receipt.id)).groups == {"probe": "cancelled"}
    assert await state(engine, receipt.id, "probe") == "cancelled"
    assert tries == [1]


async def test_what_is_done_or_dead_is_not_cancelled(engine: Engine, recorder: Recorder) -> None:
    recorder.failing = {2}
    done, gone = await engine.streams.publish_many([Noted(n=1), Noted(n=2)])
    await _until_state(engine, done.id, "acked")
    await _until_state(engine, gone.id, "dead")
    assert (await engine.streams.cancel(done.id)).groups == {"probe": "acked"}
    assert (await engine.streams.cancel(gone.id)).groups == {"probe": "dead"}


async def test_a_running_handler_is_cancelled(engine: Engine) -> None:
    processor, ended = Processor("probe"), list[str]()

    @processor.on(Noted)
    async def handle(event: Noted, streams: Streams = CurrentStreams(), delivery: Delivery = CurrentDelivery()) -> None:
        try:
            assert (await streams.cancel(delivery.message.id)).groups == {"probe": "running"}
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("called off")
            raise

    await engine.start(processor)
    receipt = await engine.streams.publish(Noted(n=1))
    await engine.until(lambda: bool(ended))
    await _until_state(engine, receipt.id, "cancelled")


async def test_an_event_that_nobody_knows_is_not_found(engine: Engine, recorder: Recorder) -> None:
    for verb in (engine.streams.cancel, engine.streams.event):
        with pytest.raises(NotFound):
            await verb("01890000-0000-7000-8000-000000000000")


async def test_a_paused_group_begins_nothing_and_others_go_on(engine: Engine) -> None:
    one, two = Recorder("one"), Recorder("two")
    await engine.start(one.processor, two.processor)
    assert await engine.streams.pause("one") is True
    assert await engine.streams.pause("one") is False
    await engine.streams.publish(Noted(n=1))
    await engine.until(lambda: two.seen == [1])
    assert one.seen == []
    assert await engine.streams.resume("one") is True
    assert await engine.streams.resume("one") is False
    await engine.until(lambda: one.seen == [1])


async def test_a_group_that_nobody_knows_is_not_found(engine: Engine, recorder: Recorder) -> None:
    for verb in (engine.streams.pause, engine.streams.resume):
        with pytest.raises(NotFound):
            await verb("nobody")
    with pytest.raises(NotFound):
        await engine.streams.dead_letters("nobody").count()


async def test_a_key_is_handled_in_order_across_a_retry(engine: Engine) -> None:
    processor, seen = Processor("probe", ordered=True, retry=Backoff(first=0.05)), list[tuple[str, int]]()

    @processor.on(Noted)
    async def handle(event: Noted, delivery: Delivery = CurrentDelivery()) -> None:
        if event.n == 0 and event.text == "a" and delivery.attempt == 1:
            raise RuntimeError("not yet")
        seen.append((event.text, event.n))

    await engine.start(processor)
    for n in range(3):
        for key in "ab":
            await engine.streams.publish(Noted(n=n, text=key), key=key)
    await engine.until(lambda: len(seen) == 6)
    assert [n for key, n in seen if key == "a"] == [0, 1, 2]
    assert seen[0][0] == "b"


async def test_who_is_next_stands_in_line_and_a_dead_letter_lets_it_go(engine: Engine) -> None:
    recorder = Recorder(ordered=True, attempts=2)
    recorder.failing = {1}
    await engine.start(recorder.processor)
    await engine.streams.publish(Noted(n=1), key="k")
    await engine.streams.publish(Noted(n=2), key="k")
    await engine.until(lambda: recorder.seen == [2])
    assert len(await dead(engine, "probe")) == 1


async def test_a_cancelled_retry_lets_the_next_of_its_key_go(engine: Engine) -> None:
    processor, seen = Processor("probe", ordered=True, retry=Backoff(first=3600)), list[int]()

    @processor.on(Noted)
    async def handle(event: Noted) -> None:
        if event.n == 1:
            raise RuntimeError("no")
        seen.append(event.n)

    await engine.start(processor)
    first = await engine.streams.publish(Noted(n=1), key="k")
    second = await engine.streams.publish(Noted(n=2), key="k")
    await _until_state(engine, second.id, "queued")
    await _until_state(engine, first.id, "retrying")
    await engine.streams.cancel(first.id)
    await engine.until(lambda: seen == [2])


async def test_a_dead_letter_is_replayed_to_its_own_group_and_begins_anew(engine: Engine) -> None:
    recorder, other = Recorder(attempts=1), Recorder("other")
    recorder.failing = {1}
    await engine.start(recorder.processor, other.processor)
    receipt = await engine.streams.publish(Noted(n=1))
    await engine.until(lambda: dead(engine, "probe"))
    recorder.failing = set()
    assert await engine.streams.dead_letters("probe").replay() == Tally(1, 1)
    await engine.until(lambda: recorder.seen == [1])
    await engine.streams.publish(Noted(n=2))
    await engine.until(lambda: 2 in other.seen)
    assert other.seen == [1, 2]
    await _until_state(engine, receipt.id, "acked")
    outcomes = [line["outcome"] for line in (await _in_probe(engine, receipt.id)).history]
    assert outcomes == ["dead_lettered", "replayed"]
    assert await dead(engine, "probe") == []


async def test_dead_letters_are_found_shown_corrected_and_discarded(engine: Engine) -> None:
    recorder = Recorder(attempts=1)
    recorder.failing = {1, 2}
    await engine.start(recorder.processor)
    one, two = await engine.streams.publish_many([Noted(n=1), Noted(n=2)])
    letters = engine.streams.dead_letters("probe")
    await engine.until(lambda: _is(letters.count(), 2))
    assert [letter.event_id async for letter in letters.ls(Filter(reason="failed"))] == [one.id, two.id]
    assert [letter async for letter in letters.ls(Filter(reason="invalid"))] == []
    assert (await letters.show(one.id)).event_id == one.id
    assert [kind.count for kind in await letters.groups()] == [2]
    with pytest.raises(NotFound):
        await letters.show("0-7")
    edited = await letters.edit(one.id, Noted(n=9))
    assert await letters.replay([edited.id]) == Tally(1, 1)
    assert await letters.discard([two.id]) == Tally(1, 1)
    await engine.until(lambda: recorder.seen == [9])
    assert await letters.count() == 0
    assert await state(engine, two.id, "probe") == "dead"


async def test_a_letter_that_was_replayed_too_often_is_parked(engine: Engine) -> None:
    recorder = Recorder(attempts=1)
    recorder.failing = {1}
    await engine.start(recorder.processor)
    await engine.streams.publish(Noted(n=1))
    letters = engine.streams.dead_letters("probe")
    for replays in range(4):
        await engine.until(lambda: _is(letters.count(), 1))
        tally = await letters.replay()
        assert tally == (Tally(1, 1) if replays < 3 else Tally(1, 0, 1))


async def test_schedules_publish_their_slots(engine: Engine) -> None:
    recorder, ticks = Recorder(), list[int]()

    @recorder.processor.every(0.2)
    async def tick() -> Event:
        ticks.append(len(ticks))
        return Noted(n=len(ticks))

    await engine.start(recorder.processor)
    await engine.until(lambda: len(recorder.seen) >= 3)
    assert recorder.seen[:3] == [1, 2, 3]


async def test_a_schedule_may_publish_nothing_or_many(engine: Engine) -> None:
    recorder, called = Recorder(), list[int]()

    @recorder.processor.every(0.1)
    def tick() -> list[Event] | None:
        called.append(1)
        return [Noted(n=1), Noted(n=2), Other(n=3)] if len(called) == 2 else None

    await engine.start(recorder.processor)
    await engine.until(lambda: len(called) >= 3 and len(recorder.seen) >= 2)
    assert recorder.seen == [1, 2]


async def test_a_processor_reads_its_own_streams_only(engine: Engine, recorder: Recorder) -> None:
    receipt = await engine.streams.publish(Other(n=1))
    await engine.streams.publish_many([Followed(n=1), Noted(n=1)])
    await engine.until(lambda: recorder.seen == [1])
    assert await state(engine, receipt.id, "probe") == ""


async def _is(count: object, expected: int) -> bool:
    return await count == expected  # type: ignore[misc]


async def _in_probe(engine: Engine, id: str) -> object:
    return next(group for group in (await engine.streams.event(id)).groups if group.group == "probe")


async def _until_state(engine: Engine, id: str, expected: str) -> None:
    async def reached() -> bool:
        return await state(engine, id, "probe") == expected

    await engine.until(reached)
