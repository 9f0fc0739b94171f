"""Mending dead letters: counted by kind, corrected, replayed in stages, parked when it does not help."""

from __future__ import annotations

import pytest

from schemas import StockBelowThreshold, UserRegistered
from streams import Processor, Settings, Streams, StreamsError, TooLarge
from streams.dead_letters.canary import Stage, canary
from streams.dead_letters.dead_letters import Tally
from streams.dead_letters.edit import corrected, fields_of
from streams.dead_letters.search import Filter
from streams.messages.letter import Letter
from streams.redis.entries import Entries
from tests.cli.consuming import Desk, registered
from tests.streams.conftest import MakeSettings, StartConsumer
from tests.streams.inspecting.test_reconciliation import account, adds_up
from tests.support.events import Noted
from tests.support.waiting import wait_until


async def dead(streams: Streams, count: int) -> list[Letter]:
    """Waits until so many are dead, and returns them."""

    async def look() -> list[Letter] | None:
        found = [letter async for letter in streams.dead_letters("email").ls()]
        return found if len(found) == count else None

    letters: list[Letter] = await wait_until(look)
    return letters


async def test_letters_of_one_kind_are_counted(streams: Streams, start: StartConsumer) -> None:
    await start(Desk(attempts=1).processor)
    await streams.publish_many(map(registered, [Desk.REJECTED] * 3 + [Desk.FAILING] * 2))
    letters = await dead(streams, 5)
    most, fewer = await streams.dead_letters("email").groups()
    assert (most.count, most.reason, most.error) == (3, "rejected", "DeadLetter: 550 no such mailbox")
    assert (fewer.count, fewer.reason) == (2, "failed")
    assert {letter.fingerprint for letter in letters} == {most.fingerprint, fewer.fingerprint}
    assert most.example in {letter.id for letter in letters}
    assert await streams.dead_letters("email").discard(only=Filter(fingerprint=fewer.fingerprint)) == Tally(2, 2)
    assert [kind.count for kind in await streams.dead_letters("email").groups()] == [3]


async def broken(streams: Streams) -> Letter:
    """A dead letter whose data is not what the schema says."""
    await streams.redis.xadd(
        streams.keys.stream("users"),
        {"type": "UserRegistered", "data": b'{"user_id": "seven", "email": "ada@example.com", "name": "Ada"}'},
    )
    (letter,) = await dead(streams, 1)
    assert letter.reason == "invalid"
    return letter


async def test_a_corrected_letter_is_delivered(streams: Streams, start: StartConsumer) -> None:
    desk = Desk()
    await start(desk.processor)
    letter = await broken(streams)
    letters = streams.dead_letters("email")
    new = await letters.edit(letter.id, registered(7), by="me")
    assert new.id != letter.id
    assert (new.event_id, new.reason, new.error) == (letter.event_id, letter.reason, letter.error)
    assert (new.first_failed_at, new.attempts, new.carried) == (letter.first_failed_at, letter.attempts, letter.carried)
    assert UserRegistered.decode(new.data, new.message.version) == registered(7)
    assert await letters.count() == 1
    trail = await streams.event(letter.event_id)
    assert [(group.state, group.dead_letter) for group in trail.groups] == [("dead", new.id)]
    assert "seven" not in str(trail), "the original holds what may be private"
    records = [
        dict(zip(e[::2], e[1::2], strict=True))
        async for _, e in Entries(streams).forward(streams.keys.history("email"))
    ]
    assert (records[-1][b"outcome"], records[-1][b"consumer"]) == (b"edited", b"me")
    assert records[-1][b"original"] == letter.data
    await letters.replay([new.id])
    await wait_until(lambda: desk.seen == [7])
    found = await account(streams)
    assert adds_up(found)
    assert found.gaps == ()


async def test_a_correction_must_be_an_event_of_its_type_and_size(streams: Streams, start: StartConsumer) -> None:
    await start(Desk().processor)
    letter = await broken(streams)
    letters = streams.dead_letters("email")
    with pytest.raises(StreamsError, match="is a UserRegistered; it cannot become a StockBelowThreshold"):
        await letters.edit(letter.id, StockBelowThreshold(business_id=1, sku="a", quantity=1, threshold=2))
    noted = Letter.decode("email", (b"1-0", [b"type", b"Noted", b"data", b"{}"]))
    with pytest.raises(TooLarge, match="over the cap of 1024"):
        corrected(noted, Noted(n=1, text="x" * 1024), "me", most=1024)
    assert [each.id async for each in letters.ls()] == [letter.id]


async def test_what_was_replayed_three_times_is_parked(streams: Streams, start: StartConsumer) -> None:
    desk = Desk()
    await start(desk.processor)
    await streams.publish(registered(Desk.REJECTED))
    letters = streams.dead_letters("email")
    for number in range(3):
        (letter,) = await dead(streams, 1)
        assert letter.carried.replays == number
        assert await letters.replay() == Tally(1, 1)
        await wait_until(lambda number=number: len(desk.seen) == number + 2)  # type: ignore[misc]
    (letter,) = await dead(streams, 1)
    assert await letters.replay(dry_run=True) == Tally(1, 0, 1)
    assert await letters.replay() == Tally(1, 0, 1)
    assert await letters.replay(only=Filter(type="UserRegistered")) == Tally(1, 0, 1)
    assert await letters.discard(dry_run=True) == Tally(1, 0)
    assert await letters.replay(force=True) == Tally(1, 1)
    (letter,) = await dead(streams, 1)
    assert await letters.replay([letter.id]) == Tally(1, 1), "somebody who names it means it"
    await wait_until(lambda: len(desk.seen) == 6)


