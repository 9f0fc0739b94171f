"""Trail: where an event is in every group, at each station of its way."""

from __future__ import annotations

import asyncio

import orjson
import pytest
import redis.asyncio

from schemas import UserRegistered
from streams import Backoff, NotFound, Processor, Streams
from streams.inspecting import event_status, group_status
from streams.inspecting.group_status import GroupStatus
from streams.redis.keys import HISTORY_LENGTH
from tests.cli.consuming import Desk, registered
from tests.streams.conftest import StartConsumer
from tests.support.waiting import wait_until


@pytest.fixture
def desk() -> Desk:
    """The handlers."""
    return Desk()


async def email(streams: Streams, id: str) -> GroupStatus:
    """Where the group email has it."""
    (group,) = (await streams.event(id)).groups
    return group


async def in_state(streams: Streams, id: str, state: str) -> GroupStatus:
    """Waits until the group email has it in this state."""
    seen: list[str] = []

    async def look() -> GroupStatus | None:
        group = await email(streams, id)
        seen.append(group.state)
        return group if group.state == state else None

    found = await wait_until(look, message=lambda: f"{state}, not {seen[-1:]}")
    assert found is not None
    return found


async def test_before_any_group(streams: Streams) -> None:
    receipt = await streams.publish(registered(), key="k", priority="high")
    trail = await streams.event(receipt.id)
    assert (trail.id, trail.stream, trail.groups, trail.follow_ups) == (receipt.id, "users:high", (), ())
    assert trail.complete
    shown = trail.as_json()
    assert (shown["type"], shown["key"], shown["correlation_id"]) == ("UserRegistered", "k", receipt.id)
    orjson.dumps(shown)


async def test_unread_while_nobody_has_started(streams: Streams, redis_client: redis.asyncio.Redis) -> None:
    receipt = await streams.publish(registered())
    await redis_client.hset(streams.keys.groups(), "email", streams.keys.stream("users"))
    group = await email(streams, receipt.id)
    assert (group.state, group.attempts, group.where.partition(" ")[0]) == ("unread", 0, "users")


async def test_delayed(streams: Streams) -> None:
    receipt = await streams.publish(registered(), delay=500)
    trail = await streams.event(receipt.id)
    assert (trail.stream, trail.entry_id, trail.groups) == ("users", "", ())
    assert trail.due_in is not None
    assert 490 < trail.due_in <= 500


async def test_a_delayed_event_waits_for_every_group_that_reads_its_stream(
    streams: Streams, start: StartConsumer, desk: Desk
) -> None:
    await start(desk.processor)
    receipt = await streams.publish(registered(9), delay=500, priority="low")
    group = await email(streams, receipt.id)
    assert (group.state, group.where, group.attempts) == ("waiting", "due", 0)
    assert group.due_in is not None
    assert 490 < group.due_in <= 500
    assert (await streams.cancel(receipt.id)).groups == {"email": "cancelled"}
    assert (await in_state(streams, receipt.id, "cancelled")).history[-1]["outcome"] == "cancelled"


async def test_a_delayed_event_is_found_after_it_was_released(
    streams: Streams, start: StartConsumer, desk: Desk
) -> None:
    receipt = await streams.publish(registered(9), delay=0.2)
    await start(desk.processor)
    await wait_until(lambda: desk.seen == [9])
    assert (await in_state(streams, receipt.id, "acked")).attempts == 1


async def test_running(streams: Streams, start: StartConsumer, desk: Desk) -> None:
    receipt = await streams.publish(registered(Desk.HANGING))
    consumer = await start(desk.processor)
    group = await in_state(streams, receipt.id, "running")
    assert (group.attempts, group.deliveries, group.consumer) == (1, 1, consumer.name)
    assert group.idle is not None
    desk.let_go.set()
    group = await in_state(streams, receipt.id, "acked")
    assert (group.attempts, group.history) == (1, ())


