"""Retention: what every group is through with goes, nothing else, also under load; groups that nobody runs are seen."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from datetime import timedelta

import pytest
import redis.asyncio

from streams import NotFound, Processor, Settings, Streams, StreamsError
from streams.consuming.maintenance import Maintenance
from streams.dead_letters.search import Filter
from tests.cli.consuming import Desk, registered
from tests.streams.conftest import MakeSettings, StartConsumer
from tests.streams.inspecting.test_reconciliation import account, adds_up, make_group, settled
from tests.support.events import Noted
from tests.support.waiting import wait_until


async def ids_of(client: redis.asyncio.Redis, key: str) -> list[bytes]:
    """The ids of the entries that are there."""
    return [entry_id for entry_id, _ in await client.xrange(key)]


async def lane(streams: Streams, stream: str = "users", **policy: object) -> tuple[int, int, str]:
    """Trims one stream; what went, what stayed and who holds more, of its normal lane."""
    done = {found.stream: found for found in await streams.trim(stream, **policy)}  # type: ignore[arg-type]
    return done[stream].removed, done[stream].kept, done[stream].held_by


async def test_what_one_group_has_not_settled_stays(streams: Streams, redis_client: redis.asyncio.Redis) -> None:
    """The floor is the lowest of every group's oldest pending entry and last delivered one."""
    for group in ("a", "b", "c"):
        await make_group(streams, group)
    users = streams.keys.stream("users")
    await streams.publish_many([registered(9)] * 10)
    before = await ids_of(redis_client, users)
    assert await lane(streams, keep=0) == (0, 10, "a"), "nobody has read anything"
    for group, count in (("a", 10), ("b", 6), ("c", 4)):
        read = await redis_client.xreadgroup(group, "x", {users: ">"}, count=count)
        ids = [entry_id for entry_id, _ in read[0][1]]
        await redis_client.xack(users, group, *(ids if group != "c" else ids[:2]))
    assert await lane(streams, keep=0, dry_run=True) == (2, 8, "c")
    assert await ids_of(redis_client, users) == before
    assert await lane(streams, keep=0) == (2, 8, "c")
    assert await ids_of(redis_client, users) == before[2:]
    await redis_client.xack(users, "c", *before[2:4])
    assert await lane(streams, keep=5) == (2, 6, "c"), "c has read four"
    await redis_client.xreadgroup("c", "x", {users: ">"}, count=6, noack=True)
    assert await lane(streams, keep=5) == (1, 5, "")
    assert await lane(streams, keep=0) == (1, 4, "b"), "b has read six"
    assert await ids_of(redis_client, users) == before[6:]


async def test_a_group_that_is_registered_and_not_on_the_stream_holds_everything(
    streams: Streams, redis_client: redis.asyncio.Redis
) -> None:
    """It will be made at 0, and must find everything."""
    await make_group(streams, "a")
    users = streams.keys.stream("users")
    await streams.publish_many([registered(9)] * 3)
    await redis_client.xreadgroup("a", "x", {users: ">"}, noack=True)
    await redis_client.hset(streams.keys.groups(), "new", users)
    assert await lane(streams, keep=0) == (0, 3, "new")
    await streams.retire("new", apply=True)
    assert await lane(streams, keep=0) == (3, 0, "")


async def test_a_group_that_was_made_by_hand_is_asked_too(streams: Streams, redis_client: redis.asyncio.Redis) -> None:
    users = streams.keys.stream("users")
    await streams.publish_many([registered(9)] * 3)
    await redis_client.xgroup_create(users, "audit", "0")
    assert await lane(streams, keep=0) == (0, 3, "audit")


