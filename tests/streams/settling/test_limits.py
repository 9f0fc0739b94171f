"""Limits: how often a handler starts and how many of it run at once, over all consumers, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from streams import Backoff, CurrentDelivery, Delivery, Limit, Processor, Streams, StreamsError, Unavailable
from streams.executing.limiter import Permit
from streams.handlers.limit import PartitionQuota
from streams.messages.message import Message
from streams.messages.outcome import RELEASED
from streams.redis.keys import LIMITED_MS
from streams.settling import limits
from tests.streams.conftest import MakeSettings, StartConsumer
from tests.streams.consuming.test_consumer import settled
from tests.support.events import Followed, Noted, Other
from tests.support.holders import Held
from tests.support.waiting import wait_until


@pytest.fixture
def partitions() -> int:
    """One, also on a cluster: of several each has a share of a limit, and here everything is in one."""
    return 1


class Runs:
    """What a limited processor did: the order of its starts, when by Redis' clock, and the most that ran at once."""

    def __init__(self, streams: Streams, limit: Limit, *, takes: float = 0.0, fail: float = 0.0, **given: Any) -> None:
        self.starts: list[tuple[str, int, float]] = []
        self.done: Counter[int] = Counter()
        self.most: dict[str, int] = defaultdict(int)
        self.running: Counter[str] = Counter()
        self.gate: asyncio.Event | None = None
        self.attempts: set[int] = set()
        self.others = 0
        given = {"concurrency": 16, "retry": Backoff(attempts=5, first=0.02)} | given
        self.processor = Processor("probe", **given)
        dice = random.Random(7)

        @self.processor.on(Noted, limit=limit)
        async def note(event: Noted, delivery: Delivery = CurrentDelivery()) -> None:
            about = event.text
            self.running[about] += 1
            self.most[about] = max(self.most[about], self.running[about])
            self.attempts.add(delivery.attempt)
            try:
                seconds, microseconds = await streams.redis.time()
                self.starts.append((delivery.message.key, event.n, seconds + microseconds / 1e6))
                await asyncio.sleep(takes)
                if self.gate is not None:
                    await self.gate.wait()
                if dice.random() < fail and delivery.attempt < 5:
                    raise ValueError("not yet")
            finally:
                self.running[about] -= 1
            self.done[event.n] += 1

        @self.processor.on(Other)
        async def other(event: Other) -> None:
            self.others += 1

    @property
    def lasted(self) -> float:
        """From the first start to the last, in seconds."""
        times = [at for _, _, at in self.starts]
        return max(times) - min(times)


async def nothing_left(streams: Streams) -> None:
    """Every delivery is settled, nothing is missing in the books, and no limit holds anything."""
    await wait_until(lambda: settled(streams))
    assert not [gap for gap in (await streams.accounts()).gaps() if gap.count]
    for key in await streams.redis.keys(f"{streams.keys.limits('probe')}*"):
        assert await streams.redis.ttl(key) > 0, f"{key} is kept for ever"


async def standing(streams: Streams) -> int:
    """How many a limit makes wait."""
    return int(await streams.redis.zcount(streams.keys.due(), LIMITED_MS, LIMITED_MS))


async def test_a_rate_holds_over_two_consumers(streams: Streams, start: StartConsumer) -> None:
    """250 events at 50 in a second take five seconds, whoever runs them; other handlers do not wait, nothing counts as
    an attempt.
    """
    runs = Runs(streams, Limit(rate=50))
    for _ in range(2):
        await start(runs.processor)
    await streams.publish_many([Noted(n=n) for n in range(250)])
    await streams.publish_many([Other(n=n) for n in range(50)])
    await wait_until(lambda: runs.others == 50)
    assert len(runs.starts) < 200, "the others have not waited for it"
    await wait_until(lambda: len(runs.done) == 250, timeout=15)
    print(f"250 events at 50/s: {runs.lasted:.2f} s between the first and the last")
    assert 4.5 <= runs.lasted <= 5.5
    assert runs.attempts == {1}
    await nothing_left(streams)


