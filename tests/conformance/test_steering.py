"""What people do and see: call off, pause, replay, correct, trim, schedules by hand, accounts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streams import Backoff, NotFound, Processor, Slot, StreamsError
from streams.dead_letters.search import Filter
from tests.conformance.engine import Engine, becomes
from tests.support.events import Followed, Noted


class Post:
    """A processor whose handler fails for as long as it is told to."""

    def __init__(self, name: str = "probe") -> None:
        self.processor = Processor(name, retry=Backoff(attempts=1))
        self.seen: list[int] = []
        self.fails = False

        @self.processor.on(Noted)
        async def handle(event: Noted) -> None:
            self.seen.append(event.n)
            if self.fails:
                raise TypeError("a bug")

    async def give_up(self, engine: Engine, *numbers: int) -> list[str]:
        """Lets these go to the dead letters; returns the events' ids."""
        self.fails = True
        receipts = await engine.streams.publish_many(Noted(n=n) for n in numbers)
        for receipt in receipts:
            await becomes(engine, receipt.id, "dead", self.processor.name)
        self.fails = False
        return [receipt.id for receipt in receipts]


@pytest.fixture
async def post(engine: Engine) -> Post:
    """A started one."""
    made = Post()
    await engine.start(made.processor)
    return made


async def test_what_runs_is_called_off_from_outside(engine: Engine) -> None:
    probe, began, told = Processor("probe"), asyncio.Event(), list[str]()

    @probe.on(Noted)
    async def handle(event: Noted) -> Followed:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            told.append("cancelled")
            raise
        return Followed(n=1)

    await engine.start(probe)
    receipt = await engine.streams.publish(Noted(n=1))
    waiting = asyncio.create_task(becomes(engine, receipt.id, "cancelled"))
    await began.wait()
    assert (await engine.streams.event(receipt.id)).groups[0].state == "running"
    assert (await engine.streams.cancel(receipt.id)).groups == {"probe": "running"}
    await waiting
    assert told == ["cancelled"]
    assert (await engine.streams.event(receipt.id)).follow_ups == ()


async def test_a_retry_that_is_called_off_waits_no_more(engine: Engine) -> None:
    probe = Processor("probe", retry=Backoff(first=3600))

    @probe.on(Noted)
    async def handle(event: Noted) -> None:
        raise RuntimeError("no")

    await engine.start(probe)
    receipt = await engine.streams.publish(Noted(n=1))
    await becomes(engine, receipt.id, "retrying")
    assert (await engine.streams.snapshot()).waiting.total == 1
    await engine.streams.cancel(receipt.id)
    assert (await engine.streams.snapshot()).waiting.total == 0


async def test_what_is_nowhere_is_not_found(engine: Engine, post: Post) -> None:
    streams = engine.streams
    with pytest.raises(NotFound, match="no dead letter 1-1"):
        await streams.dead_letters("probe").replay(["1-1"])
    with pytest.raises(NotFound, match="no schedule"):
        await streams.schedules.pause("probe.daily")
    with pytest.raises(NotFound):
        await streams.replay("notes", group="nobody")


async def test_a_group_that_comes_later_is_given_what_was_there_before(engine: Engine) -> None:
    receipt = await engine.streams.publish(Noted(n=1))
    post = Post()
    await engine.start(post.processor)
    await becomes(engine, receipt.id, "acked")
    assert post.seen == [1]


async def test_a_group_that_was_paused_before_it_started_begins_nothing(engine: Engine, post: Post) -> None:
    await engine.streams.pause("probe")
    await engine.stop_consumers()
    again = Post()
    await engine.start(again.processor)
    receipt = await engine.streams.publish(Noted(n=1))
    await engine.pass_time(0.2)
    assert again.seen == []
    await engine.streams.resume("probe")
    await becomes(engine, receipt.id, "acked")
    assert again.seen == [1]


