"""A business database of each kind, storages, and a running file processor. All of it is real."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sqlalchemy import func, insert, select

from processors.file import file, store_upload
from processors.file.import_options import ImportOptions
from processors.file.survey import Survey
from processors.shared.database import Database
from processors.shared.database.tables import businesses, import_errors, products, stock_levels, stock_movements
from processors.shared.storage import Storages, StorageSettings
from schemas import InventoryImported, InventoryImportFailed, InventoryImportUploaded
from streams import Event, Streams
from tests.processors.file.conservation import assert_conserved, surveyed
from tests.processors.shared.database.conftest import business
from tests.sql.conftest import database_url, postgres, postgres_url
from tests.streams.conftest import StartConsumer, make_settings, start, streams
from tests.support.waiting import wait_until

__all__ = ["business", "database_url", "make_settings", "postgres", "postgres_url", "start", "streams"]

E = TypeVar("E", bound=Event)
SHOP = 1
NOW = datetime(2026, 1, 1, tzinfo=UTC)

Import = Callable[..., Awaitable[Event]]


@pytest.fixture(autouse=True)
def environment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Mapping[str, str]:
    """What the processor reads: this test's directory and database."""
    values = {"STREAMS_HOME": str(tmp_path / "home"), "FILE_CHUNK_ROWS": "3"}
    if "database_url" in request.fixturenames:
        values["DATABASE_URL"] = request.getfixturevalue("database_url")
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return values


@pytest.fixture
def storages(environment: Mapping[str, str]) -> Storages:
    """The storages that the processor uses."""
    return Storages(StorageSettings.load())


@pytest.fixture
async def shop(business: Database, storages: Storages, streams: Streams) -> AsyncIterator[Database]:
    """A database with business 1 in it. When the test has ended, no row of any import of it is unaccounted for."""
    async with business.engine.begin() as connection:
        await connection.execute(
            insert(businesses).values(id=SHOP, name="Shop & Söhne", currency="EUR", created_at=NOW)
        )
    yield business
    events: list[Event] = [*await published(streams, InventoryImported)]
    events += await published(streams, InventoryImportFailed)
    # The settings as they are now: a test may have chosen another storage.
    await assert_conserved(business, Storages(StorageSettings.load()), events)


@pytest.fixture
def read(tmp_path: Path, storages: Storages) -> Any:
    """Surveys bytes; the options are those of an upload. No row is unaccounted for."""

    async def read_it(data: bytes | str, **options: Any) -> Survey:
        path = tmp_path / "file.csv"
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return (await surveyed(path, ImportOptions.checked(**options), storages))[0]

    return read_it


async def levels(database: Database) -> dict[str, int]:
    """What is there of each SKU; it is the sum of the movements, or the test has found a bug."""
    moved = select(func.coalesce(func.sum(stock_movements.c.delta), 0)).where(
        stock_movements.c.product_id == products.c.id
    )
    async with database.engine.connect() as connection:
        found = await connection.execute(
            select(products.c.sku, stock_levels.c.quantity, moved.scalar_subquery().label("moved"))
            .join(stock_levels, stock_levels.c.product_id == products.c.id)
            .order_by(products.c.sku)
        )
        rows = found.all()
    assert [(row.sku, row.quantity) for row in rows] == [(row.sku, row.moved) for row in rows]
    return {row.sku: row.quantity for row in rows}


async def problems(database: Database) -> list[tuple[int, str, str]]:
    """What the errors say, of all imports."""
    query = select(import_errors.c.line, import_errors.c.field, import_errors.c.problem)
    async with database.engine.connect() as connection:
        return sorted((row.line, row.field, row.problem) for row in await connection.execute(query))


async def put(storages: Storages, data: bytes, **given: Any) -> InventoryImportUploaded:
    """Uploads bytes as if they were a user's."""

    async def blocks() -> Any:
        yield data

    return await store_upload(blocks(), SHOP, storages, **given)


async def put_unseen(storages: Storages, data: bytes, business_id: int = SHOP) -> InventoryImportUploaded:
    """Stores bytes behind the door's back: another service may have written them."""
    from processors.shared.storage.file_key import FileKey

    key = FileKey.new(business_id, "csv")
    async with storages.uploads.write(key) as written:
        await written.write(data)
    return InventoryImportUploaded(business_id=business_id, file=key, sha256=written.sha256)


async def published(streams: Streams, kind: type[E], stream: str = "files") -> list[E]:
    """The events of a kind in a stream, oldest first."""
    found = []
    for _, fields in await streams.redis.xrange(streams.keys.stream(stream)):
        if fields[b"type"].decode() == kind.type:
            found.append(kind.decode(fields[b"data"], kind.version))
    return found


@pytest.fixture
async def ask(streams: Streams, start: StartConsumer, shop: Database) -> Callable[..., Awaitable[Any]]:
    """Publishes an event to a running file processor, and returns the first of the given kinds that follows."""
    await start(file)

    async def ask_for(event: Event, *kinds: type[Event]) -> Event:
        before = {kind: len(await published(streams, kind)) for kind in kinds}
        receipt = await streams.publish(event)

        async def answer() -> Event | None:
            for kind in kinds:
                if found := (await published(streams, kind))[before[kind] :]:
                    return found[0]
            return None

        async def where() -> str:
            return str(await streams.event(receipt.id)) if hasattr(streams, "event") else ""

        found: Event = await wait_until(answer, 20, f"{event} is answered")
        return found

    return ask_for