async def test_no_more_than_that_many_run_at_once(streams: Streams, start: StartConsumer) -> None:
    """Three at once over three consumers, while a third of the tries fail; each of them succeeds once."""
    runs = Runs(streams, Limit(concurrency=3), takes=0.005, fail=0.3)
    for _ in range(3):
        await start(runs.processor)
    await streams.publish_many([Noted(n=n) for n in range(200)])
    await wait_until(lambda: len(runs.done) == 200, timeout=25)
    assert runs.most[""] == 3
    assert set(runs.done.values()) == {1}
    await nothing_left(streams)


async def test_a_limit_is_remembered_for_as_long_as_it_holds_something_back(
    streams: Streams, start: StartConsumer
) -> None:
    """While one waits for it, and then until its next start and a minute more: else it would begin anew."""
    runs = Runs(streams, Limit(rate=1, per=2))
    await start(runs.processor)
    await streams.publish_many([Noted(n=1), Noted(n=2)])
    await wait_until(lambda: standing(streams))
    (key,) = [key async for key in streams.redis.scan_iter(f"{streams.keys.limits('probe')}:*", _type="hash")]
    assert await streams.redis.pttl(key) == -1
    await wait_until(lambda: len(runs.done) == 2)
    await nothing_left(streams)
    assert 60_000 < await streams.redis.pttl(key) <= 62_000


async def test_what_is_admitted_after_the_stop_is_handed_back(streams: Streams, start: StartConsumer) -> None:
    """Redis may answer late: nothing begins any more, and another consumer need not wait for a lease."""
    runs = Runs(streams, Limit(rate=100))
    consumer = await start(runs.processor)
    message = Message.for_event(Noted(n=1), source="/t", target="t")
    held = Held("probe")
    late = Delivery(message, held, source="s", entry_id=b"1-0", count=1)
    consumer._pool._taking = False
    consumer._pool.admit([late])
    assert held.outcomes == [(late, RELEASED)]
    assert not runs.starts


async def test_rate_and_concurrency_by_what_an_event_is_about(streams: Streams, start: StartConsumer) -> None:
    """`by` is asked for each event; each of its values has a limit of its own."""
    runs = Runs(streams, Limit(rate=200, concurrency=2, by=lambda event: event.text), takes=0.01)
    for _ in range(2):
        await start(runs.processor)
    await streams.publish_many([Noted(n=n, text=f"tenant {n % 3}") for n in range(150)])
    await wait_until(lambda: len(runs.done) == 150, timeout=20)
    assert dict(runs.most) == {"tenant 0": 2, "tenant 1": 2, "tenant 2": 2}
    await nothing_left(streams)


@pytest.mark.parametrize("by", [None, "key"])
async def test_a_small_key_is_not_behind_a_big_one(streams: Streams, start: StartConsumer, by: Any) -> None:
    """Of two keys in line each is let in in turn, so 10 of one are done when about 10 of the other are."""
    runs = Runs(streams, Limit(rate=40, burst=1, concurrency=2, by=by))
    await start(runs.processor)
    await streams.publish_many([Noted(n=n) for n in range(200)], key="big")
    await wait_until(lambda: standing(streams))
    began = len(runs.starts)
    await streams.publish_many([Noted(n=n + 1000) for n in range(10)], key="small")
    await wait_until(lambda: sum(key == "small" for key, _, _ in runs.starts) == 10, timeout=15)
    last = max(at for at, (key, _, _) in enumerate(runs.starts) if key == "small")
    big = sum(key == "big" for key, _, _ in runs.starts[began:last])
    print(f"by={by}: {big} of the big key until 10 of the small one had started")
    assert big <= 20
    assert [n for key, n, _ in runs.starts if key == "small"] == list(range(1000, 1010)), "of one key first come"
    await wait_until(lambda: len(runs.done) == 210, timeout=25)


