"""Replay from history: to one group, each event once, counted first, resumed, cancelled."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
import redis.asyncio

from streams import NotFound, Processor, Streams, StreamsError
from streams.admin.replay_job import Replay
from streams.messages.message import Message, decode
from streams.redis.entries import Entries
from tests.cli.consuming import registered
from tests.streams.conftest import StartConsumer
from tests.streams.inspecting.test_reconciliation import account, adds_up, make_group, settled
from tests.support.events import Followed, Noted
from tests.support.waiting import wait_until


async def inbox(streams: Streams, group: str = "a") -> list[int]:
    """The numbers of the notes in the group's inbox."""
    entries = [entry async for entry in Entries(streams).forward(streams.keys.inbox(group))]
    return [Noted.decode(decode(entry).data, 1).n for entry in entries]


async def history(streams: Streams, count: int) -> list[str]:
    """Publishes notes that two groups, `a` and `b`, may read; their ids."""
    for group in ("a", "b"):
        await make_group(streams, group, "notes")
    return [receipt.id for receipt in await streams.publish_many([Noted(n=n) for n in range(count)])]


async def test_it_goes_to_one_group_with_its_id_and_where_it_was(
    streams: Streams, redis_client: redis.asyncio.Redis
) -> None:
    ids = await history(streams, 3)
    job = await streams.replay("notes", group="a", by="me")
    assert (job.state, job.matched, job.replayed, job.by) == ("done", 3, 3, "me")
    entries = [decode(entry, came_back=True) async for entry in Entries(streams).forward(streams.keys.inbox("a"))]
    assert [message.id for message in entries] == ids
    notes = await redis_client.xrange(streams.keys.stream("notes"))
    for message, (entry_id, _) in zip(entries, notes, strict=True):
        assert message.carried is not None
        assert message.carried.origin == f"{streams.keys.stream('notes')} {entry_id.decode()}"
        assert (message.carried.replays, message.carried.failures, message.carried.deliveries) == (1, 0, 0)
    assert await inbox(streams, "b") == []
    assert len(notes) == 3
    found = await account(streams, "a")
    assert adds_up(found)
    assert (found.published, found.replayed, found.unread, found.gap) == (3, 3, 6, 0)


async def test_it_is_handled_again_by_that_group_only(streams: Streams, start: StartConsumer) -> None:
    seen: dict[str, list[tuple[int, int]]] = {"a": [], "b": []}
    for name, handled in seen.items():
        processor = Processor(name)

        @processor.on(Noted)
        async def handle(event: Noted, handled: list[tuple[int, int]] = handled) -> None:
            handled.append((event.n, 0))

        await start(processor)
    await streams.publish_many([Noted(n=n) for n in range(5)])
    await settled(streams, 5, "a")
    await settled(streams, 5, "b")
    await streams.replay("notes", group="a")
    found = await settled(streams, 10, "a")
    assert adds_up(found)
    assert len(seen["a"]) == 10
    assert len(seen["b"]) == 5


async def test_by_type_id_time_and_lane(streams: Streams) -> None:
    ids = await history(streams, 4)
    await streams.publish(Followed(n=7))
    moment = await streams.redis.time()

    async def later() -> bool:
        return await streams.redis.time() > (moment[0], moment[1] + 1000)

    await wait_until(later)  # or the low one could have an id that comes before those of the other lane
    low = await streams.publish(Noted(n=8), priority="low")
    plan = streams.replays.plan
    assert (await plan("notes", group="a")).matched == 6
    assert (await plan("notes", group="a", types=["Followed"])).matched == 1
    assert (await plan("notes:low", group="a")).matched == 1
    assert (await plan("notes", group="a", ids=[ids[1], low.id])).matched == 2
    keys = [entry[0].decode() async for entry in Entries(streams).forward(streams.keys.stream("notes"))]
    assert (await plan("notes:normal", group="a", ids=[keys[0]])).matched == 1
    assert (await plan("notes", group="a", since=keys[2], types=["Noted"])).matched == 3, "two, and the low one"
    assert (await plan("notes:normal", group="a", since=keys[1], until=keys[2])).matched == 2
    now = datetime.now(UTC)
    assert (
        await plan("notes", group="a", since=now - timedelta(minutes=1), until=now + timedelta(days=1))
    ).matched == 6
    assert await streams.replays.ls() == [], "a plan changes nothing"
    job = await streams.replay("notes:normal", group="a", since=keys[1], until=keys[2])
    assert job.replayed == 2
    assert await inbox(streams) == [1, 2]


