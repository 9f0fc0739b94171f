"""Outbox and relay: what is committed is published, once and in the order of its commits; nothing else is."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from sqlalchemy import Column, Integer, MetaData, String, Table, create_engine, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session
from structlog.testing import capture_logs

from schemas import StockBelowThreshold
from streams import Processor, Settings, Streams, StreamsError, TooLarge
from streams.messages.claims import MARK, ClaimStore
from streams.sql import CurrentTransaction, Outbox, SqlInbox, create_tables, make_engine
from streams.sql.relay import Relay
from streams.sql.tables import outbox as outbox_table
from tests.conftest import RedisFactory
from tests.streams.conftest import StartConsumer
from tests.support.events import Followed, Noted
from tests.support.waiting import wait_until

pytestmark = pytest.mark.newest_redis


@pytest.fixture
def outbox(app: str) -> Outbox:
    """An outbox of the test's app."""
    return Outbox(Settings(app=app))


@pytest.fixture
async def relay(engine: AsyncEngine, streams: Streams) -> AsyncIterator[Relay]:
    """A relay that is not running."""
    return Relay(engine, streams, lease=60)


async def published(streams: Streams, stream: str = "notes", lane: Any = "normal") -> list[dict[bytes, bytes]]:
    """What is in a lane."""
    return [fields for _, fields in await streams.redis.xrange(streams.keys.stream(stream, lane))]


async def rows(engine: AsyncEngine) -> int:
    """How many rows wait."""
    async with engine.connect() as connection:
        return int(await connection.scalar(select(func.count()).select_from(outbox_table)))


async def test_what_is_committed_is_published_and_nothing_else(
    engine: AsyncEngine, streams: Streams, outbox: Outbox, relay: Relay
) -> None:
    """With the id of the receipt, in its lane or its event's own, with its key; the row is gone afterwards."""
    assert await relay.relay() == 0  # it has the lease, for which it would have to wait for SQLite's writer below
    async with AsyncSession(engine) as session:
        await outbox.publish(session, Noted(n=1))
        await session.rollback()
        kept = await outbox.publish(session, Noted(n=2, text="\0 ü"), key="k", priority="high")
        await outbox.publish(session, StockBelowThreshold(business_id=1, sku="a", quantity=1, threshold=2))
        assert await relay.relay() == 0
        await session.commit()
    assert await relay.relay() == 2
    assert await streams.redis.xlen(streams.keys.stream("inventory", "high")) == 1
    assert await rows(engine) == 0
    (fields,) = await published(streams, lane="high")
    assert fields[b"id"].decode() == kept.id
    assert (fields[b"partitionkey"], fields[b"data"]) == (b"k", Noted(n=2, text="\0 ü").encode())
    assert await published(streams) == []


async def test_a_session_of_threads_publishes_too(streams: Streams, outbox: Outbox, tmp_path: Any) -> None:
    """For applications without asyncio; sessions and plain connections."""
    engine = make_engine(f"sqlite:///{tmp_path}/sync.db")
    await create_tables(engine)

    def work() -> None:
        plain = create_engine(f"sqlite:///{tmp_path}/sync.db")
        with Session(plain) as session, session.begin():
            outbox.publish_sync(session, Noted(n=1), key="k")
        with plain.begin() as connection:
            outbox.publish_sync(connection, Noted(n=2), key="k")
        plain.dispose()

    await asyncio.to_thread(work)
    assert await Relay(engine, streams).relay() == 2
    assert [fields[b"data"] for fields in await published(streams)] == [Noted(n=1).encode(), Noted(n=2).encode()]
    await engine.dispose()


async def test_a_delay_is_kept(engine: AsyncEngine, streams: Streams, outbox: Outbox, relay: Relay) -> None:
    """It waits in Redis, and counts from the call."""
    async with engine.begin() as connection:
        receipt = await outbox.publish(connection, Noted(n=1), delay=3600)
    assert await relay.relay() == 1
    assert await published(streams) == []
    now = (await streams.redis.time())[0]
    due = await streams.redis.zscore(streams.keys.due(), receipt.id)
    assert abs(due / 1000 - now - 3600) < 5
    await streams.cancel(receipt.id)


async def test_what_cannot_be_published_is_refused_at_once(
    engine: AsyncEngine, outbox: Outbox, streams: Streams
) -> None:
    """Where the transaction can still be rolled back."""
    async with AsyncSession(engine) as session:
        with pytest.raises(TooLarge):
            await outbox.publish(session, Noted(n=1, text="x" * 300_000))
        with pytest.raises(StreamsError, match="200 bytes"):
            await outbox.publish(session, Noted(n=1), key="k" * 201)
        with pytest.raises(StreamsError, match="between 0 and"):
            await outbox.publish(session, Noted(n=1), delay=-1)
    assert await rows(engine) == 0


