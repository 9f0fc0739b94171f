"""Accounting: everything that was published is accounted for, and what somebody removes shows up as a gap."""

from __future__ import annotations

import asyncio

import pytest
import redis.asyncio

from streams import Processor, Streams
from streams.consuming.maintenance import Maintenance
from streams.inspecting.ledger import GroupAccount
from streams.inspecting.reconciliation import Accounts
from tests.cli.consuming import Desk, registered
from tests.streams.conftest import StartConsumer, at_home
from tests.support.events import Noted
from tests.support.waiting import wait_until


async def account(streams: Streams, group: str = "email") -> GroupAccount:
    """The account of one group, now."""
    return next(found for found in (await streams.accounts()).groups if found.group == group)


def adds_up(found: GroupAccount) -> bool:
    """Whether the line of a group is true, stream by stream and as a whole."""
    for stream in found.streams:
        settled = stream.acked + stream.dead + stream.cancelled + stream.expired + stream.returned
        assert stream.published == settled + stream.pending + stream.unread + stream.gap, stream
    over = found.acked + found.dead + found.discarded + found.cancelled + found.expired
    whole = over + found.waiting + found.pending + found.unread
    assert found.published + found.replayed == whole + found.gap, found
    return True


async def settled(streams: Streams, count: int, group: str = "email") -> GroupAccount:
    """Waits until the group has acked so many."""

    async def look() -> GroupAccount | None:
        found = await account(streams, group)
        return found if found.acked == count else None

    found: GroupAccount = await wait_until(look)
    return found


async def make_group(streams: Streams, group: str = "email", stream: str = "users") -> None:
    """Registers a group as its first consumer does."""
    from streams.consuming import scripts as consuming_scripts

    await consuming_scripts.ensure_groups(
        streams.redis.execute_command,
        streams.keys,
        group=group,
        streams=[streams.keys.inbox(group), *streams.keys.by_priority(stream)],
    )


async def test_every_way_an_event_can_go_is_accounted_for(streams: Streams, start: StartConsumer) -> None:
    desk = Desk(attempts=2, first=0.05)
    kinds = (Desk.REJECTED, Desk.FAILING, Desk.HANGING, Desk.FOLLOWED, Desk.SNOOZED, 9, 9)
    await streams.publish_many(map(registered, kinds))
    await streams.publish(registered(9), priority="high")
    await streams.redis.xadd(streams.keys.stream("users"), {"type": "UserRegistered", "data": registered(9).encode()})
    await streams.publish(registered(9), delay=0.1)
    delayed = await streams.publish(registered(9), delay=600)
    await start(desk.processor)
    await wait_until(lambda: streams.redis.xlen(streams.keys.dead("email")))
    found = await settled(streams, 6)
    await wait_until(lambda: _dead(streams, 2))
    found = await account(streams)
    assert adds_up(found)
    assert (found.published, found.acked, found.dead, found.waiting, found.pending, found.gap) == (10, 6, 2, 1, 1, 0)
    await streams.cancel(delayed.id)
    letters = [letter async for letter in streams.dead_letters("email").ls()]
    await streams.dead_letters("email").discard([letters[0].id])
    desk.healed = True
    await streams.dead_letters("email").replay([letters[1].id])
    desk.let_go.set()
    found = await settled(streams, 8)
    assert adds_up(found)
    assert (found.dead, found.discarded, found.pending, found.unread) == (0, 1, 0, 0)
    assert list((await streams.accounts()).gaps()) == []
    assert found.last_seen > 0


async def test_a_group_was_last_alive_when_its_last_consumer_was(streams: Streams) -> None:
    """By the last heartbeat of one that is gone, in whole seconds; an older one takes nothing back."""
    from streams.consuming import scripts as consuming_scripts

    await make_group(streams)
    await streams.redis.hdel(streams.keys.ledger(), "seen email")  # it would be when it was made
    consumers = streams.keys.consumers("email")

    async def removed(consumer: str, beat: float | None, silent_ms: int) -> int:
        if beat is not None:
            await streams.redis.zadd(consumers, {consumer: beat})
        assert await consuming_scripts.retire_consumer(
            streams.redis.execute_command,
            streams.keys,
            group="email",
            consumer=consumer,
            streams=[streams.keys.inbox("email")],
            silent_ms=silent_ms,
        )
        assert await streams.redis.zscore(consumers, consumer) is None
        return (await account(streams)).last_seen

    assert await removed("never-alive", None, 60_000) == 0
    assert await removed("killed", 1_700_000_001_999, 60_000) == 1_700_000_001
    assert await removed("killed-before", 1_600_000_000_000, 60_000) == 1_700_000_001
    before = (await streams.redis.time())[0]
    assert before <= await removed("stopped", 1_700_000_002_000, 0) <= (await streams.redis.time())[0]