async def test_a_canary_goes_on_while_it_goes_well(streams: Streams, start: StartConsumer) -> None:
    desk = Desk()
    await start(desk.processor)
    await streams.publish_many([registered(Desk.REJECTED)] * 30)
    await dead(streams, 30)
    desk.healed = True
    stages_seen: list[Stage] = []
    stages = await canary(streams, "email", on_stage=stages_seen.append)
    assert [(stage.replayed, stage.ending, stage.left) for stage in stages] == [
        (1, "passed", 29), (10, "passed", 19), (19, "passed", 0),
    ]  # fmt: skip
    assert stages_seen == stages
    assert await streams.dead_letters("email").count() == 0
    assert len(desk.seen) == 60


async def test_a_canary_stops_at_the_first_that_fails_as_before(streams: Streams, start: StartConsumer) -> None:
    """Retries included: it is not settled before they are through."""
    desk = Desk(attempts=2, first=0.2)
    await start(desk.processor)
    await streams.publish_many([registered(Desk.FAILING)] * 20)
    before = {letter.id for letter in await dead(streams, 20)}
    (stage,) = await canary(streams, "email", by="me")
    assert (stage.stage, stage.replayed, stage.ending, stage.left) == (1, 1, "came_back", 19)
    after = {letter.id for letter in await dead(streams, 20)}
    assert len(before - after) == 1
    assert stage.back in after - before


async def test_a_canary_stops_in_its_second_stage(streams: Streams, start: StartConsumer) -> None:
    desk, seen = Desk(), 0
    healed = Processor("email", concurrency=1)
    consumer = await start(desk.processor)
    await streams.publish_many([registered(Desk.REJECTED)] * 25)
    await dead(streams, 25)
    await consumer.stop()

    @healed.on(UserRegistered)
    async def one_in_five_fails(event: UserRegistered) -> None:
        nonlocal seen
        seen += 1
        if seen == 5:
            await desk.register(event)

    await start(healed)
    first, second = await canary(streams, "email", Filter(reason="rejected"))
    assert (first.ending, second.ending, second.replayed, second.left) == ("passed", "came_back", 10, 14)


async def test_another_failure_does_not_stop_a_canary(streams: Streams, start: StartConsumer) -> None:
    desk = Desk()
    await start(desk.processor)
    await streams.publish_many([registered(Desk.REJECTED)] * 3)
    await dead(streams, 3)
    desk.healed = True
    await streams.redis.xadd(streams.keys.stream("users"), {"type": "UserRegistered", "data": b"{"})
    await dead(streams, 4)
    stages = await canary(streams, "email", Filter(reason="rejected"))
    assert [stage.ending for stage in stages] == ["passed", "passed"]


async def test_a_canary_that_nobody_handles_ends_at_its_deadline(streams: Streams, start: StartConsumer) -> None:
    desk = Desk()
    consumer = await start(desk.processor)
    await streams.publish_many([registered(Desk.REJECTED)] * 2)
    await dead(streams, 2)
    await consumer.stop()
    (stage,) = await canary(streams, "email", within=0.4)
    assert (stage.ending, stage.replayed, stage.left) == ("too_slow", 1, 1)
    assert await streams.dead_letters("email").count() == 1


async def test_a_canary_leaves_parked_letters_alone(
    streams: Streams, settings_of: Settings, start: StartConsumer
) -> None:
    desk = Desk()
    await start(desk.processor)
    await streams.publish(registered(Desk.REJECTED))
    await dead(streams, 1)
    async with Streams(settings=settings_of) as strict:
        await strict.dead_letters("email").replay()
        await dead(streams, 1)
        assert await canary(strict, "email") == []
        assert [stage.ending for stage in await canary(strict, "email", force=True)] == ["came_back"]


@pytest.fixture
def settings_of(make_settings: MakeSettings) -> Settings:
    """Settings under which one replay is enough."""
    return make_settings(park_after=1)


@pytest.mark.parametrize(
    ("type", "version", "data", "fields"),
    [
        ("Noted", 1, b'{"n": "x", "more": 1}', {"n": "x"}),
        ("Renamed", 1, b'{"first": "Ada", "last": "Lovelace"}', {"full_name": "Ada Lovelace", "locale": "en"}),
        ("Renamed", 2, b'{"full_name": 7}', {"full_name": 7, "locale": "en"}),
        ("Renamed", 1, b'{"first": "Ada"}', {}),
        ("Noted", 1, b"[1]", {}),
        ("Noted", 1, b"{", {}),
        ("Nobody", 1, b'{"n": 1}', {}),
    ],
)
def test_the_fields_that_can_be_kept_of_a_letter(
    type: str, version: int, data: bytes, fields: dict[str, object]
) -> None:
    entry = [b"type", type.encode(), b"dataversion", b"%d" % version, b"data", data]
    assert fields_of(Letter.decode("email", (b"1-0", entry))) == fields