async def test_a_row_that_is_no_message_does_not_stop_the_others(
    engine: AsyncEngine, streams: Streams, outbox: Outbox, relay: Relay
) -> None:
    """It is put aside with its reason; somebody else wrote it."""
    async with engine.begin() as connection:
        for number, (message, stream) in enumerate(
            [("{", "notes"), ("[]", "notes"), ("{}", "notes"), ("{}", "No/Good")]
        ):
            await connection.execute(
                insert(outbox_table).values(
                    event_id=str(number), type="T", stream=stream, priority="normal", message=message,
                    created_at=func.now(),
                )
            )  # fmt: skip
        await outbox.publish(connection, Noted(n=1))
    with capture_logs() as logs:
        assert await relay.relay() == 1
        assert await relay.relay() == 0
    assert [line["event"] for line in logs].count("relay.row_broken") == 4
    async with engine.connect() as connection:
        assert all((await connection.execute(select(outbox_table.c.error))).scalars())


@pytest.mark.parametrize("column", [{"event_id": "another"}, {"priority": "urgent"}, {"stream": "No/Good"}])
async def test_a_row_that_does_not_fit_its_message_is_put_aside(
    engine: AsyncEngine, streams: Streams, outbox: Outbox, relay: Relay, column: dict[str, str]
) -> None:
    """Its columns say where the message goes and under which name it is published once: neither is guessed."""
    async with engine.begin() as connection:
        wrong = await outbox.publish(connection, Noted(n=1))
        right = await outbox.publish(connection, Noted(n=2))
        where = outbox_table.c.event_id == wrong.id
        await connection.execute(update(outbox_table).where(where).values(**column))
    assert await relay.relay() == 1
    assert [fields[b"id"].decode() for fields in await published(streams)] == [right.id]
    async with engine.connect() as connection:
        (left,) = (await connection.execute(select(outbox_table))).all()
    assert left.error
    assert await relay.relay() == 0


async def test_a_round_is_published_in_steps_of_bounded_size(
    engine: AsyncEngine, streams: Streams, outbox: Outbox, relay: Relay
) -> None:
    """A step is one script, which holds the server: of thirty events of 200 kB there are two, in their order."""
    steps: list[int] = []
    append = streams.append

    async def counted(messages: Any) -> Any:
        steps.append(len(messages))
        return await append(messages)

    streams.append = counted  # type: ignore[method-assign]
    async with engine.begin() as connection:
        for n in range(30):
            await outbox.publish(connection, Noted(n=n, text="x" * 200_000))
    assert await relay.relay() == 30
    assert (len(steps), sum(steps)) == (2, 30)
    assert max(steps) * 200_000 <= 4 * 1024 * 1024 < (max(steps) + 1) * 200_100
    assert [Noted.decode(fields[b"data"], 1).n for fields in await published(streams)] == list(range(30))


async def test_a_handler_writes_an_outbox_of_its_own(
    engine: AsyncEngine, streams: Streams, outbox: Outbox, relay: Relay, start: StartConsumer
) -> None:
    """In the inbox's transaction; the event joins the conversation and the trace of its cause."""
    books = Processor("books", transaction=SqlInbox(engine))

    @books.on(Noted)
    async def book(event: Noted, session: AsyncSession = CurrentTransaction()) -> None:
        parent = trace.NonRecordingSpan(trace.SpanContext(1, 2, is_remote=False, trace_flags=trace.TraceFlags(1)))
        with trace.use_span(parent):
            await outbox.publish(session, Followed(n=event.n))

    await start(books)
    receipt = await streams.publish(Noted(n=1))
    await wait_until(lambda: rows(engine))
    assert await relay.relay() == 1
    (fields,) = [fields for fields in await published(streams) if fields[b"type"] == b"Followed"]
    assert fields[b"causationid"].decode() == fields[b"correlationid"].decode() == receipt.id
    assert fields[b"traceparent"] == b"00-%032x-%016x-01" % (1, 2)


async def test_a_relay_that_published_and_died_has_published_once(
    engine: AsyncEngine, streams: Streams, outbox: Outbox
) -> None:
    """Two relays that read the same rows and publish them one after the other, in whatever order: once each."""
    async with engine.begin() as connection:
        receipts = [await outbox.publish(connection, Noted(n=n)) for n in range(50)]
        await outbox.publish(connection, Noted(n=-1), delay=3600)
    dead, late, successor = (Relay(engine, streams) for _ in range(3))
    await dead._publish((await dead._read())[:20])
    read_late = await late._read()
    await successor._publish(await successor._read())
    await late._publish(read_late)
    assert [fields[b"id"].decode() for fields in await published(streams)] == [receipt.id for receipt in receipts]
    assert await streams.redis.zcard(streams.keys.due()) == 1
    await streams.redis.delete(streams.keys.due(), streams.keys.waiting())