async def _dead(streams: Streams, count: int) -> bool:
    return bool(await streams.redis.xlen(streams.keys.dead("email")) == count)


async def test_it_adds_up_at_every_moment_under_load(streams: Streams, start: StartConsumer) -> None:
    """A look is one moment, however much moves meanwhile: no false alarm."""
    notes = Processor("notes", concurrency=20)
    count = 3000

    @notes.on(Noted)
    async def note(event: Noted) -> None:
        if event.n % 50 == 0:
            raise RuntimeError

    await start(notes)

    async def publish() -> None:
        for at in range(0, count, 100):
            await streams.publish_many([Noted(n=n) for n in range(at, at + 100)])

    publishing = asyncio.create_task(publish())
    looks = 0
    while not publishing.done() or looks < 20:
        from streams.inspecting.reconciliation import _Look

        accounts = await _Look(at_home(streams)).take()  # one look, without the second ones
        assert list(accounts.gaps()) == []
        assert all(adds_up(found) for found in accounts.groups)
        looks += 1
    await publishing
    assert looks >= 20


async def test_a_stranger_who_trims_what_is_unread_shows_up_with_the_ids(
    streams: Streams, redis_client: redis.asyncio.Redis
) -> None:
    await make_group(streams)
    users = streams.keys.stream("users")
    await streams.publish_many([registered(9)] * 10)
    ids = [entry_id.decode() for entry_id, _ in await redis_client.xrange(users)]
    await redis_client.xreadgroup("email", "c", {users: ">"}, count=3)
    await redis_client.xtrim(users, maxlen=4, approximate=False)
    found = await account(streams)
    (gap,) = found.gaps
    assert adds_up(found)
    assert (gap.group, gap.where.partition(" (")[0], gap.count) == ("email", "users", 6)
    assert (gap.after, gap.before) == ("0-0", ids[6])
    assert (found.pending, found.unread) == (0, 4), "three are pending without their entries"


async def test_a_stranger_who_deletes_one_in_the_middle_shows_up(
    streams: Streams, redis_client: redis.asyncio.Redis
) -> None:
    await make_group(streams)
    users = streams.keys.stream("users")
    await streams.publish_many([registered(9)] * 5)
    ids = [entry_id.decode() for entry_id, _ in await redis_client.xrange(users)]
    await redis_client.xdel(users, ids[2])
    (gap,) = (await account(streams)).gaps
    assert (gap.count, gap.before) == (1, ids[2])


async def test_a_stranger_who_removes_what_was_settled_is_no_loss(
    streams: Streams, start: StartConsumer, redis_client: redis.asyncio.Redis
) -> None:
    desk = Desk()
    await start(desk.processor)
    await streams.publish_many([registered(9)] * 5)
    await settled(streams, 5)
    await redis_client.xtrim(streams.keys.stream("users"), maxlen=0, approximate=False)
    await streams.publish(registered(9))
    found = await settled(streams, 6)
    assert adds_up(found)
    assert found.gaps == ()


async def test_a_stream_that_is_deleted_with_unread_events_shows_up(
    streams: Streams, redis_client: redis.asyncio.Redis
) -> None:
    await make_group(streams)
    await streams.publish_many([registered(9)] * 7)
    await redis_client.delete(streams.keys.stream("users"))
    assert (await account(streams)).gap == 7
    await streams.publish_many([registered(9)] * 2)
    found = await account(streams)
    assert adds_up(found)
    assert (found.gap, found.unread) == (7, 2)


async def test_an_ack_by_a_stranger_shows_up(streams: Streams, redis_client: redis.asyncio.Redis) -> None:
    await make_group(streams)
    users = streams.keys.stream("users")
    await streams.publish_many([registered(9)] * 3)
    read = await redis_client.xreadgroup("email", "c", {users: ">"}, count=2)
    await redis_client.xack(users, "email", read[0][1][0][0])
    assert (await account(streams)).gap == 1
    await redis_client.xgroup_delconsumer(users, "email", "c")
    assert (await account(streams)).gap == 2, "XGROUP DELCONSUMER destroys what is pending"