@pytest.mark.parametrize("count", [1, 99, 100, 101, 1000, 2500])
@pytest.mark.parametrize("keep", [0, 1, 100, 150])
async def test_by_number_exactly(streams: Streams, redis_client: redis.asyncio.Redis, count: int, keep: int) -> None:
    """Also in the middle of a node, and over several steps."""
    await streams.publish_many([registered(9)] * count)
    before = await ids_of(redis_client, streams.keys.stream("users"))
    gone = max(0, count - keep)
    assert await lane(streams, keep=keep, dry_run=True) == (gone, count - gone, "")
    assert await lane(streams, keep=keep) == (gone, count - gone, "")
    assert await ids_of(redis_client, streams.keys.stream("users")) == before[gone:]


async def test_by_age_and_with_both_what_either_lets_go(streams: Streams, redis_client: redis.asyncio.Redis) -> None:
    users = streams.keys.stream("users")
    seconds, _ = await redis_client.time()
    fields = {"type": "UserRegistered", "data": registered(9).encode()}
    for age in (7200, 7000, 60, 50):
        await redis_client.xadd(users, fields, id=f"{(seconds - age) * 1000}-0")
    hour = timedelta(hours=1)
    assert await lane(streams, older_than=hour, dry_run=True) == (2, 2, "")
    assert await lane(streams, older_than=hour, keep=1, dry_run=True) == (3, 1, "")
    assert await lane(streams, older_than=hour, keep=10) == (2, 2, "")
    assert await lane(streams, older_than=hour, keep=1) == (1, 1, "")
    assert await lane(streams, older_than=timedelta(0)) == (1, 0, "")


async def test_ids_that_no_number_holds(streams: Streams, redis_client: redis.asyncio.Redis) -> None:
    """Whoever adds an entry may choose its id; two that differ in the 64th bit are two."""
    users = streams.keys.stream("users")
    await make_group(streams, "a")
    high = 2**64 - 2
    for entry_id in ("5-1", f"5-{high}", f"5-{high + 1}", "6-0"):
        await redis_client.xadd(users, {"type": "x"}, id=entry_id)
    await redis_client.xreadgroup("a", "x", {users: ">"}, count=2, noack=True)
    await lane(streams, keep=0)
    assert (await ids_of(redis_client, users))[-2:] == [f"5-{high + 1}".encode(), b"6-0"]


async def test_what_cannot_be_meant_is_refused(streams: Streams) -> None:
    with pytest.raises(StreamsError, match="name a limit"):
        await streams.trim("users")
    with pytest.raises(StreamsError, match="below 0"):
        await streams.trim("users", keep=-1)
    with pytest.raises(NotFound, match="no stream nowhere"):
        await streams.trim("nowhere", keep=1)
    with pytest.raises(StreamsError, match="stream"):
        await streams.trim("{a}:b", keep=1)


async def test_one_lane_alone(streams: Streams) -> None:
    for priority in ("high", "normal", "low"):
        await streams.publish(registered(9), priority=priority)  # type: ignore[arg-type]
    assert [found.stream for found in await streams.trim("users:low", keep=0)] == ["users:low"]
    assert await streams.redis.xlen(streams.keys.stream("users", "low")) == 0
    assert await streams.redis.xlen(streams.keys.stream("users")) == 1
    with pytest.raises(NotFound, match="no priority"):
        await streams.trim("users:medium", keep=0)