async def test_the_trail_says_what_an_event_waits_for_and_it_can_be_called_off(
    streams: Streams, start: StartConsumer
) -> None:
    """In line it is `limited`, with the limit and until when; called off, the line goes on without it."""
    runs = Runs(streams, Limit(rate=0.5, per=60, concurrency=5))
    await start(runs.processor)
    receipts = await streams.publish_many([Noted(n=n) for n in range(3)])
    await wait_until(lambda: _equals(standing(streams), 2))
    waiting = (await streams.snapshot()).waiting
    assert (waiting.total, waiting.queued, waiting.next_due) == (2, 2, None)
    (trail,) = (await streams.event(receipts[1].id)).groups
    assert (trail.state, trail.queued_behind) == ("queued", "limit")
    assert trail.reason.startswith("limited: Noted: 0.5 in 60 s, 5 at once; the next one is admitted in 1")
    assert (await streams.cancel(receipts[1].id)).groups == {"probe": "cancelled"}
    assert (await streams.event(receipts[1].id)).groups[0].state == "cancelled"
    assert (await streams.cancel(receipts[2].id)).groups == {"probe": "cancelled"}
    await wait_until(lambda: settled(streams))
    assert not [gap for gap in (await streams.accounts()).gaps() if gap.count]


async def _equals(count: Any, wanted: int) -> bool:
    return bool(await count == wanted)


async def test_a_consumer_that_stops_leaves_its_places(streams: Streams, start: StartConsumer) -> None:
    """Handed back at shutdown, what ran and what waited runs elsewhere, and nobody waits for a place that is gone."""
    runs = Runs(streams, Limit(concurrency=2))
    runs.gate = asyncio.Event()
    first = await start(runs.processor, grace=0.1)
    await streams.publish_many([Noted(n=n) for n in range(20)])
    await wait_until(lambda: runs.running[""] == 2)
    await first.stop()
    runs.gate.set()
    await start(runs.processor)
    await wait_until(lambda: len(runs.done) == 20, timeout=10)
    assert runs.most[""] == 2
    await nothing_left(streams)


