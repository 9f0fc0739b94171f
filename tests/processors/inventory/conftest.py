"""A business database of each kind, a supplier, and a look at what was published. All of it is real."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar

import pytest
from sqlalchemy import func, insert, select, update

from examples.fakes.supplier import FakeSupplier
from processors.shared.database import Database
from processors.shared.database.tables import businesses, products, stock_levels, stock_movements
from streams import Event, Streams
from tests.processors.shared.database.conftest import business
from tests.sql.conftest import database_url, postgres, postgres_url
from tests.streams.conftest import make_settings, start, streams

__all__ = ["business", "database_url", "make_settings", "postgres", "postgres_url", "start", "streams"]

E = TypeVar("E", bound=Event)
SHOP = 1
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def environment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the processor reads: this test's database."""
    if "database_url" in request.fixturenames:
        monkeypatch.setenv("DATABASE_URL", request.getfixturevalue("database_url"))


@pytest.fixture
async def shop(business: Database) -> Database:
    """A database with business 1 in it."""
    async with business.engine.begin() as connection:
        await connection.execute(insert(businesses).values(id=SHOP, name="Shop", currency="EUR", created_at=NOW))
    return business


async def add(database: Database, sku: str, quantity: int, *, threshold: int = 0) -> None:
    """A product and its opening stock."""
    async with database.engine.begin() as connection:
        made = await connection.execute(
            insert(products)
            .values(business_id=SHOP, sku=sku, name=sku, price=Decimal("1.50"), threshold=threshold,
                    created_at=NOW, updated_at=NOW)
            .returning(products.c.id)
        )  # fmt: skip
        key = made.scalar_one()
        await connection.execute(insert(stock_levels).values(product_id=key, quantity=quantity, updated_at=NOW))
        await connection.execute(insert(stock_movements).values(
            product_id=key, delta=quantity, quantity=quantity, reason="opening", reference="test", moved_at=NOW
        ))  # fmt: skip


async def set_threshold(database: Database, sku: str, threshold: int) -> None:
    """As another service would: nobody publishes anything."""
    async with database.engine.begin() as connection:
        await connection.execute(update(products).where(products.c.sku == sku).values(threshold=threshold))


async def levels(database: Database) -> dict[str, int]:
    """What is there of each SKU; it is the sum of the movements, or the test has found a bug."""
    moved = func.coalesce(
        select(func.sum(stock_movements.c.delta))
        .where(stock_movements.c.product_id == stock_levels.c.product_id)
        .scalar_subquery(),
        0,
    )
    # One statement: between two of them, somebody may commit.
    found = select(products.c.sku, stock_levels.c.quantity, moved.label("moved")).join(
        stock_levels, stock_levels.c.product_id == products.c.id
    )
    async with database.engine.connect() as connection:
        rows = (await connection.execute(found)).all()
    there = {row.sku: row.quantity for row in rows}
    assert there == {row.sku: row.moved for row in rows}
    return there


Published = Callable[[type[E]], Awaitable[list[E]]]


@pytest.fixture
def published(streams: Streams) -> Callable[[type[Any]], Awaitable[list[Any]]]:
    """The events of a type that are in its stream, in the lane of its priority, oldest first."""

    async def published(kind: type[Any]) -> list[Any]:
        found = await streams.redis.xrange(streams.keys.stream(kind.stream, kind.usual_priority))
        return [
            kind.decode(fields[b"data"], kind.version) for _, fields in found if fields[b"type"] == kind.type.encode()
        ]

    return published


@pytest.fixture
async def supplier(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeSupplier]:
    """The system `acme` of the settings, with a token."""
    supplier = FakeSupplier(token="s3cret")
    port = await supplier.start()
    for name, value in supplier_environment(port).items():
        monkeypatch.setenv(name, value)
    yield supplier
    await supplier.aclose()


def supplier_environment(port: int) -> Mapping[str, str]:
    """How the processor knows the supplier at a port of this machine."""
    return {
        "INVENTORY_SUPPLIERS": f"acme=http://localhost:{port}/{{business_id}}/items",
        "INVENTORY_SUPPLIER_TOKENS": "acme=s3cret",
        "INVENTORY_PRIVATE_HOSTS": f"localhost:{port}",
        "INVENTORY_PAGE_ITEMS": "10",
    }
