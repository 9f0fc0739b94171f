"""Dead letters: looked through with filters and bounds, replayed to their one group once, discarded with a trace."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import orjson
import pytest

from schemas import UserRegistered
from streams import NotFound, Processor, Settings, Streams, StreamsError
from streams.dead_letters.dead_letters import Tally
from streams.dead_letters.search import Filter
from streams.messages.letter import Letter
from streams.messages.message import decode
from streams.redis.entries import PAGE, Entries
from tests.cli.consuming import Desk, registered
from tests.conftest import RedisFactory
from tests.streams.conftest import StartConsumer
from tests.support.waiting import wait_until


async def listed(streams: Streams, only: Filter = Filter(), **options: int) -> list[Letter]:
    """The dead letters of the group email."""
    return [letter async for letter in streams.dead_letters("email").ls(only, **options)]


async def fail(streams: Streams, start: StartConsumer, desk: Desk, *events: UserRegistered, foreign: int = 0) -> None:
    """Publishes events and waits until each of them is dead, and so many foreign entries with them."""
    await streams.publish_many(events)
    await start(desk.processor)
    await wait_until(lambda: _are_dead(streams, len(events) + foreign), message="all are dead")


async def _are_dead(streams: Streams, count: int) -> bool:
    return bool(await streams.redis.xlen(streams.keys.dead("email")) == count)


async def plant(
    streams: Streams, count: int, *, type: str = "UserRegistered", reason: str = "failed", user_id: int = 7
) -> None:
    """Adds dead letters as the settlement does, without the work before."""
    message = streams.message(registered(user_id))
    fields = dict(zip(message.encode()[::2], message.encode()[1::2], strict=True)) | {
        b"type": type.encode(), b"origin": b"o 1-0", b"failures": b"3", b"deliveries": b"4", b"group": b"email",
        b"reason": reason.encode(), b"error": b"E", b"attempts": b"3", b"at": b"2026-11-24T09:00:00+00:00",
    }  # fmt: skip
    pipe = streams.redis.pipeline(transaction=False)
    for _ in range(count):
        pipe.xadd(streams.keys.dead("email"), fields)
    await pipe.execute()


async def test_a_dead_letter_says_what_and_why(streams: Streams, start: StartConsumer) -> None:
    receipt = await streams.publish(registered(Desk.FAILING), key="k")
    await start(Desk(attempts=2, first=0.05).processor)
    await wait_until(lambda: _are_dead(streams, 1))
    (letter,) = await listed(streams)
    shown = letter.as_json()
    assert shown["event_id"] == receipt.id
    assert shown["id"] == letter.id
    assert (shown["group"], shown["type"], shown["reason"]) == ("email", "UserRegistered", "failed")
    assert (shown["attempts"], shown["deliveries"], shown["replays"]) == (2, 2, 0)
    assert shown["error"] == "RuntimeError: 451 try later"
    assert [failure["attempt"] for failure in shown["errors"]] == [1, 2]
    assert shown["first_failed_at"] < shown["last_failed_at"]
    assert shown["key"] == "k"
    assert "RuntimeError" in letter.traceback
    assert UserRegistered.decode(letter.data, 1).user_id == Desk.FAILING
    orjson.dumps(shown)


async def test_show_takes_the_letters_id_or_the_events(streams: Streams, start: StartConsumer) -> None:
    await fail(streams, start, Desk(), registered(Desk.REJECTED), registered(Desk.REJECTED))
    first, second = await listed(streams)
    letters = streams.dead_letters("email")
    assert (await letters.show(second.id)).event_id == second.event_id
    assert (await letters.show(second.event_id)).id == second.id
    assert (await letters.show(first.event_id)).id == first.id
    with pytest.raises(NotFound, match="no dead letter nothing"):
        await letters.show("nothing")
    with pytest.raises(NotFound, match="no dead letter 1-1"):
        await letters.show("1-1")


async def test_filters(streams: Streams, start: StartConsumer) -> None:
    desk = Desk(attempts=1)
    await streams.redis.xadd(streams.keys.stream("users"), {"type": "Unheard", "data": "{}"})
    await fail(streams, start, desk, registered(Desk.REJECTED), registered(Desk.FAILING), foreign=1)
    assert {letter.type for letter in await listed(streams, Filter(type="Unheard"))} == {"Unheard"}
    assert {letter.reason for letter in await listed(streams, Filter(reason="rejected"))} == {"rejected"}
    assert {letter.error for letter in await listed(streams, Filter(error="TRY LATER"))} == {
        "RuntimeError: 451 try later"
    }
    assert len(await listed(streams, Filter(since=timedelta(hours=1)))) == 3
    assert await listed(streams, Filter(older_than=timedelta(hours=1))) == []
    assert await listed(streams, Filter(since=timedelta(0))) == []
    assert len(await listed(streams, Filter(older_than=timedelta(0)))) == 3
    assert len(await listed(streams, limit=2)) == 2


async def test_ls_pages_through_many(streams: Streams) -> None:
    count = 2 * PAGE + 1
    await plant(streams, count)
    letters = await listed(streams)
    assert len(letters) == len({letter.id for letter in letters}) == count
    assert len(await listed(streams, limit=PAGE)) == PAGE


async def test_a_replay_starts_with_all_its_attempts(streams: Streams, start: StartConsumer) -> None:
    desk = Desk(attempts=2, first=0.05)
    await fail(streams, start, desk, registered(Desk.FAILING))
    (letter,) = await listed(streams)
    desk.seen.clear()
    assert await streams.dead_letters("email").replay([letter.event_id], by="me") == Tally(1, 1)
    await wait_until(lambda: _are_dead(streams, 1))
    await wait_until(lambda: len(desk.seen) == 2, message="it fails both attempts again")
    (again,) = await listed(streams)
    assert again.id != letter.id
    assert (again.event_id, again.attempts, again.carried.replays) == (letter.event_id, 2, 1)
    assert again.first_failed_at == letter.first_failed_at
    assert len(again.carried.errors) == 4
    history = [
        dict(zip(e[1][::2], e[1][1::2], strict=True))
        async for e in Entries(streams).forward(streams.keys.history("email"))
    ]
    assert [record[b"outcome"] for record in history] == [
        b"retried", b"dead_lettered", b"replayed", b"retried", b"dead_lettered",
    ]  # fmt: skip
    assert history[2][b"consumer"] == b"me"


async def test_a_replay_goes_to_its_group_only(streams: Streams, start: StartConsumer) -> None:
    desk, other, seen = Desk(), Processor("other"), list[int]()

    @other.on(UserRegistered)
    async def note(event: UserRegistered) -> None:
        seen.append(event.user_id)

    await start(other)
    await fail(streams, start, desk, registered(Desk.REJECTED))
    await wait_until(lambda: seen == [Desk.REJECTED])
    desk.healed = True
    await streams.dead_letters("email").replay()
    await wait_until(lambda: desk.seen == [Desk.REJECTED, Desk.REJECTED])
    assert await streams.redis.xlen(streams.keys.stream("users")) == 1
    assert await streams.redis.xlen(streams.keys.inbox("other")) == 0
    assert seen == [Desk.REJECTED]
    assert await listed(streams) == []


async def test_what_fails_again_during_a_replay_is_not_replayed_in_a_circle(
    streams: Streams, start: StartConsumer
) -> None:
    count = PAGE + 50  # more than one page: the second is read when much of the first is dead again
    await plant(streams, count, user_id=Desk.REJECTED)
    desk = Desk()
    await start(desk.processor)
    assert await streams.dead_letters("email").replay(rate=400) == Tally(count, count)
    await wait_until(lambda: _are_dead(streams, count))
    assert len(desk.seen) == count


async def test_each_is_replayed_once_however_many_replay(streams: Streams) -> None:
    await plant(streams, 300)
    tallies = await asyncio.gather(*(streams.dead_letters("email").replay() for _ in range(4)))
    assert sum(tally.done for tally in tallies) == 300
    inbox = [decode(entry, came_back=True) async for entry in Entries(streams).forward(streams.keys.inbox("email"))]
    assert len(inbox) == 300
    assert {(m.carried.failures, m.carried.deliveries, m.carried.replays) for m in inbox if m.carried} == {(0, 0, 1)}


async def test_rate_dry_run_limit_and_progress(streams: Streams) -> None:
    await plant(streams, 10)
    letters, told = streams.dead_letters("email"), list[Tally]()
    assert await letters.replay(dry_run=True) == Tally(10, 0)
    assert await letters.discard(dry_run=True) == Tally(10, 0)
    assert await letters.count() == 10
    began = asyncio.get_running_loop().time()
    assert await letters.replay(dry_run=True, rate=0.5) == Tally(10, 0)
    assert asyncio.get_running_loop().time() - began < 5, "counting has no rate"
    began = asyncio.get_running_loop().time()
    assert await letters.replay(limit=6, rate=20, progress=told.append) == Tally(6, 6)
    assert asyncio.get_running_loop().time() - began >= 6 / 20
    assert told[-1] == Tally(6, 6)
    assert len(told) == 3  # two at a time
    assert await letters.count() == 4


async def test_discard_leaves_a_line_in_the_history(streams: Streams) -> None:
    await plant(streams, 2, type="A")
    await plant(streams, 1, type="B")
    assert await streams.dead_letters("email").discard(only=Filter(type="A"), by="me") == Tally(2, 2)
    assert [letter.type for letter in await listed(streams)] == ["B"]
    history = [fields async for _, fields in Entries(streams).forward(streams.keys.history("email"))]
    assert [record[record.index(b"outcome") + 1] for record in history] == [b"discarded", b"discarded"]


async def test_nothing_is_changed_when_one_of_the_ids_is_unknown(streams: Streams) -> None:
    await plant(streams, 1)
    (letter,) = await listed(streams)
    with pytest.raises(NotFound, match="9-9"):
        await streams.dead_letters("email").replay([letter.id, "9-9"])
    assert await streams.dead_letters("email").count() == 1


async def test_what_cannot_be_meant_is_refused(streams: Streams) -> None:
    await plant(streams, 1)
    letters = streams.dead_letters("email")
    with pytest.raises(StreamsError, match="not both"):
        await letters.replay(["1-1"], Filter(type="A"))
    for rate in (0, -1, float("nan")):
        with pytest.raises(StreamsError, match="above 0"):
            await letters.replay(rate=rate)
    with pytest.raises(NotFound, match="no group emial"):
        await streams.dead_letters("emial").count()
    with pytest.raises(StreamsError, match="group"):
        streams.dead_letters("e{mail}")


async def test_a_replay_of_an_unsupported_message_begins_a_new_wait(streams: Streams) -> None:
    await plant(streams, 1, reason="unsupported")
    await plant(streams, 1, reason="failed")
    for entry in [entry async for entry in Entries(streams).forward(streams.keys.dead("email"))]:
        fields = entry[1] + [b"firstfailed", b"2020-01-01T00:00:00+00:00"]
        letter = Letter.decode("email", (entry[0], fields))
        message = decode((b"1-0", letter.again()), came_back=True)
        assert message.carried is not None
        kept = "" if letter.reason == "unsupported" else "2020-01-01T00:00:00+00:00"
        assert message.carried.first_failed == kept


async def test_a_foreign_entry_among_the_dead_letters_is_read_as_it_is(streams: Streams) -> None:
    entry_id = (await streams.redis.xadd(streams.keys.dead("email"), {"hello": b"\xff"})).decode()
    (letter,) = await listed(streams)
    assert letter.event_id == letter.entry_id == entry_id
    assert (letter.type, letter.reason, letter.attempts, letter.data) == ("", "", 0, b"")
    assert letter.first_failed_at == letter.last_failed_at != ""


async def test_an_unsafe_redis_is_not_replayed_into(redis_factory: RedisFactory, app: str) -> None:
    server = redis_factory(args=["--appendonly", "no"])
    settings = Settings(redis_url=server.url, app=app)
    async with Streams(settings=settings) as streams:
        await plant(streams, 1)
        with pytest.raises(StreamsError, match="append-only"):
            await streams.dead_letters("email").replay()
        assert await streams.dead_letters("email").count() == 1
        assert await streams.redis.xlen(streams.keys.inbox("email")) == 0