@pytest.mark.timeout(120)
async def test_trimming_under_load_loses_nothing_of_four_groups(
    streams: Streams, start: StartConsumer, make_settings: MakeSettings
) -> None:
    """Published, handled by four groups at their own pace (one fails a share of it) and trimmed, all at once."""
    count = 8000
    seen: dict[str, Counter[int]] = {}
    for number, name in enumerate(("quick", "steady", "slow", "failing")):
        processor = Processor(name, concurrency=(50, 10, 3, 20)[number])
        counter = seen[name] = Counter()

        async def handle(event: Noted, counter: Counter[int] = counter, name: str = name) -> None:
            if name == "failing" and event.n % 40 == 0 and event.n not in counter:
                counter[event.n] = 0
                raise RuntimeError("the first time")
            await asyncio.sleep(0)
            counter[event.n] += 1

        processor.on(Noted)(_plain(handle))
        await start(processor, lease=5.0)
    done = threading.Event()
    trimming = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(_trim_until(done, make_settings()))))
    await _publish(streams, count)
    await wait_until(lambda: all(sum(each.values()) == count for each in seen.values()), 60)
    done.set()
    trims, removed, longest = await trimming
    for name in seen:
        found = await settled(streams, count, name)
        assert adds_up(found)
        assert found.gaps == ()
    removed += sum(lane.removed for lane in await streams.trim("notes", keep=50))
    assert all(each == Counter(range(count)) for each in seen.values()), "each group had each event once"
    assert await streams.redis.xlen(streams.keys.stream("notes")) == 50
    assert removed == count - 50
    assert trims > 2
    print(f"{trims} trims removed {removed}, the stream was at most {longest} long")


async def _trim_until(done: threading.Event, settings: Settings) -> tuple[int, int, int]:
    """Trims all the time, on a loop of its own: the consumers' one is busy."""
    trims = removed = longest = 0
    async with Streams(settings=settings) as client:
        while not done.is_set():
            for lane in await client.trim("notes", keep=50):
                removed += lane.removed
                longest = max(longest, lane.kept)
            trims += 1
    return trims, removed, longest


def _plain(handle: object) -> object:
    """A handler with one argument, as the group's own."""

    async def handler(event: Noted) -> None:
        await handle(event)  # type: ignore[operator]

    return handler


async def _publish(streams: Streams, count: int) -> None:
    for at in range(0, count, 100):
        await streams.publish_many([Noted(n=n) for n in range(at, at + 100)])


