"""What people do: call off, pause, replay, discard, correct, look."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streams import Backoff, CurrentDelivery, CurrentStreams, Delivery, NotFound, Processor, Streams, StreamsError
from streams.dead_letters import Filter
from tests.conformance.driver import Driver, becomes, dead
from tests.conformance.events import Arrived, Sent


class Post:
    """A processor whose handler fails for as long as it is told to."""

    def __init__(self, name: str = "one") -> None:
        self.processor = Processor(name)
        self.seen: list[int] = []
        self.fails = False

        @self.processor.on(Sent)
        async def send(event: Sent) -> None:
            self.seen.append(event.number)
            if self.fails:
                raise TypeError("a bug")


async def test_what_is_delayed_is_called_off(driver: Driver) -> None:
    post = Post()
    await driver.start(post.processor)
    receipt = await driver.streams.publish(Sent(number=1), delay=0.1)
    assert (await driver.streams.cancel(receipt.id)).groups == {"one": "cancelled"}
    await driver.pass_time(0.3)
    assert post.seen == []


async def test_what_nobody_has_read_is_called_off(driver: Driver) -> None:
    post = Post()
    await driver.start(post.processor)
    await driver.streams.pause("one")
    await driver.pass_time(0.3)  # a read that waits already may still bring something
    receipt = await driver.streams.publish(Sent(number=1))
    assert (await driver.streams.cancel(receipt.id)).groups == {"one": "cancelled"}
    await driver.streams.resume("one")
    other = await driver.streams.publish(Sent(number=2))
    await becomes(driver, other.id, "one", "acked")
    assert post.seen == [2]


async def test_what_runs_is_called_off(driver: Driver) -> None:
    one, began, told = Processor("one"), asyncio.Event(), list[str]()

    @one.on(Sent)
    async def send(event: Sent) -> Arrived:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            told.append("cancelled")
            raise
        return Arrived(number=1)

    await driver.start(one)
    receipt = await driver.streams.publish(Sent(number=1))
    waiting = asyncio.create_task(_is_over(driver, receipt.id))
    await began.wait()
    assert (await driver.streams.event(receipt.id)).groups[0].state == "running"
    assert (await driver.streams.cancel(receipt.id)).groups == {"one": "cancelling"}
    trail = await waiting
    assert (trail, told) == ("cancelled", ["cancelled"])


async def test_a_handler_calls_off_its_own_event(driver: Driver) -> None:
    one, told = Processor("one"), list[str]()

    @one.on(Sent)
    async def send(event: Sent, streams: Streams = CurrentStreams(), delivery: Delivery = CurrentDelivery()) -> None:
        told.append((await streams.cancel(delivery.message.id)).groups["one"])
        await asyncio.sleep(60)

    await driver.start(one)
    receipt = await driver.streams.publish(Sent(number=1))
    await becomes(driver, receipt.id, "one", "cancelled")
    assert told == ["cancelling"]


async def _is_over(driver: Driver, id: str) -> str:
    return (await becomes(driver, id, "one", "cancelled")).state


async def test_what_waits_for_its_retry_is_called_off(driver: Driver) -> None:
    one, calls = Processor("one"), list[int]()

    @one.on(Sent, retry=Backoff(first=3600))
    async def send(event: Sent) -> None:
        calls.append(event.number)
        raise RuntimeError("no")

    await driver.start(one)
    receipt = await driver.streams.publish(Sent(number=1))
    await becomes(driver, receipt.id, "one", "retrying")
    assert (await driver.streams.cancel(receipt.id)).groups == {"one": "cancelled"}
    await becomes(driver, receipt.id, "one", "cancelled")
    await driver.pass_time(0.1)
    assert calls == [1]
    assert (await driver.streams.snapshot()).waiting.total == 0


async def test_what_is_done_says_so_when_it_is_called_off(driver: Driver) -> None:
    post, other = Post(), Post("two")
    other.fails = True
    await driver.start(post.processor, other.processor)
    receipt = await driver.streams.publish(Sent(number=1))
    await becomes(driver, receipt.id, "one", "acked")
    await becomes(driver, receipt.id, "two", "dead")
    assert (await driver.streams.cancel(receipt.id)).groups == {"one": "acked", "two": "dead"}


async def test_what_is_nowhere_is_not_found(driver: Driver) -> None:
    post, streams = Post(), driver.streams
    await driver.start(post.processor)
    with pytest.raises(NotFound, match="no event nowhere"):
        await streams.event("nowhere")
    with pytest.raises(NotFound, match="no event nowhere"):
        await streams.cancel("nowhere")
    with pytest.raises(NotFound, match="no group nobody"):
        await streams.pause("nobody")
    with pytest.raises(NotFound, match="no group on"):
        await streams.dead_letters("on").count()
    with pytest.raises(NotFound, match="one has no dead letter 1-1"):
        await streams.dead_letters("one").replay(["1-1"])
    with pytest.raises(NotFound, match="no schedule one"):
        await streams.schedules.pause("one.daily")


async def test_a_paused_group_begins_nothing(driver: Driver) -> None:
    post, other = Post(), Post("two")
    await driver.start(post.processor, other.processor)
    assert await driver.streams.pause("one")
    assert not await driver.streams.pause("one")
    await driver.pass_time(0.2)
    receipt = await driver.streams.publish(Sent(number=1))
    await becomes(driver, receipt.id, "two", "acked")
    await driver.pass_time(0.2)
    assert post.seen == []
    assert await driver.streams.resume("one")
    assert not await driver.streams.resume("one")
    await becomes(driver, receipt.id, "one", "acked")


async def test_a_group_that_was_paused_before_it_started_begins_nothing(driver: Driver) -> None:
    post, again = Post(), Post()
    await driver.start(post.processor)
    await driver.streams.pause("one")
    await driver.stop_consumers()
    await driver.start(again.processor)
    receipt = await driver.streams.publish(Sent(number=1))
    await driver.pass_time(0.2)
    assert again.seen == []
    await driver.streams.resume("one")
    await becomes(driver, receipt.id, "one", "acked")


async def give_up(driver: Driver, post: Post, *numbers: int) -> list[str]:
    """Lets these go to the dead letters; returns the events' ids."""
    post.fails = True
    receipts = await driver.streams.publish_many(Sent(number=number) for number in numbers)
    await dead(driver, post.processor.name, len(numbers))
    post.fails = False
    return [receipt.id for receipt in receipts]


