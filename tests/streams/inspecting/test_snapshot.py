"""Snapshot: exact figures, also where Redis has none, and for groups that never ran."""

from __future__ import annotations

import pytest
import redis.asyncio

from schemas import StockBelowThreshold
from streams import Streams
from streams.inspecting.snapshot import GroupState
from streams.inspecting.snapshot_reader import take_snapshot
from tests.cli.consuming import Desk, registered
from tests.streams.conftest import MakeSettings, StartConsumer
from tests.support.waiting import wait_until


async def email(streams: Streams) -> GroupState:
    """The group email, now."""
    return next(group for group in (await streams.snapshot()).groups if group.name == "email")


async def test_an_empty_redis(streams: Streams) -> None:
    snapshot = await streams.snapshot()
    assert (snapshot.streams, snapshot.groups) == ((), ())
    assert (snapshot.waiting.total, snapshot.waiting.overdue, snapshot.waiting.next_due) == (0, 0, None)
    assert snapshot.server.maxmemory_policy == "noeviction"
    assert snapshot.server.aof
    assert snapshot.server.appendfsync == "everysec"
    assert snapshot.server.version.count(".") == 2


async def test_streams_by_lane_before_any_group_exists(streams: Streams) -> None:
    await streams.publish_many([registered(9)] * 3)
    await streams.publish(registered(9), priority="high")
    await streams.publish(StockBelowThreshold(business_id=1, sku="a", quantity=1, threshold=2), priority="low")
    snapshot = await streams.snapshot()
    assert [(s.name, s.priority, s.length) for s in snapshot.streams] == [
        ("inventory", "low", 1), ("users", "high", 1), ("users", "normal", 3),
    ]  # fmt: skip
    assert all(s.oldest is not None and 0 <= s.oldest < 60 for s in snapshot.streams)


async def test_an_entry_is_as_old_as_its_id_says(streams: Streams) -> None:
    """Also one that waits unread behind settled ones; an id in the future is no age below zero."""
    users, seconds = streams.keys.stream("users"), (await streams.redis.time())[0]
    for ago in (7_200, 3_600, 1_800):
        await streams.redis.xadd(users, {"type": "UserRegistered"}, id=f"{(seconds - ago) * 1000}-0")
    await streams.redis.xgroup_create(users, "email", f"{(seconds - 7_200) * 1000}-0")
    await streams.redis.xgroup_create(users, "audit", f"{(seconds - 3_600) * 1000}-0")  # Redis does not know its lag
    await streams.redis.xadd(streams.keys.stream("files"), {"type": "Noted"}, id=f"{(seconds + 60) * 1000}-0")
    snapshot = await streams.snapshot()
    files, oldest = snapshot.streams
    assert files.oldest == 0.0
    assert oldest.oldest == pytest.approx(7_200, abs=30)
    audit, group = snapshot.groups
    assert group.oldest_unread == pytest.approx(3_600, abs=30)
    assert audit.oldest_unread == pytest.approx(1_800, abs=30)
    assert (audit.lag, group.lag) == (1, 2)


@pytest.mark.single("its registry names a key of another slot, which nobody but the test would")
async def test_a_group_that_never_started(streams: Streams) -> None:
    users = streams.keys.stream("users")
    await streams.redis.hset(streams.keys.groups(), "email", f"{streams.keys.inbox('email')} {users} x:stream:gone")
    await streams.publish_many([registered(9)] * 5)
    group = await email(streams)
    assert (group.lag, group.pending, group.dead, group.alive, group.consumers) == (5, 0, 0, 0, ())
    await streams.redis.delete(users)
    group = await email(streams)
    assert (group.lag, group.oldest_unread) == (0, None)


async def test_the_inbox_of_a_group_stands_apart_from_the_streams_it_reads(streams: Streams) -> None:
    users, inbox = streams.keys.stream("users"), streams.keys.inbox("email")
    for key in (users, inbox):
        await streams.redis.xgroup_create(key, "email", "0", mkstream=True)
    await streams.redis.hset(streams.keys.groups(), "email", f"{inbox} {users}")
    await streams.publish(registered(9))
    for _ in range(3):
        await streams.redis.xadd(inbox, {"type": "UserRegistered"})
    await streams.redis.xreadgroup("email", "gone", {inbox: ">"}, count=1)
    group = await email(streams)
    assert (group.inbox.stream, group.inbox.lag, group.inbox.pending) == ("inbox:email", 2, 1)
    assert [(reading.stream, reading.lag, reading.pending) for reading in group.streams] == [("users", 1, 0)]
    assert (group.lag, group.pending) == (3, 1)


async def test_a_group_made_by_hand_is_seen(streams: Streams) -> None:
    await streams.publish_many([registered(9)] * 4)
    await streams.redis.xgroup_create(streams.keys.stream("users"), "audit", "0")
    (group,) = (await streams.snapshot()).groups
    assert (group.name, group.lag) == ("audit", 4)