async def test_retrying_waits_then_dies(streams: Streams, start: StartConsumer) -> None:
    desk = Desk(attempts=3, first=0.4)
    receipt = await streams.publish(registered(Desk.FAILING))
    await start(desk.processor)
    group = await in_state(streams, receipt.id, "retrying")
    assert (group.attempts, group.error) == (1, "RuntimeError: 451 try later")
    await wait_until(lambda: len(desk.seen) == 2)
    # The second retry waits under the id of its entry in the inbox, not of the one in the stream.
    group = await wait_until(lambda: _waiting_again(streams, receipt.id))
    assert group.where == "due"
    assert group.due_in is not None
    group = await in_state(streams, receipt.id, "dead")
    assert (group.attempts, group.deliveries, group.reason) == (3, 3, "failed")
    assert [line["outcome"] for line in group.history] == ["retried", "retried", "dead_lettered"]
    assert [failure["attempt"] for failure in group.errors] == [1, 2, 3]
    assert (await streams.dead_letters("email").show(group.dead_letter)).event_id == receipt.id


async def _waiting_again(streams: Streams, id: str) -> GroupStatus | None:
    group = await email(streams, id)
    return group if group.state == "retrying" and group.attempts == 2 and group.where == "due" else None


async def test_a_retry_that_waits_is_found_when_its_entries_are_gone(
    streams: Streams, start: StartConsumer, redis_client: redis.asyncio.Redis
) -> None:
    desk = Desk(attempts=3, first=0.2)
    receipt = await streams.publish(registered(Desk.FAILING))
    await start(desk.processor)
    await wait_until(lambda: _waiting_again(streams, receipt.id))
    await redis_client.xtrim(streams.keys.inbox("email"), maxlen=0, approximate=False)
    group = await email(streams, receipt.id)
    assert group.state in ("retrying", "dead")
    await in_state(streams, receipt.id, "dead")


async def test_snoozed(streams: Streams, start: StartConsumer, desk: Desk) -> None:
    receipt = await streams.publish(registered(Desk.SNOOZED))
    await start(desk.processor)
    group = await in_state(streams, receipt.id, "snoozed")
    assert (group.attempts, group.reason) == (0, "not before noon")
    assert group.due_in is not None
    assert 50 < group.due_in <= 60


async def test_acked_after_a_failure(streams: Streams, start: StartConsumer) -> None:
    desk = Desk(attempts=3, first=60)
    receipt = await streams.publish(registered(Desk.FAILING))
    await start(desk.processor)
    retrying = await in_state(streams, receipt.id, "retrying")
    desk.healed = True
    await streams.redis.zadd(streams.keys.due(), {retrying.waiting_id: 1}, xx=True)
    group = await in_state(streams, receipt.id, "acked")
    assert group.attempts == 2
    assert [line["outcome"] for line in group.history] == ["retried", "acked"]


async def test_replayed_and_discarded(streams: Streams, start: StartConsumer, desk: Desk) -> None:
    receipt = await streams.publish(registered(Desk.REJECTED))
    await start(desk.processor)
    await in_state(streams, receipt.id, "dead")
    desk.healed = True
    await streams.dead_letters("email").replay([receipt.id])
    group = await in_state(streams, receipt.id, "acked")
    assert (group.attempts, group.replays) == (1, 1)
    desk.healed = False
    other = await streams.publish(registered(Desk.REJECTED))
    await in_state(streams, other.id, "dead")
    await streams.dead_letters("email").discard([other.id])
    group = await in_state(streams, other.id, "dead")
    assert (group.is_settled, group.dead_letter) == (True, "")
    assert (group.reason, group.error) == ("rejected", "DeadLetter: 550 no such mailbox")


async def test_replayed_and_not_read_yet(streams: Streams, start: StartConsumer, desk: Desk) -> None:
    receipt = await streams.publish(registered(Desk.REJECTED))
    consumer = await start(desk.processor)
    await in_state(streams, receipt.id, "dead")
    await consumer.stop()
    await streams.dead_letters("email").replay([receipt.id])
    group = await email(streams, receipt.id)
    assert (group.state, group.attempts, group.replays) == ("unread", 0, 1)
    assert group.where.startswith("inbox:email ")