async def test_dead_letters_are_looked_through(engine: Engine, post: Post) -> None:
    ids = await post.give_up(engine, 1, 2, 3)
    letters = engine.streams.dead_letters("probe")
    assert [letter.event_id async for letter in letters.ls(limit=2)] == ids[:2]
    assert [letter async for letter in letters.ls(Filter(error="another"))] == []
    (kind,) = await letters.groups()
    assert (kind.count, kind.reason) == (3, "failed")
    assert (await letters.replay(only=Filter(type="Noted"), dry_run=True)).matched == 3
    with pytest.raises(StreamsError, match="not both"):
        await letters.discard(["1-1"], Filter(type="Noted"))
    with pytest.raises(StreamsError, match="Noted"):
        await letters.edit(ids[0], Followed(n=7))
    assert await letters.count() == 3


async def test_a_letter_is_replayed_by_its_name_however_often_it_was(engine: Engine, post: Post) -> None:
    (id,) = await post.give_up(engine, 1)
    letters = engine.streams.dead_letters("probe")
    for _ in range(3):
        post.fails = True
        assert (await letters.replay()).done == 1
        await becomes(engine, id, "dead")
    assert (await letters.replay()).parked == 1
    post.fails = False
    assert (await letters.replay([id], by="a test")).done == 1
    trail = await becomes(engine, id, "acked")
    assert (trail.replays, trail.history[-1]["consumer"]) == (4, "a test")


async def test_history_is_replayed_to_one_group(engine: Engine, post: Post) -> None:
    other = Post("other")
    await engine.start(other.processor)
    for n in (1, 2, 3):
        receipt = await engine.streams.publish(Noted(n=n))
        await becomes(engine, receipt.id, "acked")
        await becomes(engine, receipt.id, "acked", "other")
    plan = await engine.streams.replays.plan("notes", group="other", types=["Noted"])
    assert plan.matched == 3
    job = await engine.streams.replay("notes", group="other", ids=[receipt.id])
    assert (job.matched, job.state) == (1, "done")
    await engine.until(lambda: len(other.seen) == 4)
    job = await engine.streams.replay("notes", group="other", types=["Noted"], rate=100)
    assert (job.matched, job.state) == (3, "done")
    await engine.until(lambda: len(other.seen) == 7)
    assert (sorted(other.seen), post.seen) == ([1, 1, 2, 2, 3, 3, 3], [1, 2, 3])


async def test_a_snapshot_says_how_it_stands(engine: Engine, post: Post) -> None:
    await post.give_up(engine, 1, 2)
    await engine.streams.publish(Noted(n=3), delay=60)
    await engine.streams.pause("probe")
    await engine.pass_time(0.2)  # a read that waits already may still bring something
    await engine.streams.publish(Noted(n=4), priority="low")
    snapshot = await engine.streams.snapshot()
    (group,) = snapshot.groups
    assert (group.name, group.lag, group.pending, group.dead, group.alive) == ("probe", 1, 0, 2, 1)
    assert (snapshot.waiting.total, snapshot.waiting.delayed) == (1, 1)
    assert {one.priority: one.length for one in snapshot.streams if one.length} == {"normal": 2, "low": 1}
    await engine.streams.resume("probe")
    await engine.until(lambda: 4 in post.seen)


async def test_everything_is_accounted_for(engine: Engine, post: Post) -> None:
    await post.give_up(engine, 1, 2)
    await engine.streams.dead_letters("probe").discard(limit=1)
    receipt = await engine.streams.publish(Noted(n=3), delay=60)
    await engine.streams.cancel(receipt.id)
    await engine.streams.publish(Noted(n=4), delay=60)
    done = await engine.streams.publish(Noted(n=5))
    await becomes(engine, done.id, "acked")
    (group,) = (await engine.streams.accounts()).groups
    assert (group.published, group.acked, group.dead, group.discarded, group.gap) == (3, 1, 1, 1, 0)


