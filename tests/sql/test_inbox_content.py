"""The inbox compares what it is given with what it did: an id is no proof that it is the same event."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, inspect, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from streams import Backoff, DeadLetter, Delivery, Event, Processor, Streams, Unavailable
from streams.messages.message import DATA, EXPIRES, FIELDS, TYPE, VERSION, Message
from streams.sql import CurrentTransaction, SqlInbox, create_tables, make_engine
from streams.sql.inbox import _digest
from streams.sql.tables import inbox as inbox_table
from tests.sql.ledger import enter, entries, open_ledger
from tests.streams.conftest import StartConsumer
from tests.support.events import Followed, Noted, Renamed
from tests.support.holders import Held
from tests.support.waiting import wait_until

SOURCE = "{t:0}:stream:notes"
ID = "the-same-id"


@pytest.fixture
async def inbox(engine: AsyncEngine) -> SqlInbox:
    """An inbox, and an empty ledger beside it."""
    await open_ledger(engine)
    return SqlInbox(engine)


def message_of(event: Event, id: str = ID) -> Message:
    return Message.for_event(event, source="/test", target=SOURCE, id=id)


async def handle(inbox: SqlInbox, message: Message, n: int, *follow_ups: Message, group: str = "books") -> list[str]:
    """One delivery whose handler enters `n`; the ids of what follows."""

    async def entering() -> tuple[Message, ...]:
        await enter(await CurrentTransaction().__aenter__(), n)  # type: ignore[attr-defined]
        return follow_ups

    delivery = Delivery(message, Held(group), source=SOURCE, entry_id=b"1-0", count=1)
    return [one.id for one in await inbox.run(delivery, entering)]


@pytest.mark.parametrize(
    ("place", "value"),
    [(TYPE, b"Followed"), (VERSION, b"2"), (DATA, b'{"n":1000}'), (DATA, b'{"n":1 }'), (DATA, b"")],
)
async def test_another_content_is_refused_with_its_reason(inbox: SqlInbox, place: int, value: bytes) -> None:
    """Another type, version or data: it is a dead letter that names the id, and the first one's effect stays alone."""
    first, other = message_of(Noted(n=1)), message_of(Noted(n=1))
    other.values[place] = value
    await handle(inbox, first, 1)

    with pytest.raises(DeadLetter, match="books has handled another event under the id the-same-id"):
        await handle(inbox, other, 2)
    await handle(inbox, other, 3, group="taxes")  # where nothing was handled under this id
    await handle(inbox, first, 4)
    assert await entries(inbox.engine) == [1, 3]


async def test_the_same_content_in_another_envelope_is_the_same_event(inbox: SqlInbox) -> None:
    """Time, trace, key and expiry are of a publication; a version that is written `01` is version 1."""
    first, again = message_of(Noted(n=1)), message_of(Noted(n=1))
    for place in range(len(FIELDS)):
        if place not in (TYPE, VERSION, DATA, 1):
            again.values[place] = b"x"
    again.values[VERSION] = b"01"
    again.values.append(b"2030-01-01T00:00:00Z")
    assert len(again.values) == EXPIRES + 1
    follow_up = message_of(Followed(n=2), "f")
    assert await handle(inbox, first, 1, follow_up) == ["f"]
    assert await handle(inbox, again, 2) == ["f"]
    assert await entries(inbox.engine) == [1]


_FIELD = st.binary(max_size=6)


@settings(max_examples=200)
@given(st.tuples(_FIELD, st.integers(0, 99), _FIELD), st.tuples(_FIELD, st.integers(0, 99), _FIELD))
def test_no_two_contents_have_one_digest(one: tuple[bytes, int, bytes], other: tuple[bytes, int, bytes]) -> None:
    """Also where a byte moves from one field to the next."""

    def digest(type: bytes, version: int, data: bytes) -> str:
        message = message_of(Noted(n=1))
        message.values[TYPE], message.values[VERSION], message.values[DATA] = type, b"%d" % version, data
        return _digest(message)

    assert (digest(*one) == digest(*other)) is (one == other)
    type, version, data = one
    assert digest(type + b"1:", version, data) != digest(type, version, b"1:" + data)


async def test_a_row_from_before_the_digest_is_the_same_event(inbox: SqlInbox) -> None:
    """There is nothing to compare with; handling it twice would be worse."""
    row = {"group_name": "books", "event_id": ID, "follow_ups": None, "handled_at": datetime.now(UTC)}
    async with inbox.engine.begin() as connection:
        await connection.execute(insert(inbox_table).values(row))
    assert await handle(inbox, message_of(Noted(n=1)), 1) == []
    assert await entries(inbox.engine) == []


@pytest.mark.parametrize("missing", ["column", "table"])
async def test_tables_older_than_the_code_lose_nothing(database_url: str, missing: str) -> None:
    """The group waits, with a line that says what to call, and goes on when it was called: by several at once."""
    engine = make_engine(database_url)
    await open_ledger(engine)
    if missing == "column":
        async with engine.begin() as connection:
            await connection.execute(
                text(
                    "CREATE TABLE streams_inbox (group_name VARCHAR(64), event_id VARCHAR(255), follow_ups TEXT, "
                    "handled_at TIMESTAMP WITH TIME ZONE NOT NULL, PRIMARY KEY (group_name, event_id))"
                )
            )
            await connection.execute(
                text("INSERT INTO streams_inbox (group_name, event_id, handled_at) VALUES ('books', 'old', :now)"),
                {"now": datetime.now(UTC)},
            )
    inbox = SqlInbox(engine)
    with pytest.raises(Unavailable, match=r"streams_inbox.*call create_tables\(engine\)"):
        await handle(inbox, message_of(Noted(n=1)), 1)
    await asyncio.gather(*(create_tables(engine) for _ in range(5)))
    async with engine.connect() as connection:
        columns = await connection.run_sync(
            lambda c: {column["name"] for column in inspect(c).get_columns(inbox_table.name)}
        )
    assert columns == {column.name for column in inbox_table.columns}
    await handle(inbox, message_of(Noted(n=1)), 1)
    if missing == "column":
        await handle(inbox, message_of(Noted(n=1), "old"), 2)
    assert await entries(engine) == [1]
    await engine.dispose()