async def test_running_for_the_second_time(streams: Streams, start: StartConsumer) -> None:
    processor, go = Processor("email", retry=Backoff(attempts=3, first=0.05)), asyncio.Event()
    calls: list[int] = []

    @processor.on(UserRegistered)
    async def fail_then_hang(event: UserRegistered) -> None:
        calls.append(event.user_id)
        if len(calls) == 1:
            raise RuntimeError("451")
        await go.wait()

    receipt = await streams.publish(registered())
    consumer = await start(processor)
    group = await in_state(streams, receipt.id, "running")
    if group.attempts == 1:  # seen before it had failed
        await wait_until(lambda: len(calls) == 2)
        group = await in_state(streams, receipt.id, "running")
    assert (group.attempts, group.deliveries, group.consumer) == (2, 2, consumer.name)
    assert group.where.startswith("inbox:email ")
    assert [failure["attempt"] for failure in group.errors] == [1]
    go.set()


async def test_every_group_has_its_own_state(streams: Streams, start: StartConsumer, desk: Desk) -> None:
    other = Processor("audit")

    @other.on(UserRegistered)
    async def note(event: UserRegistered) -> None:
        """Takes note of nothing."""

    receipt = await streams.publish(registered(Desk.REJECTED))
    await start(other)
    await start(desk.processor)
    await wait_until(lambda: _states(streams, receipt.id, {"audit": "acked", "email": "dead"}))


async def _states(streams: Streams, id: str, wanted: dict[str, str]) -> bool:
    return {group.group: group.state for group in (await streams.event(id)).groups} == wanted


async def test_follow_ups(streams: Streams, start: StartConsumer, desk: Desk) -> None:
    receipt = await streams.publish(registered(Desk.FOLLOWED))
    await start(desk.processor)
    await in_state(streams, receipt.id, "acked")
    (follow_up,) = (await streams.event(receipt.id)).follow_ups
    assert (follow_up.type, follow_up.stream) == ("EmailRefused", "emails")
    trail = await streams.event(follow_up.id)
    assert trail.message is not None
    assert trail.message.causation_id == receipt.id