@pytest.mark.parametrize("what", ["dead", "inbox", "due"])
async def test_what_is_removed_elsewhere_shows_up(
    streams: Streams, start: StartConsumer, redis_client: redis.asyncio.Redis, what: str
) -> None:
    desk = Desk(attempts=2, first=60)
    consumer = await start(desk.processor)
    await streams.publish_many(map(registered, (Desk.REJECTED, Desk.FAILING)))
    await wait_until(lambda: _dead(streams, 1))
    await wait_until(lambda: redis_client.zcard(streams.keys.due()))
    await consumer.stop()
    if what == "inbox":
        await streams.dead_letters("email").replay()
    keys = {"dead": streams.keys.dead("email"), "inbox": streams.keys.inbox("email"), "due": streams.keys.due()}
    await redis_client.delete(keys[what])
    (gap,) = (await streams.accounts()).gaps()
    assert (gap.count, gap.where.partition(" (")[0].partition(":")[0]) == (1, what)


async def test_a_group_that_is_made_later_has_missed_nothing_it_could_have_had(
    streams: Streams, start: StartConsumer
) -> None:
    first = Desk()
    await start(first.processor)
    await streams.publish_many([registered(9)] * 10)
    await settled(streams, 10)
    await streams.trim("users", keep=4)
    await make_group(streams, "late")
    found = await account(streams, "late")
    assert adds_up(found)
    assert (found.published, found.unread, found.gap) == (4, 4, 0)


async def test_a_group_that_is_made_again_begins_its_books_anew(
    streams: Streams, start: StartConsumer, redis_client: redis.asyncio.Redis
) -> None:
    desk = Desk()
    await start(desk.processor)
    await streams.publish_many([registered(9)] * 5)
    await settled(streams, 5)
    await redis_client.xgroup_destroy(streams.keys.stream("users"), "email")
    found = await settled(streams, 10)  # from 0 again
    assert adds_up(found)
    assert found.gaps == ()


async def test_an_accepted_gap_is_told_no_more_and_the_next_one_is(
    streams: Streams, redis_client: redis.asyncio.Redis
) -> None:
    await make_group(streams)
    users = streams.keys.stream("users")
    await streams.publish_many([registered(9)] * 10)
    await redis_client.xtrim(users, maxlen=7, approximate=False)
    accounts = await Accounts.take(streams)
    assert await accounts.accept(streams, "email") == 1
    assert list((await streams.accounts()).gaps()) == []
    await redis_client.xtrim(users, maxlen=5, approximate=False)
    assert [gap.count for gap in (await streams.accounts()).gaps()] == [2]


async def test_a_repeated_publish_and_a_stale_settlement_are_counted_once(
    streams: Streams, redis_client: redis.asyncio.Redis
) -> None:
    from streams.messages.message import FIELDS, Message
    from streams.publishing import scripts as publishing_scripts
    from streams.settling import scripts as settling_scripts

    await make_group(streams)
    keys, users = streams.keys, streams.keys.stream("users")
    message = Message([b"v"] * len(FIELDS), target=users)
    for _ in range(2):
        await publishing_scripts.publish(
            redis_client.execute_command,
            keys,
            producer=keys.producer("p"),
            streams=[users],
            sequence=1,
            messages=[message],
        )
    read = await redis_client.xreadgroup("email", "c", {users: ">"})
    entry_id = read[0][1][0][0]
    for _ in range(2):
        await settling_scripts.settle(
            redis_client.execute_command,
            keys,
            streams=[users],
            group="email",
            consumer="c",
            turns="",
            limits="",
            operations=[1, 0, "-", "+", 1, 1, 1, entry_id, 0],
        )
    books = await redis_client.hgetall(keys.ledger())
    assert (books[b"published stream:users"], books[b"acked email stream:users"]) == (b"1", b"1")


async def test_upkeep_alarms_once_for_each_gap(
    streams: Streams, redis_client: redis.asyncio.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    await make_group(streams)
    await streams.publish_many([registered(9)] * 3)
    upkeep = Maintenance(streams, Desk().processor)
    await upkeep.look()
    assert "ledger.discrepancy" not in capsys.readouterr().out
    await redis_client.xtrim(streams.keys.stream("users"), maxlen=1, approximate=False)
    await upkeep.look()
    told = capsys.readouterr().out
    assert told.count("ledger.discrepancy") == 1
    assert "count=2" in told
    await upkeep.look()
    assert "ledger.discrepancy" not in capsys.readouterr().out