async def test_two_contents_at_the_same_time(inbox: SqlInbox) -> None:
    """One commits; the other is refused, also where it began before the first one's row was there."""
    meeting = asyncio.Barrier(2)

    async def deliver(n: int) -> None:
        async def meet() -> tuple[Message, ...]:
            if inbox.engine.dialect.name == "postgresql":  # SQLite's writers do not meet
                await asyncio.wait_for(meeting.wait(), 10)
            await enter(await CurrentTransaction().__aenter__(), n)  # type: ignore[attr-defined]
            return ()

        delivery = Delivery(message_of(Noted(n=n)), Held("books"), source=SOURCE, entry_id=b"1-0", count=1)
        await inbox.run(delivery, meet)

    results = await asyncio.gather(deliver(1), deliver(2), return_exceptions=True)
    (refused,) = [result for result in results if result is not None]
    assert isinstance(refused, DeadLetter)
    assert len(await entries(inbox.engine)) == 1


@pytest.mark.newest_redis
async def test_a_foreign_entry_cannot_take_a_waiting_events_place(
    engine: AsyncEngine, streams: Streams, start: StartConsumer
) -> None:
    """An entry takes the id of an event that is not due yet. The event itself is then a dead letter, and can be
    handled: by removing the row of the other one, or edited into what it shall be.
    """
    await open_ledger(engine)
    inbox = SqlInbox(engine)
    books = Processor("books", retry=Backoff(first=0.01), transaction=inbox)

    @books.on(Noted)
    async def book(event: Noted, session: AsyncSession = CurrentTransaction()) -> Followed:
        await enter(session, event.n)
        return Followed(n=event.n)

    await start(books)
    real = await streams.publish(Noted(n=1000), delay=0.3)
    await streams.redis.xadd(streams.keys.stream("notes"), {"id": real.id, "type": "Noted", "data": '{"n": 0}'})
    letters = streams.dead_letters("books")

    async def dead() -> bool:
        return await letters.count() == 1

    await wait_until(dead, message="the real event is a dead letter")
    (letter,) = [one async for one in letters.ls()]
    assert (letter.message.id, letter.reason) == (real.id, "rejected")
    assert "has handled another event under the id" in letter.error
    assert await entries(engine) == [0]

    assert await inbox.forget("books", real.id)
    assert (await letters.replay([letter.id])).done == 1
    await wait_until(lambda: _are(engine, [0, 1000]), message="both had their effects")


@pytest.mark.newest_redis
async def test_an_edited_dead_letter_is_handled_as_it_is_now(
    engine: AsyncEngine, streams: Streams, start: StartConsumer
) -> None:
    """A failed handler left no row, so the corrected event is the first to be done under its id; and a replay from
    history of what it was before does not do it again in silence.
    """
    await open_ledger(engine)
    books = Processor("books", retry=Backoff(attempts=1), transaction=SqlInbox(engine))

    @books.on(Noted)
    async def book(event: Noted, session: AsyncSession = CurrentTransaction()) -> None:
        await enter(session, event.n)
        if event.n < 0:
            raise ValueError("a negative number")

    await start(books)
    failing = await streams.publish(Noted(n=-1))
    letters = streams.dead_letters("books")

    async def dead() -> bool:
        return await letters.count() == 1

    await wait_until(dead, message="it has failed")
    letter = await letters.edit(failing.id, Noted(n=1))
    assert letter.message.id == failing.id
    assert (await letters.replay([letter.id])).done == 1
    await wait_until(lambda: _are(engine, [1]), message="the corrected event is handled")
    await streams.replay("notes", group="books", ids=[failing.id])
    await wait_until(dead, message="what it was before is another content")
    assert await entries(engine) == [1]


@pytest.mark.newest_redis
async def test_an_event_of_an_old_version_is_one_however_it_comes(
    engine: AsyncEngine, streams: Streams, start: StartConsumer
) -> None:
    """It is upcast for the handler only: compared is what was published, also after a replay."""
    await open_ledger(engine)
    books = Processor("books", transaction=SqlInbox(engine))
    seen: list[str] = []

    @books.on(Renamed)
    async def book(event: Renamed, session: AsyncSession = CurrentTransaction()) -> None:
        seen.append(event.full_name)
        await enter(session, 1)

    await start(books)
    fields = {"id": "old-1", "type": "Renamed", "dataversion": "1", "data": '{"first": "Ada", "last": "L"}'}
    for _ in range(2):
        await streams.redis.xadd(streams.keys.stream("notes"), fields)  # type: ignore[arg-type]
    await streams.replay("notes", group="books", ids=["old-1"])

    async def settled() -> bool:
        (group,) = [one for one in (await streams.snapshot()).groups if one.name == "books"]
        return bool(seen) and group.lag + group.pending + group.waiting == 0

    await wait_until(settled, message="all is settled")
    assert set(seen) == {"Ada L"}
    assert await entries(engine) == [1]
    assert await streams.dead_letters("books").count() == 0


async def _are(engine: AsyncEngine, numbers: list[int]) -> bool:
    return await entries(engine) == numbers