async def test_follow_ups_far_behind_their_cause(
    streams: Streams, start: StartConsumer, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are looked for inside Redis, so far that the trail says when it did not look at everything."""
    receipt = await streams.publish(registered(Desk.FOLLOWED))
    filler = registered(9)
    emails = streams.keys.stream("emails")
    for _ in range(3):
        async with streams.redis.pipeline(transaction=False) as pipe:
            for _ in range(2000):
                pipe.xadd(emails, {"data": filler.encode(), "type": "EmailRefused", "causationid": "another"})
            await pipe.execute()
    await start(desk.processor)
    await in_state(streams, receipt.id, "acked")
    trail = await streams.event(receipt.id)
    assert [follow_up.stream for follow_up in trail.follow_ups] == ["emails"]
    assert trail.complete
    monkeypatch.setattr("streams.inspecting.event_status._SCAN", 1000)
    trail = await streams.event(receipt.id)
    assert (trail.follow_ups, trail.complete) == ((), False)


async def test_foreign_entries(streams: Streams, start: StartConsumer, desk: Desk) -> None:
    body = registered(9).encode()
    bare = (await streams.redis.xadd(streams.keys.stream("users"), {"type": "UserRegistered", "data": body})).decode()
    await streams.redis.xadd(streams.keys.stream("users"), {"id": "order-7", "type": "UserRegistered", "data": body})
    await start(desk.processor)
    await wait_until(lambda: len(desk.seen) == 2)
    for id in (bare, "order-7"):
        trail = await streams.event(id)
        assert (trail.id, trail.stream) == (id, "users")
        assert [group.state for group in trail.groups] == ["acked"]


async def test_a_dead_letter_of_a_trimmed_stream(
    streams: Streams, start: StartConsumer, desk: Desk, redis_client: redis.asyncio.Redis
) -> None:
    receipt = await streams.publish(registered(Desk.REJECTED))
    await start(desk.processor)
    await in_state(streams, receipt.id, "dead")
    await redis_client.xtrim(streams.keys.stream("users"), maxlen=0, approximate=False)
    trail = await streams.event(receipt.id)
    assert (trail.message, trail.stream) == (None, "")
    assert [group.state for group in trail.groups] == ["dead"]


async def test_a_dead_letter_whose_history_was_trimmed(
    streams: Streams, start: StartConsumer, desk: Desk, redis_client: redis.asyncio.Redis
) -> None:
    receipt = await streams.publish(registered(Desk.REJECTED))
    await start(desk.processor)
    await in_state(streams, receipt.id, "dead")
    await redis_client.delete(streams.keys.history("email"))
    pipe = redis_client.pipeline(transaction=False)
    for _ in range(HISTORY_LENGTH):
        pipe.xadd(streams.keys.history("email"), {"id": "another", "outcome": "retried"})
    await pipe.execute()
    group = await email(streams, receipt.id)
    assert (group.state, group.reason) == ("dead", "rejected")


@pytest.mark.parametrize("id", ["0197f3a0-0000-7000-8000-000000000000", "1-1", "nobody", "", "x" * 5000, "\x00\n{}*"])
async def test_an_unknown_event_is_said_with_what_was_searched(streams: Streams, id: str) -> None:
    await streams.publish(registered())
    with pytest.raises(NotFound, match="looked through") as caught:
        await streams.event(id)
    said = str(caught.value)
    if id == "1-1":
        assert "the entry of that id in every stream" in said
        assert "100,000 entries" not in said
    elif id.startswith("0197"):  # an id that says when it was made
        assert "from 5 s before to 60 s after the event was made" in said
        assert "; 100,000 entries of every stream beyond that" in said
    else:
        assert "the newest 100,000 entries of every stream;" in said


async def test_a_search_that_a_bound_has_ended_says_so(
    streams: Streams, redis_client: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not found may be beyond it: in the inbox of a group, among its dead letters, among what waits."""
    monkeypatch.setattr(group_status, "_MOST", 3)
    monkeypatch.setattr(group_status, "_WAITING_MOST", 3)
    keys = streams.keys
    users, inbox, dead = keys.stream("users"), keys.inbox("email"), keys.dead("email")
    receipt = await streams.publish(registered())
    await redis_client.hset(keys.groups(), "email", users)
    await redis_client.xgroup_create(users, "email", "$")
    for place in (inbox, dead):
        for _ in range(2):
            await redis_client.xadd(place, {"id": "another", "type": "UserRegistered"})
        assert (await streams.event(receipt.id)).complete
        await redis_client.xadd(place, {"id": "another", "type": "UserRegistered"})
        # Dead letters are looked through where the history may have lost the line of one.
        pipe = redis_client.pipeline(transaction=False)
        for _ in range(HISTORY_LENGTH if place == dead else 0):
            pipe.xadd(keys.history("email"), {"id": "another", "outcome": "retried"})
        await pipe.execute()
        assert not (await streams.event(receipt.id)).complete, place
        await redis_client.delete(place, keys.history("email"))
    await redis_client.xadd(keys.history("email"), {"id": receipt.id, "outcome": "retried"})
    assert (await streams.event(receipt.id)).complete
    await redis_client.zadd(keys.due(), {f"email users {number}-0": number for number in range(5_000)})
    assert not (await streams.event(receipt.id)).complete
    await redis_client.delete(keys.due())


async def test_an_event_that_is_released_between_two_looks_is_found(
    streams: Streams, redis_client: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was not in its stream when that was looked at, and does not wait any more when that is."""
    receipt = await streams.publish(registered(), delay=3600)
    users, look = streams.keys.stream("users"), event_status._Search._delayed

    async def released(search: event_status._Search) -> object:
        await redis_client.xadd(users, {"id": receipt.id, "type": "UserRegistered", "data": "{}"})
        await redis_client.delete(streams.keys.due(), streams.keys.waiting())
        return await look(search)

    monkeypatch.setattr(event_status._Search, "_delayed", released)
    trail = await streams.event(receipt.id)
    assert (trail.stream, trail.due_in) == ("users", None)