async def test_ordered_and_limited_go_together(streams: Streams, start: StartConsumer) -> None:
    """What stands in line at the limit keeps the turn of its key."""
    runs = Runs(streams, Limit(rate=200, burst=1, concurrency=3), takes=0.002, fail=0.2, ordered=True)
    for _ in range(2):
        await start(runs.processor)
    for n in range(20):
        await asyncio.gather(*(streams.publish(Noted(n=n * 10 + key), key=str(key)) for key in range(5)))
    await wait_until(lambda: len(runs.done) == 100, timeout=25)
    for key in range(5):
        first = list(dict.fromkeys(n // 10 for at, n, _ in runs.starts if at == str(key)))
        assert first == list(range(20))
    assert runs.most[""] <= 3
    await nothing_left(streams)
    assert await streams.redis.keys(f"{streams.keys.turns('probe')}*") == []


async def test_limits_over_partitions(make_settings: MakeSettings, start: StartConsumer) -> None:
    """Each partition has its share of a limit; the whole is kept."""
    async with Streams(settings=make_settings(partitions=3)) as streams:
        runs = Runs(streams, Limit(rate=60, concurrency=4), takes=0.02)
        for _ in range(2):
            await start(runs.processor, partitions=3)
        await streams.publish_many([Noted(n=n) for n in range(90)])
        await wait_until(lambda: len(runs.done) == 90, timeout=20)
        print(f"90 events at 60/s over three partitions: {runs.lasted:.2f} s, at most {runs.most['']} at once")
        assert runs.most[""] <= 4
        assert runs.lasted > (90 - 6) / 60 * 0.95


async def test_a_pause_saves_up_no_starts(streams: Streams, start: StartConsumer) -> None:
    """What was let in and could not start, because every slot was taken, asks again: nothing starts in a heap."""
    runs = Runs(streams, Limit(rate=20, burst=1), concurrency=1)
    free = asyncio.Event()

    @runs.processor.on(Followed)
    async def take_the_slot(event: Followed) -> None:
        await free.wait()

    await start(runs.processor)
    await streams.publish_many([Noted(n=n) for n in range(120)])
    await wait_until(lambda: standing(streams))
    await streams.publish(Followed(n=0))
    inbox = streams.keys.inbox("probe")
    await wait_until(lambda: _at_least(streams.redis.xlen(inbox), 60), timeout=20)
    began, now = len(runs.starts), (await streams.redis.time())[0]
    free.set()
    await wait_until(lambda: len(runs.done) == 120, timeout=25)
    times = [at for _, _, at in runs.starts[began:] if at >= now]
    densest = max(sum(at <= other < at + 0.5 for other in times) for at in times)
    print(f"{densest} starts in half a second at 20/s after a pause in which 60 were let in")
    assert densest <= 1 + 20 * (0.5 + 1.0) + 9, "what one second let in, and half a second's own; and some to spare"


async def test_having_been_let_in_is_good_for_a_second(streams: Streams, start: StartConsumer) -> None:
    """Or for one interval, if that is longer; without a rate for as long as it takes."""
    runs = Runs(streams, Limit(rate=20))
    consumer = await start(runs.processor)
    gate = consumer._parts[0].limiter
    assert gate is not None
    entry_id = await streams.redis.xadd(streams.keys.stream("notes"), {"type": "Other", "data": "{}"})
    message = Message.decode(entry_id, [b"type", b"Noted", b"data", b'{"n": 1}'])
    delivery = Delivery(message, Held("probe"), source=streams.keys.stream("notes"), entry_id=entry_id, count=1)
    for share, good_for in (
        (PartitionQuota(50.0, 1, 0), 1.0),
        (PartitionQuota(5000.0, 1, 0), 5.0),
        (PartitionQuota(0.0, 1, 3), 10_000.0),
    ):
        delivery.admitted = Permit("limit", share)
        delivery.admitted.at -= good_for - 0.5
        assert not gate.needs_permit(delivery)
        delivery.admitted.at -= 1.0
        assert gate.needs_permit(delivery) is (good_for < 10_000)
        gate.drop({delivery})


async def _at_least(count: Any, wanted: int) -> bool:
    return bool(await count >= wanted)


async def test_a_breaker_that_is_open_lets_nobody_start(streams: Streams, start: StartConsumer) -> None:
    """And what has to ask first is no probe: when the outage is over, everything goes on."""
    runs = Runs(streams, Limit(rate=100, burst=1))
    down = True

    @runs.processor.on(Followed)
    async def ping(event: Followed) -> None:
        if down:
            raise Unavailable("the scale")

    consumer = await start(runs.processor)
    await streams.publish(Followed(n=0))
    await wait_until(lambda: not consumer._breaker.closed)
    await streams.publish_many([Noted(n=n) for n in range(100)])
    down = False
    await wait_until(lambda: len(runs.done) == 100, timeout=20)
    await nothing_left(streams)


async def test_a_place_of_a_message_that_was_deleted_is_given_back(streams: Streams, start: StartConsumer) -> None:
    """And so is the line of a processor that has no limit any more."""
    runs = Runs(streams, Limit(concurrency=1))
    runs.gate = asyncio.Event()
    consumer = await start(runs.processor, grace=0.1)
    await streams.publish_many([Noted(n=n) for n in range(5)])
    await wait_until(lambda: _equals(standing(streams), 4))
    limit = (await streams.redis.zrange(streams.keys.limits("probe"), 0, -1))[0].decode()
    held = f"{streams.keys.limits('probe')}:{limit}:held"
    assert await limits.repair(streams.redis, streams.keys, group="probe") == (0, 0)
    (holder,) = await streams.redis.zrange(held, 0, -1)
    await streams.redis.zadd(held, {f"{streams.keys.stream('notes')} 1-1": 1})
    assert await limits.repair(streams.redis, streams.keys, group="probe") == (1, 0)
    assert await streams.redis.zrange(held, 0, -1) == [holder]
    await consumer.stop()
    plain, seen = Processor("probe"), list[int]()

    @plain.on(Noted)
    async def note(event: Noted) -> None:
        seen.append(event.n)

    await start(plain)
    await wait_until(lambda: sorted(seen) == [0, 1, 2, 3, 4], timeout=10)
    await nothing_left(streams)


async def test_what_by_cannot_say_is_a_failure_of_the_event(streams: Streams, start: StartConsumer) -> None:
    """It does not run without a limit; data that is no event is a dead letter as ever."""
    runs = Runs(streams, Limit(rate=10, by=lambda event: 1 // event.n), retry=Backoff(attempts=1))
    await start(runs.processor)
    await streams.publish(Noted(n=0))
    await streams.redis.xadd(streams.keys.stream("notes"), {"type": "Noted", "data": "{}"})
    await streams.publish(Noted(n=1))
    await wait_until(lambda: _equals(streams.redis.xlen(streams.keys.dead("probe")), 2))
    await wait_until(lambda: len(runs.done) == 1)
    letters = await streams.redis.xrange(streams.keys.dead("probe"))
    assert sorted(fields[b"reason"] for _, fields in letters) == [b"failed", b"invalid"]


async def test_what_has_expired_uses_up_no_start(streams: Streams, start: StartConsumer) -> None:
    """No handler runs for it, so it does not ask."""
    runs = Runs(streams, Limit(rate=1, per=3600))
    for n in range(20):
        await streams.publish(Noted(n=n), expires=timedelta(milliseconds=1))
    await streams.publish(Noted(n=20))
    await start(runs.processor)
    await wait_until(lambda: runs.done[20] == 1)
    await wait_until(lambda: settled(streams))
    (account,) = (await streams.accounts()).groups
    assert (account.expired, account.gap) == (20, 0)


async def test_large_data_is_fetched_for_by_and_a_store_that_fails_is_a_failure(
    make_settings: MakeSettings, start: StartConsumer, tmp_path: Path
) -> None:
    """What it is about cannot be known then, and it does not run without a limit."""
    store = {"storage_url": SecretStr(f"file://{tmp_path}/claims")}
    async with Streams(settings=make_settings(**store)) as streams:
        runs = Runs(streams, Limit(concurrency=1, by=lambda event: event.text), retry=Backoff(attempts=2, first=0.05))
        await streams.publish(Noted(n=0, text="x" * 300_000))
        kept = [path for path in (tmp_path / "claims").rglob("*") if path.is_file()]
        hidden = {path: path.read_bytes() for path in kept}
        for path in kept:
            path.unlink()
        await start(runs.processor, **store)
        await wait_until(lambda: _equals(streams.redis.xlen(streams.keys.history("probe")), 1))
        assert runs.starts == []
        for path, content in hidden.items():
            path.write_bytes(content)
        await streams.publish(Noted(n=1, text="x" * 300_000))
        await wait_until(lambda: runs.done == {0: 1, 1: 1})  # or the other's handler asks a client that is closed
        await wait_until(lambda: settled(streams))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "needs a rate"),
        ({"rate": 0}, "rate=0 must be over 0"),
        ({"rate": float("nan")}, "must be over 0"),
        ({"rate": 5, "per": 0}, "per=0 must be over 0"),
        ({"concurrency": 0}, "concurrency=0 must be at least 1"),
        ({"concurrency": 1, "burst": 3}, "goes with a rate"),
        ({"rate": 5, "burst": 0}, "burst=0 must be at least 1"),
        ({"rate": 5, "by": "tenant"}, "by='tenant' must be"),
    ],
)
def test_a_limit_that_cannot_be_meant_is_refused(given: dict[str, Any], says: str) -> None:
    """With what is wrong in it."""
    with pytest.raises(StreamsError, match=says):
        Limit(**given)


def test_a_limit_is_divided_among_partitions_unless_it_is_by_key() -> None:
    """A partition shares nothing with the others; the whole is never more than was said."""
    limit = Limit(rate=100, concurrency=8)
    shares = [limit.share(number, 3) for number in range(3)]
    assert [share.most for share in shares] == [3, 3, 2]
    assert sum(1000 / share.interval for share in shares) == pytest.approx(100)
    assert Limit(rate=100, concurrency=8, by="key").share(1, 3) == (10.0, 10, 8)
    with pytest.raises(StreamsError, match="cannot be divided among 9 partitions"):
        limit.share(0, 9)