async def test_both_ends_of_a_time_are_in_it(streams: Streams) -> None:
    """All entries of the first millisecond and of the last one; of the others nothing."""
    await history(streams, 1)  # what registers the group
    moment = datetime(2027, 5, 4, 3, 2, 1, 7000, UTC)
    ms = round(moment.timestamp() * 1000)
    fields = Message.for_event(Noted(n=1), source="/", target="").encode()
    for at, sequence in ((ms - 1, 2**64 - 1), (ms, 0), (ms, 5), (ms, 2**64 - 2), (ms + 1, 0)):
        await streams.redis.execute_command("XADD", streams.keys.stream("notes"), f"{at}-{sequence}", *fields)
    plan = streams.replays.plan
    assert (await plan("notes", group="a", since=moment, until=moment)).matched == 3
    assert (await plan("notes", group="a", since=moment)).matched == 4
    assert (await plan("notes", group="a", since=str(ms), until=str(ms))).matched == 3
    earlier = moment - timedelta(milliseconds=1)
    assert (await plan("notes", group="a", since=earlier, until=earlier)).matched == 1


async def test_what_cannot_be_meant_is_refused_and_nothing_is_done(streams: Streams) -> None:
    ids = await history(streams, 3)
    plan = streams.replays.plan
    with pytest.raises(NotFound, match="no group nobody"):
        await plan("notes", group="nobody")
    await make_group(streams, "users-only", "users")
    with pytest.raises(StreamsError, match="users-only does not read notes; it reads users"):
        await plan("notes", group="users-only")
    with pytest.raises(NotFound, match="nothing in notes matches between 1-0 and 2-0"):
        await plan("notes", group="a", since="1-0", until="2-0")
    with pytest.raises(NotFound, match="no event nothing"):
        await plan("notes", group="a", ids=[ids[0], "nothing"])
    with pytest.raises(StreamsError, match="time zone"):
        await plan("notes", group="a", since=datetime(2026, 1, 1))  # noqa: DTZ001 - that is what is refused
    with pytest.raises(StreamsError, match="neither a time nor an entry id"):
        await plan("notes", group="a", since="yesterday")
    with pytest.raises(NotFound, match="no priority"):
        await plan("notes:middle", group="a")
    with pytest.raises(StreamsError, match="above 0"):
        await streams.replay("notes", group="a", rate=0)
    with pytest.raises(NotFound, match="no replay"):
        await streams.replays.resume("nothing")
    assert await inbox(streams) == []


async def test_what_is_published_meanwhile_is_not_part_of_it(streams: Streams) -> None:
    await history(streams, 5)
    planned = await streams.replays.plan("notes", group="a")
    await streams.publish(Noted(n=99))
    assert (await streams.replays.begin(planned)).replayed == 5
    assert await inbox(streams) == list(range(5))


async def test_several_at_one_replay_add_each_event_once(streams: Streams) -> None:
    await history(streams, 1000)
    planned = await streams.replays.plan("notes", group="a")
    begun = asyncio.create_task(streams.replays.begin(planned, rate=2000))
    (job,) = await wait_until(streams.replays.ls)
    others = [streams.replays.resume(job.id) for _ in range(4)]
    ended = await asyncio.gather(begun, *others)
    assert {(each.state, each.replayed) for each in ended} == {("done", 1000)}
    assert await inbox(streams) == list(range(1000))


