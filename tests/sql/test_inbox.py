"""SqlInbox: effects happen once, with their follow-ups, whatever comes twice or fails in between."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, func, insert, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from streams import Backoff, DeadLetter, Delivery, Processor, Streams, StreamsError, Unavailable
from streams.messages.message import Message
from streams.sql import CurrentTransaction, SqlInbox, create_tables, make_engine
from streams.sql.error_classes import is_away, is_transient
from streams.sql.tables import inbox as inbox_table
from tests.sql.conftest import new_postgres
from tests.sql.ledger import enter, entries, open_ledger
from tests.streams.conftest import StartConsumer
from tests.support.events import Followed, Noted
from tests.support.holders import Held
from tests.support.waiting import wait_until

SOURCE = "{t:0}:stream:notes"


def delivery_of(message: Message, source: str = SOURCE, entry_id: bytes = b"1-0", group: str = "books") -> Delivery:
    """One hand-over of a message."""
    return Delivery(message, Held(group), source=source, entry_id=entry_id, count=1)


def noted(n: int, id: str = "") -> Message:
    """A message about a note."""
    return Message.for_event(Noted(n=n), source="/test", target=SOURCE, id=id)


Handle = Callable[[], Awaitable[tuple[Message, ...]]]


def entering(n: int, *follow_ups: Message, seen: list[int] | None = None) -> Handle:
    """A handler that enters `n` into the ledger."""

    async def handle() -> tuple[Message, ...]:
        if seen is not None:
            seen.append(n)
        await enter(await CurrentTransaction().__aenter__(), n)  # type: ignore[attr-defined]
        return follow_ups

    return handle


@pytest.fixture
async def inbox(engine: AsyncEngine) -> SqlInbox:
    """An inbox, and an empty ledger beside it."""
    await open_ledger(engine)
    return SqlInbox(engine)


async def test_an_event_that_comes_twice_is_handled_once(inbox: SqlInbox) -> None:
    """The second time the handler is not called, and the follow-ups are the first ones to the byte."""
    first = noted(2)
    first.values[8], first.when = b"\xff\x00not text", "+5000"
    message, seen = noted(1), list[int]()

    told = await inbox.run(delivery_of(message), entering(1, first, seen=seen))
    again = await inbox.run(delivery_of(message), entering(1, noted(3), seen=seen))

    assert seen == [1]
    assert await entries(inbox.engine) == [1]
    assert told == (first,)
    assert [(m.values, m.target, m.when) for m in again] == [(first.values, SOURCE, "+5000")]


async def test_groups_do_not_see_each_others_rows(inbox: SqlInbox) -> None:
    """Each group handles the event for itself."""
    message = noted(1)
    for group in ("books", "taxes", "books"):
        await inbox.run(delivery_of(message, group=group), entering(1))
    assert await entries(inbox.engine) == [1, 1]


async def test_a_failed_handler_leaves_nothing(inbox: SqlInbox) -> None:
    """Neither its effect nor the row, so that the retry handles it."""
    message = noted(1)

    async def fail() -> tuple[Message, ...]:
        await entering(1)()
        raise RuntimeError("after the effect")

    with pytest.raises(RuntimeError, match="after the effect"):
        await inbox.run(delivery_of(message), fail)
    assert await entries(inbox.engine) == []
    await inbox.run(delivery_of(message), entering(1))
    assert await entries(inbox.engine) == [1]


async def test_a_cancelled_handler_leaves_nothing(inbox: SqlInbox) -> None:
    """A timeout, or a lease that was lost, in the middle of it."""
    begun = asyncio.Event()

    async def hang() -> tuple[Message, ...]:
        await entering(1)()
        begun.set()
        await asyncio.Event().wait()
        return ()

    message = noted(1)
    task = asyncio.ensure_future(inbox.run(delivery_of(message), hang))
    await asyncio.wait_for(begun.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await entries(inbox.engine) == []
    await inbox.run(delivery_of(message), entering(1))
    assert await entries(inbox.engine) == [1]


async def test_a_handler_cannot_commit_half(inbox: SqlInbox) -> None:
    """Its `commit()` is none: what fails afterwards takes everything along."""

    async def commit_and_fail() -> tuple[Message, ...]:
        session = await CurrentTransaction().__aenter__()  # type: ignore[attr-defined]
        await enter(session, 1)
        await session.commit()
        raise RuntimeError("after a commit")

    with pytest.raises(RuntimeError):
        await inbox.run(delivery_of(noted(1)), commit_and_fail)
    assert await entries(inbox.engine) == []


async def test_a_handler_that_rolls_back_has_failed(inbox: SqlInbox) -> None:
    """It would else be done without having done anything."""

    async def roll_back() -> tuple[Message, ...]:
        session = await CurrentTransaction().__aenter__()  # type: ignore[attr-defined]
        await enter(session, 1)
        await session.rollback()
        return ()

    with pytest.raises(StreamsError, match="rolled its transaction back"):
        await inbox.run(delivery_of(noted(1)), roll_back)
    assert await entries(inbox.engine) == []


async def test_a_zombie_and_its_heir_enter_once(engine: AsyncEngine) -> None:
    """Two processes handle the event at the same time: one commits, the other gets the first one's follow-ups.

    Twenty events, two inboxes with nothing in common but the database.
    """
    await open_ledger(engine)
    other = make_engine(engine.url.render_as_string(hide_password=False))
    twins = (SqlInbox(engine), SqlInbox(other))
    meeting = asyncio.Barrier(2)

    async def handle(inbox: SqlInbox, n: int, message: Message) -> list[str]:
        async def meet() -> tuple[Message, ...]:
            if engine.dialect.name == "postgresql":  # SQLite's writers do not meet
                await asyncio.wait_for(meeting.wait(), 10)
            return await entering(n, noted(n))()

        return [follow_up.id for follow_up in await inbox.run(delivery_of(message), meet)]

    for n in range(20):
        message = noted(n)
        first, second = await asyncio.gather(*(handle(inbox, n, message) for inbox in twins))
        assert first == second
    assert await entries(engine) == list(range(20))
    await other.dispose()


async def test_a_handlers_own_violation_is_its_failure(inbox: SqlInbox) -> None:
    """A constraint of the business that breaks is no sign that the event was handled."""
    table = Table("unique_things", MetaData(), Column("n", Integer, primary_key=True))
    async with inbox.engine.begin() as connection:
        await connection.run_sync(table.metadata.create_all)
        await connection.execute(insert(table).values(n=1))

    async def violate() -> tuple[Message, ...]:
        session = await CurrentTransaction().__aenter__()  # type: ignore[attr-defined]
        await session.execute(insert(table).values(n=1))
        return ()

    with pytest.raises(IntegrityError):
        await inbox.run(delivery_of(noted(1)), violate)


async def test_entry_ids_of_two_streams_are_two_events(inbox: SqlInbox) -> None:
    """A foreign entry without an id goes by its entry id, which is unique in its stream only."""
    fields = [b"type", b"Noted", b"data", b'{"n": 1}']
    for source in (SOURCE, SOURCE + ":high", SOURCE):
        message = Message.decode(b"7-0", fields)
        await inbox.run(delivery_of(message, source, b"7-0"), entering(1))
    assert await entries(inbox.engine) == [1, 1]


@pytest.mark.parametrize("id", ["x" * 5000, "nul\0byte", "ümläut", "with space", " "])
async def test_an_id_of_any_kind_is_recognised(inbox: SqlInbox, id: str) -> None:
    """Longer than an index takes, with bytes that a database refuses: a foreign publisher may choose it."""
    for other in (id, id, id + "y"):
        await inbox.run(delivery_of(noted(1, id=other)), entering(1))
    assert await entries(inbox.engine) == [1, 1]


async def test_sums_do_not_lose_an_addend(inbox: SqlInbox) -> None:
    """Read, think, write: 20 handlers at once add up, each on the balance before it. Where they collide, they are
    called again.
    """
    table = Table("balance", MetaData(), Column("total", Integer))
    serial = inbox.engine.execution_options(isolation_level="SERIALIZABLE")
    async with inbox.engine.begin() as connection:
        await connection.run_sync(table.metadata.create_all)
        await connection.execute(insert(table).values(total=0))
    inboxes = (SqlInbox(serial), SqlInbox(serial))

    async def add() -> tuple[Message, ...]:
        session = await CurrentTransaction().__aenter__()  # type: ignore[attr-defined]
        total = await session.scalar(select(table.c.total))
        await asyncio.sleep(0)
        await session.execute(update(table).values(total=total + 1))
        return ()

    for _ in range(10):
        await asyncio.gather(*(inbox.run(delivery_of(noted(1)), add) for inbox in inboxes))
    async with inbox.engine.connect() as connection:
        assert await connection.scalar(select(table.c.total)) == 20


async def test_a_deadlock_is_tried_again(postgres_url: str) -> None:
    """PostgreSQL ends one of two transactions that wait for each other; its handler is called once more."""
    engine = make_engine(postgres_url)
    await create_tables(engine)
    await open_ledger(engine)
    inbox, meeting, calls = SqlInbox(engine), asyncio.Barrier(2), list[int]()

    def locking(*keys: int) -> Handle:
        first_time = True

        async def handle() -> tuple[Message, ...]:
            nonlocal first_time
            session = await CurrentTransaction().__aenter__()  # type: ignore[attr-defined]
            calls.append(keys[0])
            await session.execute(text(f"SELECT pg_advisory_xact_lock({keys[0]})"))
            if first_time:
                first_time = False
                await asyncio.wait_for(meeting.wait(), 10)
            await session.execute(text(f"SELECT pg_advisory_xact_lock({keys[1]})"))
            await enter(session, keys[0])
            return ()

        return handle

    await asyncio.gather(
        inbox.run(delivery_of(noted(1)), locking(1, 2)), inbox.run(delivery_of(noted(2)), locking(2, 1))
    )
    assert await entries(engine) == [1, 2]
    assert len(calls) == 3
    await engine.dispose()


def test_a_fault_is_found_in_a_group() -> None:
    """Of a handler's task group: away with one that is, done again when all that failed in it will do."""

    def fault(state: str) -> DBAPIError:
        original = Exception("no")
        original.sqlstate = state  # type: ignore[attr-defined]
        return DBAPIError("select", {}, original)

    away, transient, other = fault("08006"), fault("40001"), ValueError("no")
    assert is_away(ExceptionGroup("all", [other, ExceptionGroup("inner", [away])]))
    assert not is_away(ExceptionGroup("all", [other, transient]))
    assert is_transient(ExceptionGroup("all", [transient, ExceptionGroup("inner", [transient])]))
    assert not is_transient(ExceptionGroup("all", [transient, other]))


