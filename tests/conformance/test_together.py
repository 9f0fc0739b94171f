"""What several events have to do with each other: order per key, batches, limits; and how far a handler has come."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from streams import (
    Backoff,
    Batch,
    BatchFailed,
    CurrentBatch,
    CurrentDelivery,
    CurrentProgress,
    DeadLetter,
    Delivery,
    Limit,
    Processor,
    Progress,
    clock,
)
from tests.conformance.engine import Engine, becomes, dead
from tests.support.events import Followed, Noted
from tests.support.waiting import wait_until


async def test_other_keys_and_events_without_one_do_not_wait(engine: Engine) -> None:
    probe, seen = Processor("probe", ordered=True, retry=Backoff(first=0.03)), list[int]()

    @probe.on(Noted)
    async def handle(event: Noted) -> None:
        seen.append(event.n)
        if event.n == 1:
            raise RuntimeError("no")

    await engine.start(probe)
    first = await engine.streams.publish(Noted(n=1), key="berlin")
    await engine.streams.publish(Noted(n=2), key="berlin")
    await engine.streams.publish(Noted(n=3), key="paris")
    await engine.streams.publish(Noted(n=4))
    await becomes(engine, first.id, "dead")
    await engine.until(lambda: sorted(seen) == [1, 1, 1, 2, 3, 4])
    assert seen.index(2) > max(position for position, n in enumerate(seen) if n == 1)


async def test_what_stands_in_line_is_called_off(engine: Engine) -> None:
    probe, seen = Processor("probe", ordered=True, retry=Backoff(first=3600)), list[int]()

    @probe.on(Noted)
    async def handle(event: Noted) -> None:
        if event.n == 1:
            raise RuntimeError("no")
        seen.append(event.n)

    await engine.start(probe)
    first, second, third = [await engine.streams.publish(Noted(n=n), key="berlin") for n in (1, 2, 3)]
    await becomes(engine, second.id, "queued")
    assert (await engine.streams.cancel(second.id)).groups == {"probe": "cancelled"}
    await becomes(engine, first.id, "retrying")
    await engine.streams.cancel(first.id)
    await becomes(engine, third.id, "acked")
    assert seen == [3]


async def test_a_crash_does_not_change_the_order(engine: Engine) -> None:
    probe, seen = Processor("probe", ordered=True), list[tuple[int, int]]()

    @probe.on(Noted)
    async def handle(event: Noted, delivery: Delivery = CurrentDelivery()) -> None:
        seen.append((event.n, delivery.deliveries))

    await engine.dies(probe, Noted(n=1))
    await engine.until(lambda: seen == [(1, 2)])
    for n in (2, 3):
        await engine.streams.publish(Noted(n=n), key="berlin")
    await engine.until(lambda: [n for n, _ in seen] == [1, 2, 3])


class Lists:
    """A batch handler that notes what it was given, and fails for some."""

    def __init__(self, batch: Batch, *, bad: Exception | None = None) -> None:
        self.processor = Processor("probe")
        self.lists: list[list[int]] = []

        @self.processor.on(Noted, batch=batch)
        async def handle(events: list[Noted], deliveries: Sequence[Delivery] = CurrentBatch()) -> list[Followed]:
            numbers = [event.n for event in events]
            self.lists.append(numbers)
            assert len(deliveries) == len(events)
            if bad is not None and 2 in numbers:
                raise bad
            return [Followed(n=len(events))]


async def test_a_batch_is_a_list_of_so_many_or_of_what_came_in_time(engine: Engine) -> None:
    lists = Lists(Batch(size=3, within=0.2))
    receipts = await engine.streams.publish_many(Noted(n=n) for n in range(7))
    await engine.start(lists.processor)
    await engine.until(lambda: sum(map(len, lists.lists)) == 7)
    assert lists.lists == [[0, 1, 2], [3, 4, 5], [6]]
    await becomes(engine, receipts[6].id, "acked")
    (follow_up,) = (await engine.streams.event(receipts[6].id)).follow_ups
    assert follow_up.type == "Followed"


async def test_a_batch_says_which_of_it_failed(engine: Engine) -> None:
    lists = Lists(Batch(size=3, within=0.1), bad=BatchFailed({1: DeadLetter("broken")}))
    receipts = await engine.streams.publish_many(Noted(n=n) for n in (1, 2, 3))
    await engine.start(lists.processor)
    await becomes(engine, receipts[0].id, "acked")
    await becomes(engine, receipts[2].id, "acked")
    (letter,) = await dead(engine, "probe")
    assert (letter.event_id, letter.reason) == (receipts[1].id, "rejected")
    assert lists.lists == [[1, 2, 3]]


async def test_a_batch_that_fails_as_a_whole_is_tried_one_by_one(engine: Engine) -> None:
    lists = Lists(Batch(size=3, within=0.1), bad=DeadLetter("broken"))
    receipts = await engine.streams.publish_many(Noted(n=n) for n in (1, 2, 3))
    await engine.start(lists.processor)
    await becomes(engine, receipts[0].id, "acked")
    await becomes(engine, receipts[2].id, "acked")
    (letter,) = await dead(engine, "probe")
    assert letter.event_id == receipts[1].id
    assert sorted(lists.lists, key=len) == [[1], [2], [3], [1, 2, 3]]


async def test_one_that_cannot_be_read_leaves_its_batch(engine: Engine) -> None:
    lists = Lists(Batch(size=3, within=0.1))
    await engine.streams.publish(Noted(n=0))
    await engine.add_entry("notes", {"type": "Noted", "data": '{"n": "many"}'})
    await engine.streams.publish(Noted(n=1))
    await engine.start(lists.processor)
    await engine.until(lambda: lists.lists == [[0, 1]])
    await engine.until(lambda: dead(engine, "probe"))
    assert (await dead(engine, "probe"))[0].reason == "invalid"


async def test_a_limit_lets_so_many_start_in_a_time(engine: Engine) -> None:
    probe, times = Processor("probe"), list[float]()

    @probe.on(Noted, limit=Limit(rate=2, per=0.2, burst=2))
    async def handle(event: Noted) -> None:
        times.append(clock.now().timestamp())

    await engine.start(probe)
    receipts = await engine.streams.publish_many(Noted(n=n) for n in range(5))
    await engine.until(lambda: len(times) == 5)
    for receipt in receipts:
        assert (await becomes(engine, receipt.id, "acked")).attempts == 1
    for before, after in zip(times, times[3:], strict=False):
        assert after - before >= 0.19


async def test_a_limit_lets_so_many_run_at_once_and_tells_who_waits(engine: Engine) -> None:
    probe, free, running, most = Processor("probe"), asyncio.Event(), list[int](), list[int]()

    @probe.on(Noted, limit=Limit(concurrency=2, by="key"))
    async def handle(event: Noted) -> None:
        running.append(event.n)
        most.append(len(running))
        await free.wait()
        running.remove(event.n)

    await engine.start(probe)
    receipts = [await engine.streams.publish(Noted(n=n), key="berlin") for n in range(5)]
    waiting = asyncio.create_task(_all_acked(engine, [receipt.id for receipt in receipts]))

    async def is_full() -> bool:
        trails = [(await engine.streams.event(receipt.id)).groups for receipt in receipts]
        states = sorted(group.state for groups in trails for group in groups)
        return states == ["queued"] * 3 + ["running"] * 2

    await wait_until(is_full)
    free.set()
    await waiting
    assert max(most) == 2


async def _all_acked(engine: Engine, ids: list[str]) -> None:
    for id in ids:
        await becomes(engine, id, "acked")


async def test_a_limit_of_each_key_is_no_limit_of_the_others(engine: Engine) -> None:
    probe, seen = Processor("probe"), list[int]()

    @probe.on(Noted, limit=Limit(rate=1, per=3600, by="key"))
    async def handle(event: Noted) -> None:
        seen.append(event.n)

    await engine.start(probe)
    await engine.streams.publish(Noted(n=1), key="berlin")
    second = await engine.streams.publish(Noted(n=2), key="berlin")
    await engine.streams.publish(Noted(n=3), key="paris")
    await engine.until(lambda: len(seen) == 2)
    await becomes(engine, second.id, "queued")
    assert sorted(seen) == [1, 3]
    assert (await engine.streams.cancel(second.id)).groups == {"probe": "cancelled"}


async def test_a_handler_says_how_far_it_is(engine: Engine) -> None:
    probe = Processor("probe")

    @probe.on(Noted)
    async def handle(event: Noted, progress: Progress = CurrentProgress()) -> None:
        await progress.set(1, 2, "half of it")
        await progress.increment()

    await engine.start(probe)
    receipt = await engine.streams.publish(Noted(n=1))
    trail = await becomes(engine, receipt.id, "acked")
    assert trail.progress is not None
    assert (trail.progress.done, trail.progress.total, trail.progress.text) == (2, 2, "half of it")


async def test_so_many_handlers_run_at_once(engine: Engine) -> None:
    probe, running, most, ended = Processor("probe", concurrency=3), 0, 0, 0

    @probe.on(Noted)
    async def handle(event: Noted) -> None:
        nonlocal running, most, ended
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.002)
        running -= 1
        ended += 1

    await engine.start(probe)
    await engine.streams.publish_many(Noted(n=n) for n in range(12))
    await engine.until(lambda: ended == 12)
    assert most == 3
