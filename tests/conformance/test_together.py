"""Order per key, and many events at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

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
    StreamsError,
)
from tests.conformance.driver import Driver, becomes, dead, now
from tests.conformance.events import Arrived, Sent
from tests.waiting import wait_until


async def test_events_of_a_key_wait_for_the_retry_of_the_first(driver: Driver) -> None:
    one, seen = Processor("one", ordered=True), list[tuple[int, int]]()

    @one.on(Sent)
    async def send(event: Sent, delivery: Delivery = CurrentDelivery()) -> None:
        seen.append((event.number, delivery.attempt))
        if event.number == 1 and delivery.attempt == 1:
            raise RuntimeError("no")

    await driver.start(one)
    for number in (1, 2, 3):
        await driver.streams.publish(Sent(number=number), key="berlin")
    await driver.until(lambda: len(seen) == 4)
    assert seen == [(1, 1), (1, 2), (2, 1), (3, 1)]


async def test_other_keys_and_events_without_one_do_not_wait(driver: Driver) -> None:
    one, seen = Processor("one", ordered=True), list[int]()

    @one.on(Sent)
    async def send(event: Sent) -> None:
        seen.append(event.number)
        if event.number == 1:
            raise RuntimeError("no")

    one.retry = None
    await driver.start(one)
    first = await driver.streams.publish(Sent(number=1), key="berlin")
    await driver.streams.publish(Sent(number=2), key="berlin")
    other = await driver.streams.publish(Sent(number=3), key="paris")
    free = await driver.streams.publish(Sent(number=4))
    await becomes(driver, other.id, "one", "acked")
    await becomes(driver, free.id, "one", "acked")
    await becomes(driver, first.id, "one", "dead")
    await driver.until(lambda: 2 in seen)
    assert seen.index(2) > max(position for position, number in enumerate(seen) if number == 1)


async def test_what_stands_in_line_can_be_called_off(driver: Driver) -> None:
    one, seen = Processor("one", ordered=True), list[int]()

    @one.on(Sent, retry=Backoff(first=3600))
    async def send(event: Sent) -> None:
        if event.number == 1:
            raise RuntimeError("no")
        seen.append(event.number)

    await driver.start(one)
    first, second, third = [await driver.streams.publish(Sent(number=number), key="berlin") for number in (1, 2, 3)]
    await becomes(driver, second.id, "one", "in line")
    assert (await driver.streams.cancel(second.id)).groups == {"one": "cancelled"}
    await becomes(driver, first.id, "one", "retrying")
    await driver.streams.cancel(first.id)
    await becomes(driver, third.id, "one", "acked")
    assert seen == [3]


async def test_a_retry_that_is_called_off_lets_the_next_go(driver: Driver) -> None:
    one, seen = Processor("one", ordered=True), list[int]()

    @one.on(Sent, retry=Backoff(first=3600))
    async def send(event: Sent) -> None:
        if event.number == 1:
            raise RuntimeError("no")
        seen.append(event.number)

    await driver.start(one)
    first, second = [await driver.streams.publish(Sent(number=number), key="berlin") for number in (1, 2)]
    await becomes(driver, second.id, "one", "in line")
    await becomes(driver, first.id, "one", "retrying")
    await driver.streams.cancel(first.id)
    await driver.until(lambda: seen == [2])


class Lists:
    """A batch handler that notes what it was given, and fails for some."""

    def __init__(self, batch: Batch, *, bad: Exception | None = None) -> None:
        self.processor = Processor("one")
        self.lists: list[list[int]] = []

        @self.processor.on(Sent, batch=batch)
        async def send(events: list[Sent], deliveries: Sequence[Delivery] = CurrentBatch()) -> list[Arrived]:
            numbers = [event.number for event in events]
            self.lists.append(numbers)
            assert len(deliveries) == len(events)
            if bad is not None and 2 in numbers:
                raise bad
            return [Arrived(number=len(events))]


async def test_a_batch_is_a_list_of_so_many(driver: Driver) -> None:
    lists = Lists(Batch(size=3, within=0.2))
    await driver.streams.publish_many(Sent(number=number) for number in range(7))
    await driver.start(lists.processor)
    await driver.until(lambda: sum(map(len, lists.lists)) == 7)
    assert lists.lists == [[0, 1, 2], [3, 4, 5], [6]]


async def test_a_batch_says_which_of_it_failed(driver: Driver) -> None:
    lists = Lists(Batch(size=3, within=0.1), bad=BatchFailed({1: DeadLetter("broken")}))
    receipts = await driver.streams.publish_many(Sent(number=number) for number in (1, 2, 3))
    await driver.start(lists.processor)
    (letter,) = await dead(driver, "one")
    assert (letter.event_id, letter.reason) == (receipts[1].id, "rejected")
    await becomes(driver, receipts[0].id, "one", "acked")
    await becomes(driver, receipts[2].id, "one", "acked")
    assert lists.lists == [[1, 2, 3]]


async def test_a_batch_that_fails_as_a_whole_is_tried_one_by_one(driver: Driver) -> None:
    lists = Lists(Batch(size=3, within=0.1), bad=TypeError("a bug"))
    receipts = await driver.streams.publish_many(Sent(number=number) for number in (1, 2, 3))
    await driver.start(lists.processor)
    (letter,) = await dead(driver, "one")
    assert letter.event_id == receipts[1].id
    await becomes(driver, receipts[0].id, "one", "acked")
    await becomes(driver, receipts[2].id, "one", "acked")
    assert sorted(lists.lists, key=len) == [[1], [2], [3], [1, 2, 3]]


async def test_a_limit_lets_so_many_start_in_a_time(driver: Driver) -> None:
    one, times = Processor("one"), list[float]()

    @one.on(Sent, limit=Limit(rate=2, per=0.3, burst=2))
    async def send(event: Sent) -> None:
        times.append(await now(driver))

    await driver.start(one)
    receipts = await driver.streams.publish_many(Sent(number=number) for number in range(6))
    await driver.until(lambda: len(times) == 6)
    for receipt in receipts:
        trail = await becomes(driver, receipt.id, "one", "acked")
        assert trail.attempts == 1
    for before, after in zip(times, times[3:], strict=False):
        assert after - before >= 0.29


async def test_a_limit_lets_so_many_run_at_once_and_tells_who_waits(driver: Driver) -> None:
    one, free, running, most = Processor("one"), asyncio.Event(), list[int](), list[int]()

    @one.on(Sent, limit=Limit(concurrency=2, by="key"))
    async def send(event: Sent) -> None:
        running.append(event.number)
        most.append(len(running))
        await free.wait()
        running.remove(event.number)

    await driver.start(one)
    receipts = [await driver.streams.publish(Sent(number=number), key="berlin") for number in range(5)]
    waiting = asyncio.create_task(_all_acked(driver, [receipt.id for receipt in receipts]))

    async def limited() -> list[str]:
        trails = [(await driver.streams.event(receipt.id)).groups for receipt in receipts]
        return sorted(group.state for groups in trails for group in groups)

    async def is_full() -> bool:
        return await limited() == ["limited"] * 3 + ["running"] * 2

    await wait_until(is_full)
    free.set()
    await waiting
    assert max(most) == 2


async def _all_acked(driver: Driver, ids: list[str]) -> None:
    for id in ids:
        await becomes(driver, id, "one", "acked")


async def test_a_handler_says_how_far_it_is(driver: Driver) -> None:
    one = Processor("one")

    @one.on(Sent)
    async def send(event: Sent, progress: Progress = CurrentProgress()) -> None:
        await progress.set(1, 2, "half of it")
        await progress.increment()

    await driver.start(one)
    receipt = await driver.streams.publish(Sent(number=1))
    trail = await becomes(driver, receipt.id, "one", "acked")
    assert trail.progress is not None
    assert (trail.progress.done, trail.progress.total, trail.progress.text) == (2, 2, "half of it")


def test_what_cannot_be_a_batch_is_refused_where_it_is_declared() -> None:
    with pytest.raises(StreamsError, match="takes an Event class"):
        Processor("one").on(str)  # type: ignore[arg-type]
