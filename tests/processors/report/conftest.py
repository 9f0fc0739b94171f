"""A small business whose figures can be added up, storages, and a running report processor. All of it is real."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import pytest
from sqlalchemy import insert

from processors.report import report
from processors.report.document import Document
from processors.report.extract import Extract, extract
from processors.report.generating import _KINDS
from processors.report.request import ReportRequest
from processors.shared.database import Database
from processors.shared.database.tables import businesses, products, sales, stock_levels
from processors.shared.storage import Storages, StorageSettings
from schemas import ReportRequested
from schemas.reports import ReportFilters
from streams import Event, Streams
from tests.processors.shared.database.conftest import business
from tests.sql.conftest import database_url, postgres, postgres_url
from tests.streams.conftest import StartConsumer, make_settings, start, streams
from tests.support.waiting import wait_until

__all__ = ["business", "database_url", "make_settings", "postgres", "postgres_url", "start", "streams"]

E = TypeVar("E", bound=Event)
SHOP, OTHER, EMPTY = 1, 2, 3
TODAY = date(2026, 11, 10)
NOW = datetime(2026, 11, 10, 9, 30, tzinfo=UTC)
ADA = "ada@example.com"
HOSTILE = "=HYPERLINK(\"http://evil\";1) <script>alert('x')</script> & #eval(1) *x* $y$ {{ 7*7 }}"


@pytest.fixture(autouse=True)
def environment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Mapping[str, str]:
    """What the processor reads: this test's directories and database."""
    (tmp_path / "temporary").mkdir()
    values = {"STREAMS_HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "temporary")}
    if "database_url" in request.fixturenames:
        values["DATABASE_URL"] = request.getfixturevalue("database_url")
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("tempfile.tempdir", None)  # it remembers the first TMPDIR that it has seen
    return values


@pytest.fixture
def storages(environment: Mapping[str, str]) -> Storages:
    """The storages that the processor uses."""
    return Storages(StorageSettings.load())


@pytest.fixture
async def shop(business: Database) -> Database:
    """Three businesses: one with 40 products of 4 categories and 3,000 sales in 16 months, one with other sales of the
    same days, and one with a product and nothing else.
    """
    random = Random(3)
    goods = [
        {"id": n, "business_id": SHOP if n <= 40 else OTHER if n <= 50 else EMPTY, "sku": f"S{n:03d}",
         "name": HOSTILE if n == 1 else f"Säge No. {n}", "category": ("Saws", "Ölfarben", "R&D", "")[n % 4],
         "price": Decimal(random.randrange(99, 20_000)) / 100, "threshold": n % 5,
         "created_at": NOW - timedelta(days=500 if n != 7 else 20), "updated_at": NOW}
        for n in range(1, 52)
    ]  # fmt: skip
    levels = [
        {"product_id": n, "quantity": random.choice([0, 1, 2, 9, 40, 300]) if n > 1 else 0, "updated_at": NOW}
        for n in range(1, 50)
    ]
    start = NOW - timedelta(days=480)
    sold: list[dict[str, Any]] = []
    for _ in range(4_000):
        n = (
            min(random.randrange(1, 39), random.randrange(1, 39))
            if random.random() < 0.75
            else random.randrange(41, 50)
        )
        at = start + timedelta(seconds=random.randrange(480 * 86_400), microseconds=random.randrange(10**6))
        if n != 7 or at > NOW - timedelta(days=20):
            sold.append(
                {"business_id": SHOP if n <= 40 else OTHER, "product_id": n, "quantity": random.randrange(1, 6),
                 "unit_price": Decimal(random.randrange(99, 20_000)) / 100, "sold_at": at}
            )  # fmt: skip
    async with business.engine.begin() as connection:
        names = {SHOP: "Shop & <Söhne>", OTHER: "Other", EMPTY: "Empty"}
        await connection.execute(
            insert(businesses),
            [{"id": id, "name": name, "currency": "EUR", "created_at": NOW} for id, name in names.items()],
        )
        await connection.execute(insert(products), goods)
        await connection.execute(insert(stock_levels), levels)
        await connection.execute(insert(sales), sold)
    return business


def wanted(kind: str, format: str = "html", business_id: int = SHOP, **filters: Any) -> ReportRequested:
    """A request."""
    return ReportRequested(
        business_id=business_id, report_type=kind, format=format, filters=ReportFilters(**filters), user_email=ADA,
    )  # type: ignore[arg-type]  # fmt: skip


async def read(database: Database, event: ReportRequested, directory: Path) -> tuple[Extract, ReportRequest]:
    """What the report of an event is made of, as of `NOW`."""

    async def told(days: int, of: int) -> None:
        assert 0 <= days < of

    request = ReportRequest.of(event, NOW)
    directory.mkdir(exist_ok=True)
    return await extract(database.engine, event.business_id, request, directory, told), request


async def made(database: Database, event: ReportRequested, directory: Path) -> Document:
    """The report of an event, as of `NOW`."""
    found, request = await read(database, event, directory)
    return _KINDS[event.report_type](found, request)


def figures(document: Document) -> dict[str, float]:
    """Its figures by their labels."""
    return {figure.label: figure.value for figure in document.figures}


async def published(streams: Streams, kind: type[E]) -> list[E]:
    """The events of a kind in the stream `reports`, oldest first."""
    return [
        kind.decode(fields[b"data"], kind.version)
        for _, fields in await streams.redis.xrange(streams.keys.stream("reports"))
        if fields[b"type"].decode() == kind.type
    ]


@pytest.fixture
async def ask(streams: Streams, start: StartConsumer, shop: Database) -> Callable[..., Awaitable[Any]]:
    """Publishes an event to a running report processor, and returns the first of a kind that follows."""
    await start(report)

    async def ask_for(event: Event, kind: type[Event]) -> Event:
        before = len(await published(streams, kind))
        await streams.publish(event)

        async def answer() -> Event | None:
            return next(iter((await published(streams, kind))[before:]), None)

        found: Event = await wait_until(answer, 25, f"{event} is answered")
        return found

    return ask_for