async def test_one_relay_works_and_another_takes_over(engine: AsyncEngine, streams: Streams, outbox: Outbox) -> None:
    """The lease keeps the second away; it goes on when the first says nothing any more, or stops."""
    first, second = Relay(engine, streams, lease=0.5), Relay(engine, streams, lease=0.5)
    async with engine.begin() as connection:
        await outbox.publish(connection, Noted(n=1))
    assert await first.relay() == 1
    async with engine.begin() as connection:
        await outbox.publish(connection, Noted(n=2))
    assert await second.relay() == 0
    await wait_until(second.relay, timeout=5)  # the first one has died
    async with engine.begin() as connection:
        await outbox.publish(connection, Noted(n=3))
    assert await first.relay() == 0
    task = asyncio.ensure_future(second.run())
    await wait_until(lambda: _count(streams, 3))
    second.stop()
    await task
    async with engine.begin() as connection:
        await outbox.publish(connection, Noted(n=4))
    assert await first.relay() == 1  # at once: the second has resigned


async def _count(streams: Streams, count: int) -> bool:
    return len(await published(streams)) == count


async def test_a_redis_that_is_away_loses_nothing(
    engine: AsyncEngine, outbox: Outbox, redis_factory: RedisFactory, app: str
) -> None:
    """It is waited for; what was committed meanwhile arrives, once."""
    server = redis_factory()
    async with Streams(settings=Settings(redis_url=server.url, app=app, publish_timeout=0.2)) as streams:
        relay = Relay(engine, streams)
        task = asyncio.ensure_future(relay.run())
        async with engine.begin() as connection:
            await outbox.publish(connection, Noted(n=1))
        await wait_until(lambda: _count(streams, 1))
        server.kill()
        with capture_logs() as logs:
            async with engine.begin() as connection:
                await outbox.publish(connection, Noted(n=2))
            await wait_until(lambda: [line for line in logs if line["event"] == "relay.redis_away"])
        server.start()
        await wait_until(lambda: _arrived(streams, 2), timeout=20)
        relay.stop()
        await task


async def _arrived(streams: Streams, count: int) -> bool:
    try:
        return await _count(streams, count)
    except Exception:
        return False


async def test_the_order_of_commits_is_kept_per_key(engine: AsyncEngine, streams: Streams, outbox: Outbox) -> None:
    """8 writers, 100 transactions each over 5 keys, which publish first and commit late, while a relay runs.

    The counter of a key is raised after the event was published, so its rows say in which order they were committed.
    """
    counters = Table("counters", MetaData(), Column("key", String, primary_key=True), Column("n", Integer))
    commits = Table("commits", counters.metadata, Column("key", String), Column("n", Integer), Column("id", String))
    async with engine.begin() as connection:
        await connection.run_sync(counters.metadata.create_all)
        await connection.execute(insert(counters), [{"key": f"k{k}", "n": 0} for k in range(5)])
    dice = random.Random(1)

    async def write() -> None:
        for _ in range(100):
            key, dawdle, fails = f"k{dice.randrange(5)}", dice.randrange(4), dice.random() < 0.1
            async with engine.connect() as connection:
                receipt = await outbox.publish(connection, Noted(n=0), key=key)
                for _ in range(dawdle):
                    await connection.execute(select(1))
                raised = update(counters).where(counters.c.key == key).values(n=counters.c.n + 1)
                n = await connection.scalar(raised.returning(counters.c.n))
                await connection.execute(insert(commits).values(key=key, n=n, id=receipt.id))
                await (connection.rollback() if fails else connection.commit())

    relay = Relay(engine, streams)
    task = asyncio.ensure_future(relay.run())
    await asyncio.gather(*(write() for _ in range(8)))
    async with engine.connect() as connection:
        found = (await connection.execute(select(commits).order_by(commits.c.n))).all()
    await wait_until(lambda: _count(streams, len(found)), timeout=20)
    relay.stop()
    await task
    assert len(found) > 600
    entries = await published(streams)
    for key in {row.key for row in found}:
        in_streams = [fields[b"id"].decode() for fields in entries if fields[b"partitionkey"].decode() == key]
        assert in_streams == [row.id for row in found if row.key == key]


async def test_data_over_the_cap_goes_through_the_outbox_to_the_claim_store(
    engine: AsyncEngine, streams: Streams, app: str, tmp_path: Path
) -> None:
    """It stands in the row until the relay publishes it, so what is rolled back leaves no object."""
    url = f"file://{tmp_path}/claims"
    settings = Settings(app=app, storage_url=url)  # type: ignore[arg-type]
    large = Noted(n=1, text="x" * 300_000)
    async with AsyncSession(engine) as session:
        await Outbox(settings).publish(session, large)
        await session.rollback()
    async with AsyncSession(engine) as session, session.begin():
        receipt = await Outbox(settings).publish(session, large)
    store = ClaimStore(url)
    assert [stored.key async for stored in store.ls()] == []
    with pytest.raises(StreamsError, match="STORAGE_URL"):
        await Relay(engine, streams, lease=0.05).relay()
    async with Streams(settings=streams.settings.model_copy(), claims=store) as client:
        relay = Relay(engine, client, lease=60)
        await wait_until(relay.relay)
        (entry,) = await published(client)
        assert entry[b"data"].startswith(MARK)
        assert len([stored async for stored in store.ls()]) == 1
        assert client.claims is not None
        trail = await client.event(receipt.id)
        assert trail.message is not None
        assert Noted.decode(await client.claims.fetch(trail.message), 1) == large