async def _lag(streams: Streams, client: redis.asyncio.Redis, read: int) -> tuple[int, int]:
    """The lag by the snapshot, and by asking Redis for every entry that is left."""
    users = streams.keys.stream("users")
    if read:
        await client.xreadgroup("email", "c", {users: ">"}, count=read)
    (found,) = await client.xinfo_groups(users)
    left = await client.xrange(users, b"(" + found["last-delivered-id"])
    return (await email(streams)).lag, len(left)


@pytest.mark.parametrize("read", [0, 1, 5, 9, 10])
@pytest.mark.parametrize("deleted", [[], [0], [4], [5], [9], [6, 7], [0, 9], list(range(10))], ids=str)
async def test_lag_is_exact_whatever_was_deleted(
    streams: Streams, redis_client: redis.asyncio.Redis, read: int, deleted: list[int]
) -> None:
    users = streams.keys.stream("users")
    await streams.publish_many([registered(9)] * 10)
    await redis_client.xgroup_create(users, "email", "0")
    ids = [entry_id for entry_id, _ in await redis_client.xrange(users)]
    if deleted:
        await redis_client.xdel(users, *(ids[number] for number in deleted))
    told, counted = await _lag(streams, redis_client, read)
    assert told == counted
    await redis_client.xdel(users, *ids[3:5])
    told, counted = await _lag(streams, redis_client, 0)
    assert told == counted


@pytest.mark.parametrize("read", [0, 2, 6])
async def test_lag_is_exact_after_trimming(streams: Streams, redis_client: redis.asyncio.Redis, read: int) -> None:
    users = streams.keys.stream("users")
    await streams.publish_many([registered(9)] * 10)
    await redis_client.xgroup_create(users, "email", "0")
    if read:
        await redis_client.xreadgroup("email", "c", {users: ">"}, count=read)
    await redis_client.xtrim(users, maxlen=6, approximate=False)
    told, counted = await _lag(streams, redis_client, 0)
    assert told == counted == min(6, 10 - read)


async def test_a_group_at_work(streams: Streams, start: StartConsumer, make_settings: MakeSettings) -> None:
    desk = Desk()
    kinds = (Desk.REJECTED, Desk.FAILING, Desk.HANGING, Desk.SNOOZED, 9)
    await streams.publish_many(map(registered, kinds))
    await streams.publish(registered(9), delay=500)
    consumer = await start(desk.processor)
    await wait_until(lambda: len(desk.seen) == len(kinds))
    await wait_until(lambda: _settled(streams))
    snapshot = await streams.snapshot()
    (group,) = snapshot.groups
    assert (group.lag, group.pending, group.waiting, group.dead, group.alive) == (0, 1, 2, 1, 1)
    (held,) = group.consumers
    assert (held.name, held.pending, held.alive) == (consumer.name, 1, True)
    assert (snapshot.waiting.total, snapshot.waiting.delayed, snapshot.waiting.overdue) == (3, 1, 0)
    assert snapshot.waiting.next_due is not None
    assert 50 < snapshot.waiting.next_due <= 60
    users = next(reading for reading in group.streams if reading.stream == "users")
    assert users.pending == 1
    assert users.oldest_idle is not None
    assert users.oldest_idle < 5
    desk.let_go.set()


async def _settled(streams: Streams) -> bool:
    group = await email(streams)
    return (group.pending, group.waiting, group.dead) == (1, 2, 1)


async def test_a_dead_consumer_that_holds_something(streams: Streams, redis_client: redis.asyncio.Redis) -> None:
    users = streams.keys.stream("users")
    await streams.publish(registered(9))
    await redis_client.xgroup_create(users, "email", "0")
    await redis_client.xreadgroup("email", "gone-1-ff", {users: ">"})
    await redis_client.zadd(streams.keys.consumers("email"), {"gone-1-ff": 1000, "idle-2-ff": 1000})
    group = await email(streams)
    assert [(c.name, c.pending, c.alive) for c in group.consumers] == [("gone-1-ff", 1, False), ("idle-2-ff", 0, False)]
    assert group.consumers[0].heartbeat is not None
    assert group.consumers[0].heartbeat > 1_000_000


async def test_overdue(streams: Streams, redis_client: redis.asyncio.Redis) -> None:
    await redis_client.zadd(streams.keys.due(), {"email users 1-0": 1000, "an-event": 2000})
    await redis_client.hset(streams.keys.waiting(), mapping={"email users 1-0": b"x", "an-event": b"x"})
    waiting = (await streams.snapshot()).waiting
    assert (waiting.total, waiting.delayed, waiting.overdue) == (2, 1, 2)
    assert waiting.next_due is not None
    assert waiting.next_due < -1_000_000


async def test_taking_one_changes_nothing(streams: Streams, redis_client: redis.asyncio.Redis) -> None:
    await streams.publish_many([registered(9)] * 3)
    await redis_client.xgroup_create(streams.keys.stream("users"), "email", "0")
    before = await _writes(redis_client)
    await take_snapshot(streams)
    assert await _writes(redis_client) == before


async def _writes(client: redis.asyncio.Redis) -> int:
    """How many changes since the last save: it counts each one."""
    return int((await client.info("persistence"))["rdb_changes_since_last_save"])
