"""What a handler does in a database happens once, and an event is published if and only if it was committed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from streams import Backoff, Processor, Streams
from streams.sql import CurrentTransaction, Outbox, SqlInbox, create_tables, make_engine
from streams.sql.relay import Relay
from tests.guide.shop import InvoiceWritten, OrderPlaced, becomes
from tests.sql.ledger import enter, entries, open_ledger
from tests.streams.conftest import StartConsumer
from tests.support.waiting import wait_until

pytestmark = pytest.mark.newest_redis


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """A database with the tables, and one of the shop's own: the ledger."""
    engine = make_engine(f"sqlite:///{tmp_path}/shop.db")
    await create_tables(engine)
    await open_ledger(engine)
    yield engine
    await engine.dispose()


async def test_an_effect_happens_once(streams: Streams, start: StartConsumer, engine: AsyncEngine) -> None:
    """However often the event comes: the effect, the fact that it is done and what follows are one commit."""
    billing = Processor("billing", transaction=SqlInbox(engine))

    @billing.on(OrderPlaced)
    async def bill(event: OrderPlaced, session: AsyncSession = CurrentTransaction()) -> InvoiceWritten:
        await enter(session, event.order_id)
        return InvoiceWritten(order_id=event.order_id)

    await start(billing)
    message = streams.message(OrderPlaced(order_id=1))
    await streams.append([message])
    await streams.append([message])  # the same event again, as after a crash

    await wait_until(lambda: has_invoices(streams, 2))
    assert await entries(engine) == [1]
    invoices = await streams.redis.xrange(streams.keys.stream("invoices"))
    assert len({fields[b"id"] for _, fields in invoices}) == 1  # the one invoice, told twice


async def test_a_failed_handler_has_done_nothing(streams: Streams, start: StartConsumer, engine: AsyncEngine) -> None:
    """What it had written is rolled back before it is tried again."""
    billing = Processor("billing", transaction=SqlInbox(engine), retry=Backoff(first=0.01))
    attempts: list[int] = []

    @billing.on(OrderPlaced)
    async def bill(event: OrderPlaced, session: AsyncSession = CurrentTransaction()) -> None:
        await enter(session, event.order_id)
        attempts.append(event.order_id)
        if len(attempts) == 1:
            raise RuntimeError("after the effect")

    await start(billing)
    receipt = await streams.publish(OrderPlaced(order_id=1))

    await becomes(streams, receipt, "billing", "acked")
    assert attempts == [1, 1]
    assert await entries(engine) == [1]


async def test_an_event_is_published_with_its_transaction(streams: Streams, engine: AsyncEngine) -> None:
    """The outbox writes it into the transaction; a relay publishes what was committed."""
    outbox, relay = Outbox(streams.settings), Relay(engine, streams)
    async with AsyncSession(engine) as session:
        await enter(session, 1)
        await outbox.publish(session, OrderPlaced(order_id=1), key="customer-7")
        await session.commit()
    async with AsyncSession(engine) as session:
        await enter(session, 2)
        await outbox.publish(session, OrderPlaced(order_id=2), key="customer-7")
        await session.rollback()

    await relay.relay()
    (entry,) = await streams.redis.xrange(streams.keys.stream("orders"))
    assert entry[1][b"data"] == OrderPlaced(order_id=1).encode()


async def has_invoices(streams: Streams, count: int) -> bool:
    """Whether so many are published."""
    return int(await streams.redis.xlen(streams.keys.stream("invoices"))) == count
