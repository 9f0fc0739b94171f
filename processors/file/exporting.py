"""export_stock: a business' products and stock as a file, which is there as a whole or not at all."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import structlog
from sqlalchemy import Row, select, update
from sqlalchemy.dialects.postgresql import insert as insert_on_postgresql
from sqlalchemy.dialects.sqlite import insert as insert_on_sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from processors.file.file_formats import as_file
from processors.file.stock_pages import count_products, stock_pages
from processors.file.text_formats import TEXT_FORMATS, as_text
from processors.shared.database import Database
from processors.shared.database.tables import exports
from processors.shared.database.transaction import in_transaction
from processors.shared.storage import Storages
from processors.shared.storage.file_key import FileKey
from schemas import InventoryExportRequested
from streams import Progress

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Exported:
    """An export that is there: its key in the area `exports`, and what it is called."""

    id: str
    file: str
    file_name: str
    rows: int
    bytes: int


def export_id(event_id: str) -> str:
    """The id of the export of an event."""
    return hashlib.sha256(event_id.encode()).hexdigest()[:32]


async def note_failed(database: Database, event_id: str, reason: str) -> None:
    """Notes that there will be no export; another try makes it all the same."""

    async def note(connection: AsyncConnection) -> None:
        mine = (exports.c.id == export_id(event_id)) & (exports.c.status == "running")
        await connection.execute(
            update(exports).where(mine).values(status="failed", error=reason, finished_at=datetime.now(UTC))
        )

    await in_transaction(database.engine, note)


async def export_stock(
    event: InventoryExportRequested,
    event_id: str,
    business_name: str,
    database: Database,
    storages: Storages,
    progress: Progress,
) -> Exported:
    """Makes the export of an event. The same event makes the same file, so a second try leaves nothing behind."""
    id = export_id(event_id)
    key = FileKey.new(event.business_id, event.format, made_from=f"export {event_id}")
    # Letters of all scripts: a name without them would say nothing.
    slug = re.sub(r"[\W_]+", "-", unicodedata.normalize("NFC", business_name).lower()).strip("-")[:40]
    name = f"stock-{slug}-{datetime.now(UTC):%Y-%m-%d}.{event.format}"
    row = await in_transaction(database.engine, lambda connection: _begin(connection, event, id, event_id))
    if row.status != "done":
        row = await _make(event, id, key, name, database, storages, progress)
        log.info("export.ended", export_id=id, format=event.format, rows=row.rows, bytes=row.bytes)
    return Exported(id, key, name, row.rows, row.bytes)


async def _begin(connection: AsyncConnection, event: InventoryExportRequested, id: str, event_id: str) -> Row[Any]:
    make = insert_on_sqlite if connection.dialect.name == "sqlite" else insert_on_postgresql
    await connection.execute(
        make(exports)
        .values(
            id=id, business_id=event.business_id, format=event.format, status="running", event_id=event_id[:128],
            created_at=datetime.now(UTC),
        )
        .on_conflict_do_nothing()
    )  # fmt: skip
    return (await connection.execute(select(exports).where(exports.c.id == id))).one()


async def _make(
    event: InventoryExportRequested,
    id: str,
    key: FileKey,
    name: str,
    database: Database,
    storages: Storages,
    progress: Progress,
) -> Row[Any]:
    total = await count_products(database.engine, event.business_id)
    rows = 0

    async def counted() -> AsyncGenerator[pl.DataFrame, None]:
        nonlocal rows
        async with aclosing(stock_pages(database.engine, event.business_id)) as pages:
            async for page in pages:
                yield page
                rows += page.height
                await progress.set(rows, max(total, rows), f"{rows} rows")

    async with storages.exports.write(key, name=name) as file, aclosing(counted()) as pages:
        parts = as_text(event.format, pages) if event.format in TEXT_FORMATS else as_file(event.format, pages)
        async with aclosing(parts):
            async for part in parts:
                await file.write(part)
    now = datetime.now(UTC)

    async def note(connection: AsyncConnection) -> Row[Any]:
        await connection.execute(
            update(exports)
            .where(exports.c.id == id)
            .values(
                status="done", error=None, file=key, rows=rows, bytes=file.bytes, sha256=file.sha256, finished_at=now,
                expires_at=now + timedelta(seconds=storages.settings.link_seconds),
            )
        )  # fmt: skip
        return (await connection.execute(select(exports).where(exports.c.id == id))).one()

    return await in_transaction(database.engine, note)