@pytest.mark.newest_redis
@pytest.mark.timeout(600)
@pytest.mark.parametrize("count", [50_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
async def test_memory_is_bounded_over_many_events(
    streams: Streams, start: StartConsumer, redis_client: redis.asyncio.Redis, count: int
) -> None:
    """With retention by number the stream holds what is on its way, however many events pass."""
    notes, handled = Processor("notes"), 0

    @notes.on(Noted)
    async def note(_: Noted) -> None:
        nonlocal handled
        handled += 1

    await start(notes)
    memory: list[int] = []
    for at in range(0, count, 5000):
        await streams.publish_many([Noted(n=n, text="x" * 200) for n in range(at, at + 5000)])
        await wait_until(lambda at=at: handled == at + 5000, 60)  # type: ignore[misc]
        await wait_until(lambda: _trimmed_to(streams, 1000))
        memory.append(await redis_client.memory_usage(streams.keys.stream("notes"), samples=0))
    assert max(memory) < 1.5 * memory[0]
    assert (await account(streams, "notes")).gaps == ()
    print(f"{count} events: {memory[0] // 1024} KiB at first, {max(memory) // 1024} at most")


async def _trimmed_to(streams: Streams, keep: int) -> bool:
    await streams.trim("notes", keep=keep)
    return bool(await streams.redis.xlen(streams.keys.stream("notes")) == keep)


async def test_consumers_trim_their_own_streams_when_told_to(
    streams: Streams, start: StartConsumer, make_settings: MakeSettings
) -> None:
    desk = Desk()
    await start(desk.processor)
    await streams.publish_many([registered(9)] * 20)
    await streams.publish(Noted(n=1))
    await settled(streams, 20)
    await Maintenance(streams, desk.processor).look()
    assert await streams.redis.xlen(streams.keys.stream("users")) == 20, "off unless it is set"
    async with Streams(settings=make_settings(keep=5)) as told:
        await Maintenance(told, desk.processor).look()
    assert await streams.redis.xlen(streams.keys.stream("users")) == 5
    assert await streams.redis.xlen(streams.keys.stream("notes")) == 1, "not what others read"


async def test_dead_letters_are_dropped_only_beyond_a_cap_and_not_in_silence(
    streams: Streams, start: StartConsumer, make_settings: MakeSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    desk = Desk()
    await start(desk.processor)
    await streams.publish_many([registered(Desk.REJECTED)] * 10)
    await wait_until(lambda: _dead(streams, 10))
    await Maintenance(streams, desk.processor).look()
    assert await streams.dead_letters("email").count() == 10
    capsys.readouterr()
    async with Streams(settings=make_settings(dead_most=12)) as told:
        await Maintenance(told, desk.processor).look()
    told_lines = capsys.readouterr().out
    assert "dead.filling" in told_lines
    assert "dead.dropped" not in told_lines
    oldest = [letter.id async for letter in streams.dead_letters("email").ls()]
    async with Streams(settings=make_settings(dead_most=7)) as told:
        await Maintenance(told, desk.processor).look()
    assert "dead.dropped" in capsys.readouterr().out
    assert [letter.id async for letter in streams.dead_letters("email").ls(Filter())] == oldest[3:]
    found = await account(streams)
    assert adds_up(found)
    assert (found.discarded, found.dead, found.gap) == (3, 7, 0)


async def _dead(streams: Streams, count: int) -> bool:
    return bool(await streams.redis.xlen(streams.keys.dead("email")) == count)


async def test_a_group_with_a_live_consumer_is_not_retired(streams: Streams, redis_client: redis.asyncio.Redis) -> None:
    """A heartbeat within a lease is one; a real consumer would make the group again before anybody could look."""
    await make_group(streams)
    users = streams.keys.stream("users")
    seconds, _ = await redis_client.time()
    await redis_client.zadd(streams.keys.consumers("email"), {"c": seconds * 1000 + 500})
    with pytest.raises(StreamsError, match="alive"):
        await streams.retire("email", apply=True)
    assert await redis_client.hexists(streams.keys.groups(), "email")
    assert [group["name"] for group in await redis_client.xinfo_groups(users)] == [b"email"]
    await redis_client.zadd(streams.keys.consumers("email"), {"c": (seconds - 60) * 1000})
    assert (await streams.retire("email", apply=True)).done
    assert await redis_client.xinfo_groups(users) == []
    with pytest.raises(NotFound, match="no group nobody"):
        await streams.retire("nobody")


async def test_a_retired_group_gives_up_what_it_says_and_may_begin_again(
    streams: Streams, start: StartConsumer, redis_client: redis.asyncio.Redis
) -> None:
    desk = Desk(attempts=2, first=600)
    consumer = await start(desk.processor)
    await streams.publish_many(map(registered, (Desk.REJECTED, Desk.FAILING, 9)))
    await wait_until(lambda: redis_client.zcard(streams.keys.due()))
    await wait_until(lambda: _dead(streams, 1))
    await settled(streams, 1)
    await consumer.stop()
    users = streams.keys.stream("users")
    await streams.publish_many([registered(9)] * 4)
    await redis_client.xreadgroup("email", "gone", {users: ">"}, count=1)
    looked = await streams.retire("email")
    assert (looked.done, looked.unread, looked.pending, looked.waiting, looked.dead) == (False, 3, 1, 1, 1)
    assert await redis_client.hexists(streams.keys.groups(), "email")
    done = await streams.retire("email", apply=True)
    assert (done.done, done.unread, done.pending, done.waiting) == (True, 3, 1, 1)
    assert await redis_client.exists(streams.keys.due(), streams.keys.waiting()) == 0
    assert await redis_client.exists(streams.keys.inbox("email"), streams.keys.consumers("email")) == 0
    assert await redis_client.xinfo_groups(users) == []
    assert await streams.dead_letters("email").count() == 1
    assert list((await streams.accounts()).gaps()) == []
    assert (await streams.trim("users", keep=2))[1].kept == 2
    await start(desk.processor)
    await wait_until(lambda: desk.seen.count(9) == 3)  # one before, and the two that are left
    found = await settled(streams, 3)
    assert adds_up(found)
    assert found.gaps == ()