async def test_an_interrupted_one_is_resumed_where_it_was(streams: Streams) -> None:
    await history(streams, 500)
    planned = await streams.replays.plan("notes", group="a")
    task = asyncio.create_task(streams.replays.begin(planned, rate=1000))
    await wait_until(lambda: _replayed(streams, 137))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    (job,) = await streams.replays.ls()
    assert job.state == "running"
    assert 137 <= job.replayed < 500
    told: list[Replay] = []
    assert (await streams.replays.resume(job.id, progress=told.append)).replayed == 500
    assert await inbox(streams) == list(range(500))
    assert (told[0].replayed, told[-1].state) == (job.replayed, "done")
    assert (await streams.replays.resume(job.id)).replayed == 500, "a finished one stays as it is"
    assert len(await inbox(streams)) == 500


async def _replayed(streams: Streams, count: int) -> bool:
    return bool(await streams.redis.xlen(streams.keys.inbox("a")) >= count)


async def test_a_cancelled_one_stops_whoever_is_at_it(streams: Streams) -> None:
    await history(streams, 500)
    planned = await streams.replays.plan("notes", group="a")
    task = asyncio.create_task(streams.replays.begin(planned, rate=500))
    await wait_until(lambda: _replayed(streams, 20))
    (job,) = await streams.replays.ls()
    cancelled = await streams.replays.cancel(job.id)
    ended = await task
    assert ended == cancelled
    assert ended.state == "cancelled"
    assert len(await inbox(streams)) == ended.replayed < 500
    assert (await streams.replays.resume(job.id)).state == "cancelled"
    assert (await streams.replays.cancel(job.id)) == cancelled


async def test_a_rare_match_does_not_keep_the_cursor_back(streams: Streams) -> None:
    await history(streams, 2500)
    await streams.publish(Followed(n=1))
    seen: list[str] = []
    planned = await streams.replays.plan("notes", group="a", types=["Followed"])
    ended = await streams.replays.begin(planned, progress=lambda job: seen.append(job.cursor))
    assert ended.replayed == 1
    assert len(set(seen)) >= 3


async def test_a_retired_group_is_said(streams: Streams) -> None:
    await history(streams, 3)
    planned = await streams.replays.plan("notes", group="a")
    await streams.retire("a", apply=True)
    with pytest.raises(StreamsError, match="registered no more"):
        await streams.replays.begin(planned)
    assert await streams.redis.exists(streams.keys.inbox("a")) == 0


async def test_large_bodies_go_in_small_steps(streams: Streams) -> None:
    await make_group(streams, "a", "notes")
    await streams.publish_many([Noted(n=n, text="x" * 200_000) for n in range(20)])
    steps: list[int] = []
    planned = await streams.replays.plan("notes", group="a")
    await streams.replays.begin(planned, progress=lambda job: steps.append(job.replayed))
    assert max(after - before for before, after in pairwise(steps)) <= 6
    assert await inbox(streams) == list(range(20))


async def test_only_the_last_finished_ones_are_remembered(streams: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    await history(streams, 1)
    monkeypatch.setattr("streams.admin.replay._KEPT", 3)
    ids = [(await streams.replay("notes", group="a")).id for _ in range(5)]
    assert {job.id for job in await streams.replays.ls()} == set(ids[-3:])


async def test_a_foreign_entry_is_replayed_under_its_own_id(streams: Streams) -> None:
    await make_group(streams, "email")
    fields = {"type": "UserRegistered", "data": registered(9).encode()}
    entry_id = (await streams.redis.xadd(streams.keys.stream("users"), fields)).decode()
    await streams.replay("users", group="email")
    (message,) = [
        decode(entry, came_back=True) async for entry in Entries(streams).forward(streams.keys.inbox("email"))
    ]
    assert message.id == entry_id