@pytest.mark.parametrize("rejects", [False, True], ids=["away", "rejected"])
async def test_a_group_that_a_handler_raises_in_a_transaction_is_looked_into(inbox: SqlInbox, rejects: bool) -> None:
    """An outage in it is one, unless the handler has said that the event is never to come again."""
    away = DBAPIError("select", {}, Exception("no"), connection_invalidated=True)

    async def handle() -> tuple[Message, ...]:
        await entering(1)()
        raise ExceptionGroup("both", [away, DeadLetter("never")] if rejects else [away, ValueError("no")])

    with pytest.raises(ExceptionGroup if rejects else Unavailable):
        await inbox.run(delivery_of(noted(1)), handle)
    assert await entries(inbox.engine) == []


async def test_a_database_that_is_away_opens_the_breaker(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Before a transaction and in the middle of one: `Unavailable`, and nothing is half done. Then it is back."""
    cluster = new_postgres()
    try:
        engine = make_engine(cluster.start().create())
        await create_tables(engine)
        await open_ledger(engine)
        inbox, message = SqlInbox(engine), noted(1)

        async def lose_it() -> tuple[Message, ...]:
            await entering(1)()
            await asyncio.to_thread(cluster.stop)
            return ()

        with pytest.raises(Unavailable, match="database") as caught:
            await inbox.run(delivery_of(message), lose_it)
        assert caught.value.dependency == "database"
        with pytest.raises(Unavailable):
            await inbox.run(delivery_of(message), entering(1))
        await asyncio.to_thread(cluster.start)
        await inbox.run(delivery_of(message), entering(1))
        assert await entries(engine) == [1]
        await engine.dispose()
    finally:
        cluster.remove()


async def test_pruning_removes_the_old_in_batches(inbox: SqlInbox) -> None:
    """More than one batch of old rows goes, what is younger stays."""
    await inbox.run(delivery_of(noted(0)), entering(0))
    async with inbox.engine.begin() as connection:
        now = await connection.scalar(select(inbox_table.c.handled_at))
        rows = [
            {"group_name": "books", "event_id": f"old-{n}", "handled_at": now - timedelta(days=31)} for n in range(2500)
        ]
        await connection.execute(insert(inbox_table), rows)
    assert await inbox.prune(timedelta(days=30)) == 2500
    async with inbox.engine.connect() as connection:
        assert await connection.scalar(select(func.count()).select_from(inbox_table)) == 1
    assert await inbox.prune(timedelta(days=30)) == 0


async def test_what_is_forgotten_is_handled_again(inbox: SqlInbox) -> None:
    """For a replay that shall have its effects a second time."""
    message = noted(1)
    await inbox.run(delivery_of(message), entering(1))
    assert await inbox.forget("books", message.id)
    assert not await inbox.forget("books", message.id)
    await inbox.run(delivery_of(message), entering(1))
    assert await entries(inbox.engine) == [1, 1]


async def test_tables_are_made_by_many_at_once(database_url: str) -> None:
    """Ten processes that start together."""
    engines = [make_engine(database_url) for _ in range(10)]
    await asyncio.gather(*(create_tables(engine) for engine in engines))
    for engine in engines:
        await engine.dispose()


@pytest.mark.parametrize(
    "url",
    [
        "", "mysql://root:hunter2@host/db", "nonsense:hunter2", "sqlite+pysqlite:///x",
        "postgresql://root:hunter2@host:abc/db", "postgresql://root:hunter2@host:99999999999999999999x/db",
    ],
)  # fmt: skip
def test_a_wrong_url_is_refused_without_its_password(url: str) -> None:
    """In one line that says what to write."""
    with pytest.raises(StreamsError, match="postgresql://") as caught:
        make_engine(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("mode", ["disable", "prefer"])
async def test_a_url_may_say_sslmode(postgres_url: str, mode: str) -> None:
    """As libpq, its tools and most hosters write it."""
    engine = make_engine(f"{postgres_url}{'&' if '?' in postgres_url else '?'}sslmode={mode}")
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT 1")) == 1
    await engine.dispose()


@pytest.mark.newest_redis
async def test_a_whole_processor_on_a_database(engine: AsyncEngine, streams: Streams, start: StartConsumer) -> None:
    """Fifty events, some published twice under one id, some failing at first: each once, with its follow-up."""
    await open_ledger(engine)
    books = Processor("books", concurrency=8, retry=Backoff(first=0.01), transaction=SqlInbox(engine))
    failed: set[int] = set()

    @books.on(Noted)
    async def book(event: Noted, session: AsyncSession = CurrentTransaction()) -> Followed:
        await enter(session, event.n)
        if event.n % 5 == 0 and event.n not in failed:
            failed.add(event.n)
            raise RuntimeError("after the effect")
        return Followed(n=event.n)

    await start(books)
    messages = [streams.message(Noted(n=n)) for n in range(50)]
    for _ in range(2):
        await streams.append(messages)
    await wait_until(lambda: _settled(streams, "books"), message="all is settled")

    assert await entries(engine) == list(range(50))
    published = await streams.redis.xrange(streams.keys.stream("notes"))
    follow_ups = [fields[b"id"] for _, fields in published if fields[b"type"] == b"Followed"]
    assert len(set(follow_ups)) == 50


async def _settled(streams: Streams, group: str) -> bool:
    infos = [await streams.redis.xinfo_groups(key) for key in (streams.keys.stream("notes"), streams.keys.inbox(group))]
    counts = [info["pending"] or info["lag"] for (info,) in infos]
    return not any(counts) and not await streams.redis.zcard(streams.keys.due())