async def test_only_what_is_settled_is_trimmed(engine: Engine, post: Post) -> None:
    done = await engine.streams.publish(Noted(n=1))
    await becomes(engine, done.id, "acked")
    await engine.streams.pause("probe")
    await engine.pass_time(0.2)
    await engine.streams.publish(Noted(n=2))
    trimmed = await engine.streams.trim("notes", keep=0)
    assert sum(found.removed for found in trimmed) == 1
    await engine.streams.resume("probe")
    await engine.until(lambda: post.seen == [1, 2])


async def test_why_an_event_is_not_done(engine: Engine, post: Post) -> None:
    (id,) = await post.give_up(engine, 1)
    (reason,) = await engine.streams.why(id)
    assert (reason.group, reason.state) == ("probe", "dead")


async def test_a_processor_keeps_its_own_keys(engine: Engine) -> None:
    redis: Any = engine.streams.redis
    key = engine.streams.keys.own("probe", "bell")
    assert await redis.set(key, "first", nx=True, ex=60)
    assert await redis.set(key, "second", nx=True, get=True) == b"first"
    assert await redis.ttl(key) == 60
    release = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
    assert await redis.eval(release, 1, key, "second") == 0
    assert await redis.eval(release, 1, key, "first") == 1
    assert await redis.get(key) is None


async def test_a_schedule_publishes_each_slot_once_and_in_order(engine: Engine, post: Post) -> None:
    ticking = Processor("ticking")

    @ticking.every(0.2)
    def tick(slot: Slot) -> Noted:
        return Noted(n=round(slot.at.timestamp() * 10))

    await engine.start(ticking)
    await engine.until(lambda: len(post.seen) >= 3)
    assert post.seen == list(range(post.seen[0], post.seen[0] + 2 * len(post.seen), 2))
    await engine.streams.schedules.pause("ticking.tick")


async def test_a_schedule_is_paused_resumed_and_run_by_hand(engine: Engine, post: Post) -> None:
    ticking = Processor("ticking")

    @ticking.cron("0 0 1 1 *", name="yearly", tz="Europe/Berlin")
    def yearly() -> list[Noted]:
        return [Noted(n=1), Noted(n=2)]

    await engine.start(ticking)
    await engine.until(engine.streams.schedules.ls)
    assert await engine.streams.schedules.pause("ticking.yearly")
    assert not await engine.streams.schedules.pause("ticking.yearly")
    run = await engine.streams.schedules.run("ticking.yearly")
    assert run.ids is not None
    await becomes(engine, run.ids[1], "acked")
    assert post.seen == [1, 2]
    assert await engine.streams.schedules.resume("ticking.yearly")
    (state,) = await engine.streams.schedules.ls()
    assert (state.words, state.paused) == ("At 00:00 on January 1", False)
    assert f"{state.next:%m-%d %H:%M %Z}" == "01-01 00:00 CET"


async def test_a_schedule_that_keeps_failing_has_missed_its_slot(engine: Engine) -> None:
    ticking = Processor("ticking")

    @ticking.cron("0 0 1 1 *", name="yearly")
    def yearly() -> Noted:
        raise RuntimeError("no")

    await engine.start(ticking)
    await engine.until(engine.streams.schedules.ls)
    run = await engine.streams.schedules.run("ticking.yearly")
    assert run.failed


async def test_slots_that_pass_while_a_schedule_is_paused_are_not_made_up_for(engine: Engine, post: Post) -> None:
    ticking = Processor("ticking")
    ticking.every(0.1, name="tick")(lambda: Noted(n=1))
    await engine.start(ticking)
    await engine.until(lambda: post.seen)
    await engine.streams.schedules.pause("ticking.tick")
    await engine.pass_time(0.6)  # it is seen within half a second
    before = len(post.seen)
    await engine.pass_time(0.3)
    assert len(post.seen) == before
    await engine.streams.schedules.resume("ticking.tick")
    await engine.until(lambda: len(post.seen) > before)
    await engine.streams.schedules.pause("ticking.tick")
    assert len(post.seen) < before + 5