async def test_a_dead_letter_is_replayed_to_its_own_group(driver: Driver) -> None:
    post, other = Post(), Post("two")
    await driver.start(post.processor, other.processor)
    (id,) = await give_up(driver, post, 1)
    tally = await driver.streams.dead_letters("one").replay(by="a test")
    assert (tally.matched, tally.done) == (1, 1)
    trail = await becomes(driver, id, "one", "acked")
    assert (trail.replays, post.seen, other.seen) == (1, [1, 1], [1])
    assert [line["outcome"] for line in trail.history] == ["dead_lettered", "replayed"]
    assert trail.history[1]["consumer"] == "a test"
    assert await driver.streams.dead_letters("one").count() == 0


async def test_dead_letters_are_looked_through(driver: Driver) -> None:
    post = Post()
    await driver.start(post.processor)
    ids = await give_up(driver, post, 1, 2, 3)
    letters = driver.streams.dead_letters("one")
    found = [letter async for letter in letters.ls(limit=2)]
    assert {letter.event_id for letter in found} < set(ids)
    assert len(found) == 2
    assert (await letters.show(ids[2])).event_id == ids[2]
    assert [letter async for letter in letters.ls(Filter(error="another"))] == []
    (kind,) = await letters.groups()
    assert (kind.count, kind.reason) == (3, "failed")
    assert (await letters.replay(only=Filter(type="Sent"), dry_run=True)).matched == 3
    with pytest.raises(StreamsError, match="not both"):
        await letters.discard(["1-1"], Filter(type="Sent"))


