"""What reaches whom, and in which form."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streams import CurrentDelivery, CurrentStreams, Delivery, Depends, Processor, Shared, Streams, TooLarge
from tests.conformance.driver import Driver, becomes, dead
from tests.conformance.events import Arrived, Labelled, Returned, Sent


def collector(name: str, **options: Any) -> tuple[Processor, list[int]]:
    """A processor that notes the numbers of what was sent."""
    processor, seen = Processor(name, **options), list[int]()

    @processor.on(Sent)
    async def see(event: Sent) -> None:
        seen.append(event.number)

    return processor, seen


async def foreign(driver: Driver, stream: str, **fields: Any) -> str:
    """An entry of a publisher in another language; returns its id."""
    redis: Any = driver.streams.redis
    entry_id: bytes = await redis.xadd(driver.streams.keys.stream(stream), fields)
    return entry_id.decode()


async def test_every_group_that_reads_a_stream_is_given_an_event(driver: Driver) -> None:
    (one, seen_by_one), (two, seen_by_two) = collector("one"), collector("two")
    await driver.start(one, two)
    await driver.streams.publish(Sent(number=1))
    await driver.until(lambda: seen_by_one == seen_by_two == [1])


async def test_a_group_that_comes_later_is_given_what_was_there_before(driver: Driver) -> None:
    one, seen = collector("one")
    await driver.streams.publish_many([Sent(number=1), Sent(number=2)])
    await driver.start(one)
    await driver.until(lambda: seen == [1, 2])


async def test_what_a_group_has_no_handler_for_is_done_at_once(driver: Driver) -> None:
    one, seen = collector("one")
    await driver.start(one)
    receipt = await driver.streams.publish(Returned(number=1))
    await becomes(driver, receipt.id, "one", "acked")
    assert seen == []


async def test_one_at_a_time_is_in_order(driver: Driver) -> None:
    one, seen = collector("one", concurrency=1)
    await driver.start(one)
    receipts = await driver.streams.publish_many(Sent(number=number) for number in range(50))
    await driver.until(lambda: len(seen) == 50)
    assert seen == list(range(50))
    assert len({receipt.id for receipt in receipts}) == 50


async def test_high_goes_first_and_low_is_not_starved(driver: Driver) -> None:
    one, seen = Processor("one", concurrency=1), list[int]()

    @one.on(Sent)
    async def see(event: Sent) -> None:
        seen.append(event.number)
        await asyncio.sleep(0.004)  # longer than it takes to read the next one: else there is nothing to choose from

    for priority, first in (("low", 0), ("normal", 100), ("high", 200)):
        events = [Sent(number=number) for number in range(first, first + 30)]
        await driver.streams.publish_many(events, priority=priority)  # type: ignore[arg-type]
    await driver.start(one)
    await driver.until(lambda: len(seen) == 90)
    high, low = (sum(number // 100 == lane for number in seen[:32]) for lane in (2, 0))
    assert high > 16
    assert 0 < low < 6
    assert sum(number < 100 for number in seen[:50]) > 1


async def test_so_many_handlers_run_at_once(driver: Driver) -> None:
    one, running, most = Processor("one", concurrency=3), 0, 0

    @one.on(Sent)
    async def see(event: Sent) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.002)
        running -= 1

    await driver.start(one)
    receipts = await driver.streams.publish_many(Sent(number=number) for number in range(12))
    for receipt in receipts:
        await becomes(driver, receipt.id, "one", "acked")
    assert most == 3


async def test_a_plain_function_is_a_handler(driver: Driver) -> None:
    one, seen = Processor("one"), list[int]()
    one.on(Sent)(lambda event: seen.append(event.number))
    await driver.start(one)
    await driver.streams.publish(Sent(number=1))
    await driver.until(lambda: seen == [1])


async def test_follow_ups_are_published_and_know_their_cause(driver: Driver) -> None:
    one, two, causes = Processor("one"), Processor("two"), list[tuple[str, str]]()

    @one.on(Sent)
    async def send(event: Sent) -> list[Arrived]:
        return [Arrived(number=event.number), Arrived(number=event.number + 1)]

    @two.on(Arrived)
    async def arrive(event: Arrived, delivery: Delivery = CurrentDelivery()) -> None:
        causes.append((delivery.message.causation_id, delivery.message.correlation_id))

    await driver.start(one, two)
    receipt = await driver.streams.publish(Sent(number=1))
    await driver.until(lambda: len(causes) == 2)
    assert causes == [(receipt.id, receipt.id)] * 2
    trail = await driver.streams.event(receipt.id)
    assert [follow_up.type for follow_up in trail.follow_ups] == ["Arrived", "Arrived"]


async def test_what_fails_has_no_follow_ups(driver: Driver) -> None:
    one, two, seen = Processor("one"), Processor("two"), list[int]()

    @one.on(Sent)
    async def send(event: Sent, delivery: Delivery = CurrentDelivery()) -> Arrived:
        if delivery.attempt == 1:
            raise RuntimeError("not yet")
        return Arrived(number=delivery.attempt)

    @two.on(Arrived)
    async def arrive(event: Arrived) -> None:
        seen.append(event.number)

    await driver.start(one, two)
    receipt = await driver.streams.publish(Sent(number=1))
    await becomes(driver, receipt.id, "one", "acked")
    await driver.until(lambda: seen)
    assert seen == [2]


async def test_what_a_handler_publishes_itself_stays_published_when_it_fails(driver: Driver) -> None:
    one, two, seen = Processor("one"), Processor("two"), list[int]()

    @one.on(Sent)
    async def send(event: Sent, delivery: Delivery = CurrentDelivery(), streams: Streams = CurrentStreams()) -> None:
        await streams.publish(Arrived(number=delivery.attempt))
        if delivery.attempt == 1:
            raise RuntimeError("not yet")

    @two.on(Arrived)
    async def arrive(event: Arrived, delivery: Delivery = CurrentDelivery()) -> None:
        assert delivery.message.causation_id
        seen.append(event.number)

    await driver.start(one, two)
    await driver.streams.publish(Sent(number=1))
    await driver.until(lambda: seen == [1, 2])


async def test_type_and_data_are_enough_for_a_foreign_entry(driver: Driver) -> None:
    one, ids = Processor("one"), list[str]()

    @one.on(Sent)
    async def see(event: Sent, delivery: Delivery = CurrentDelivery()) -> None:
        ids.append(delivery.message.id)

    await driver.start(one)
    entry_id = await foreign(driver, "parcels", type="Sent", data='{"number": 7, "later": true}')
    await driver.until(lambda: ids == [entry_id])
    await becomes(driver, entry_id, "one", "acked")


async def test_two_foreign_entries_with_one_id_are_two(driver: Driver) -> None:
    one, seen = collector("one")
    await driver.start(one)
    for number in (1, 2):
        await foreign(driver, "parcels", id="same", type="Sent", data=f'{{"number": {number}}}')
    await driver.until(lambda: sorted(seen) == [1, 2])


async def test_an_unknown_type_is_dead(driver: Driver) -> None:
    one, _ = collector("one")
    await driver.start(one)
    entry_id = await foreign(driver, "parcels", type="NeverHeardOf", data="{}")
    (letter,) = await dead(driver, "one")
    assert (letter.event_id, letter.reason, letter.attempts) == (entry_id, "unknown_type", 0)


async def test_invalid_data_is_dead_without_a_second_try(driver: Driver) -> None:
    one, seen = collector("one")
    await driver.start(one)
    await foreign(driver, "parcels", type="Sent", data='{"number": "many"}')
    await foreign(driver, "parcels", type="Sent", data="no JSON")
    letters = await dead(driver, "one", 2)
    assert [(letter.reason, letter.attempts, letter.deliveries) for letter in letters] == [("invalid", 0, 1)] * 2
    assert seen == []


async def test_an_old_version_is_brought_up_to_date(driver: Driver) -> None:
    one, seen = Processor("one"), list[float]()

    @one.on(Labelled)
    async def see(event: Labelled) -> None:
        seen.append(event.kilograms)

    await driver.start(one)
    await foreign(driver, "labels", type="Labelled", dataversion="1", data='{"grams": 1500}')
    await driver.until(lambda: seen == [1.5])


async def test_a_newer_version_is_handed_back_and_given_up_in_the_end(driver: Driver) -> None:
    one = Processor("one")

    @one.on(Labelled)
    async def see(event: Labelled) -> None:
        raise AssertionError("this code cannot know it")

    await driver.start(one)
    entry_id = await foreign(driver, "labels", type="Labelled", dataversion="3", data='{"pounds": 1}')
    waiting = await becomes(driver, entry_id, "one", "snoozed")
    assert waiting.attempts == 0
    assert "newer than this code" in waiting.reason
    (letter,) = await dead(driver, "one")
    assert (letter.reason, letter.attempts) == ("unsupported", 0)


async def test_what_is_too_large_is_refused(driver: Driver) -> None:
    one, seen = collector("one")
    await driver.start(one)
    with pytest.raises(TooLarge, match="over the cap of 2000"):
        await driver.streams.publish(Sent(number=1, note="x" * 2000))
    await foreign(driver, "parcels", type="Sent", data=f'{{"number": 1, "note": "{"x" * 2000}"}}')
    (letter,) = await dead(driver, "one")
    assert (letter.reason, seen) == ("too_large", [])


async def test_what_a_handler_may_not_return_fails(driver: Driver) -> None:
    one = Processor("one")

    @one.on(Sent)
    async def see(event: Sent) -> str:
        return "done"

    await driver.start(one)
    await driver.streams.publish(Sent(number=1))
    (letter,) = await dead(driver, "one")
    assert (letter.reason, letter.error.partition(":")[0]) == ("failed", "TypeError")


async def test_what_is_no_event_among_follow_ups_leaves_none_of_them(driver: Driver) -> None:
    one = Processor("one")

    @one.on(Sent)
    async def see(event: Sent) -> list[object]:
        return [Arrived(number=1), "no event"]

    await driver.start(one)
    receipt = await driver.streams.publish(Sent(number=1))
    await dead(driver, "one")
    assert (await driver.streams.event(receipt.id)).follow_ups == ()


async def test_a_follow_up_that_is_too_large_is_the_handler_s_failure(driver: Driver) -> None:
    one = Processor("one")
    one.on(Sent)(lambda event: Sent(number=2, note="x" * 2000) if event.number == 1 else None)
    await driver.start(one)
    await driver.streams.publish(Sent(number=1))
    (letter,) = await dead(driver, "one")
    assert (letter.reason, letter.attempts) == ("failed", 1)
    assert "over the cap" in letter.error


async def test_a_version_that_is_no_number_is_invalid(driver: Driver) -> None:
    one, _ = collector("one")
    await driver.start(one)
    await foreign(driver, "parcels", type="Sent", dataversion="new", data='{"number": 1}')
    (letter,) = await dead(driver, "one")
    assert (letter.reason, letter.error) == ("invalid", "dataversion is not a positive number")


async def test_a_group_has_nothing_to_do_with_other_streams(driver: Driver) -> None:
    one, seen = collector("one")
    await driver.start(one)
    receipt = await driver.streams.publish(Arrived(number=1))
    await driver.streams.publish(Sent(number=1))
    await driver.until(lambda: seen == [1])
    assert (await driver.streams.event(receipt.id)).groups == ()


async def test_dependencies_are_made_for_each_delivery_and_shared_ones_once(driver: Driver) -> None:
    one, made, seen = Processor("one", concurrency=1), list[str](), list[tuple[str, str]]()

    def each() -> str:
        made.append("each")
        return "each"

    def shared() -> str:
        made.append("shared")
        return "shared"

    @one.on(Sent)
    async def see(event: Sent, mine: str = Depends(each), ours: str = Shared(shared)) -> None:
        seen.append((mine, ours))

    await driver.start(one)
    await driver.streams.publish_many([Sent(number=1), Sent(number=2)])
    await driver.until(lambda: len(seen) == 2)
    assert sorted(made) == ["each", "each", "shared"]
