"""The file processor's handlers and schedules: stock comes in as files and goes out as files."""

from __future__ import annotations

from typing import Final

from pydantic import HttpUrl
from sqlalchemy import select

from processors.database import Database, open_database
from processors.database.tables import businesses
from processors.file.cleanup import clean_up
from processors.file.exporting import export_stock
from processors.file.importing import StockImport
from processors.file.settings import FileSettings
from processors.storage import Storages, open_storages
from schemas import (
    Event,
    ExportsCleanupDue,
    InventoryExported,
    InventoryExportRequested,
    InventoryImported,
    InventoryImportFailed,
    InventoryImportUploaded,
    StockCheckDue,
)
from streams import CurrentDelivery, CurrentProgress, DeadLetter, Delivery, Processor, Progress, Shared

# Large files take as long as they take; a process that stands still loses its lease.
_TIMEOUT: Final = 6 * 3600.0

# Few at once: each holds a chunk in memory and keeps a core busy. Many deliveries, because each dead process has left
# the import further on than it found it; one that gets no further is given up in import_record.begin.
file = Processor("file", concurrency=2, deliveries=100)
"""The file processor: consumer group `file`. Run it with `python -m processors.file`."""


@file.on(InventoryImportUploaded, timeout=_TIMEOUT)
async def import_inventory(
    event: InventoryImportUploaded,
    database: Database = Shared(open_database),
    storages: Storages = Shared(open_storages),
    progress: Progress = CurrentProgress(),
    delivery: Delivery = CurrentDelivery(),
) -> list[Event]:
    """Imports a file of stock; what is below its threshold then is looked for afterwards."""
    await _know(database, event.business_id)
    importing = StockImport(event, delivery.message.id, database, storages, FileSettings.load(), progress)
    record = await importing.run()
    link = await importing.report_link(record)
    url = HttpUrl(link) if link else None
    if record.status != "done":
        return [
            InventoryImportFailed(
                business_id=event.business_id,
                import_id=record.id,
                file=event.file,
                problem=record.error,
                refused=record.refused,
                name=event.name,
                errors_url=url,
                user_email=event.user_email,
            )
        ]
    imported = InventoryImported(
        business_id=event.business_id,
        import_id=record.id,
        file=event.file,
        rows=record.written + record.refused,
        written=record.written,
        refused=record.refused,
        repeated=record.repeated,
        name=event.name,
        errors_url=url,
        user_email=event.user_email,
    )
    return [imported] if record.repeated else [imported, StockCheckDue(business_id=event.business_id)]


@file.on(InventoryExportRequested, timeout=_TIMEOUT)
async def export_inventory(
    event: InventoryExportRequested,
    database: Database = Shared(open_database),
    storages: Storages = Shared(open_storages),
    progress: Progress = CurrentProgress(),
    delivery: Delivery = CurrentDelivery(),
) -> InventoryExported:
    """Writes a business' products and stock into a file. The link in the event is the right to fetch it."""
    name = await _know(database, event.business_id)
    exported = await export_stock(event, delivery.message.id, name, database, storages, progress)
    return InventoryExported(
        business_id=event.business_id,
        export_id=exported.id,
        format=event.format,
        url=HttpUrl(exported.url),
        rows=exported.rows,
        bytes=exported.bytes,
        user_email=event.user_email,
    )


@file.on(ExportsCleanupDue)
async def clean_up_exports(
    event: ExportsCleanupDue,  # noqa: ARG001 - it says that it is time, and nothing else
    database: Database = Shared(open_database),
    storages: Storages = Shared(open_storages),
) -> None:
    """Removes exports and error reports that are too old, and exports that are too many."""
    await clean_up(database, storages.exports, FileSettings.load())


@file.cron("47 2 * * *")
def exports_cleanup() -> ExportsCleanupDue:
    """Once a night."""
    return ExportsCleanupDue()


async def _know(database: Database, business_id: int) -> str:
    async with database.engine.connect() as connection:
        name = await connection.scalar(select(businesses.c.name).where(businesses.c.id == business_id))
    if name is None:
        raise DeadLetter(f"there is no business {business_id}")
    return str(name)