async def test_a_dead_letter_is_discarded(driver: Driver) -> None:
    post = Post()
    await driver.start(post.processor)
    first, second = await give_up(driver, post, 1, 2)
    assert (await driver.streams.dead_letters("one").discard([first])).done == 1
    await becomes(driver, first, "one", "discarded")
    await becomes(driver, second, "one", "dead")


async def test_a_dead_letter_is_corrected_and_replayed(driver: Driver) -> None:
    post = Post()
    await driver.start(post.processor)
    (id,) = await give_up(driver, post, 1)
    letters = driver.streams.dead_letters("one")
    with pytest.raises(StreamsError, match="Sent"):
        await letters.edit(id, Arrived(number=7))
    corrected = await letters.edit(id, Sent(number=7))
    assert (corrected.event_id, corrected.reason) == (id, "failed")
    await letters.replay([corrected.id])
    await becomes(driver, id, "one", "acked")
    assert post.seen == [1, 7]


async def test_what_was_replayed_too_often_is_parked(driver: Driver) -> None:
    post = Post()
    await driver.start(post.processor)
    (id,) = await give_up(driver, post, 1)
    post.fails = True
    letters = driver.streams.dead_letters("one")
    for replays in (1, 2):
        assert (await letters.replay()).done == 1
        await driver.until(lambda replays=replays: len(post.seen) == 1 + replays)
        await dead(driver, "one")
    tally = await letters.replay()
    assert (tally.done, tally.parked) == (0, 1)
    post.fails = False
    assert (await letters.replay([id])).done == 1
    await becomes(driver, id, "one", "acked")


async def test_history_is_replayed_to_one_group(driver: Driver) -> None:
    post, other = Post(), Post("two")
    await driver.start(post.processor, other.processor)
    for number in (1, 2, 3):
        receipt = await driver.streams.publish(Sent(number=number))
        await becomes(driver, receipt.id, "one", "acked")
        await becomes(driver, receipt.id, "two", "acked")
    job = await driver.streams.replay("parcels", group="two", types=["Sent"])
    assert (job.matched, job.state) == (3, "done")
    await driver.until(lambda: len(other.seen) == 6)
    assert (sorted(other.seen), post.seen) == ([1, 1, 2, 2, 3, 3], [1, 2, 3])


async def test_a_snapshot_says_how_it_stands(driver: Driver) -> None:
    post = Post()
    await driver.start(post.processor)
    await give_up(driver, post, 1, 2)
    await driver.streams.publish(Sent(number=3), delay=60)
    await driver.streams.pause("one")
    await driver.pass_time(0.2)
    await driver.streams.publish(Sent(number=4), priority="low")

    async def stands() -> Any:
        snapshot = await driver.streams.snapshot()
        return snapshot if snapshot.groups[0].lag == 1 else None

    snapshot = await driver.until(stands)
    (group,) = snapshot.groups
    assert (group.name, group.pending, group.dead, group.alive) == ("one", 0, 2, 1)
    assert (snapshot.waiting.total, snapshot.waiting.delayed) == (1, 1)
    assert {(lane.name, lane.lane): lane.length for lane in snapshot.streams if lane.length} == {
        ("parcels", "normal"): 2,
        ("parcels", "low"): 1,
    }
    await driver.streams.resume("one")


async def test_everything_is_accounted_for(driver: Driver) -> None:
    post = Post()
    await driver.start(post.processor)
    await give_up(driver, post, 1, 2)
    await driver.streams.dead_letters("one").discard(limit=1)
    receipt = await driver.streams.publish(Sent(number=3), delay=60)
    await driver.streams.cancel(receipt.id)
    await driver.streams.publish(Sent(number=4), delay=60)
    done = await driver.streams.publish(Sent(number=5))
    await becomes(driver, done.id, "one", "acked")
    accounts = await driver.streams.accounts()
    (group,) = accounts.groups
    assert (group.published, group.acked, group.dead, group.discarded, group.gap) == (3, 1, 1, 1, 0)


async def test_why_an_event_is_not_done(driver: Driver) -> None:
    post = Post()
    await driver.start(post.processor)
    (id,) = await give_up(driver, post, 1)
    (reason,) = await driver.streams.why(id)
    assert (reason.group, reason.state) == ("one", "dead")
