"""The file processor's handlers and schedules: stock comes in as files and goes out as files."""

from __future__ import annotations

from typing import Final

from sqlalchemy import select

from processors.file import import_record
from processors.file.cleanup import clean_up, remove_uploads
from processors.file.exporting import export_id, export_stock, note_failed
from processors.file.importing import StockImport
from processors.file.settings import FileSettings
from processors.file.upload_order import place_among_uploads
from processors.shared.database import Database, open_database
from processors.shared.database.tables import businesses
from processors.shared.database.transaction import in_transaction
from processors.shared.failure_notice import noted, reason_of
from processors.shared.storage import Storages, open_storages
from schemas import (
    ExportsCleanupDue,
    InventoryExported,
    InventoryExportFailed,
    InventoryExportRequested,
    InventoryImported,
    InventoryImportFailed,
    InventoryImportUploaded,
    StockCheckDue,
)
from streams import (
    CurrentDelivery,
    CurrentProgress,
    DeadLetter,
    DeadLettered,
    Delivery,
    Event,
    Processor,
    Progress,
    Retry,
    Shared,
)

# Large files take as long as they take; a process that stands still loses its lease.
_TIMEOUT: Final = 6 * 3600.0

_CRASHES: Final = 5
"""Processes that an export may cost. An import may cost more, as each has left it further on; an export begins anew."""

# Few at once: each holds a chunk in memory and keeps a core busy. Many deliveries, because each dead process has left
# the import further on than it found it; one that gets no further fails in import_record.begin. Ordered,
# because a later file corrects an earlier one; uploads without a key wait for each other in import_record.begin.
file = Processor("file", concurrency=2, deliveries=100, ordered=True)
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
    return await _import(
        event,
        StockImport(
            event, delivery.message.id, database, storages, FileSettings.load(), progress,
            place_among_uploads(delivery.origin),
        ),
    )  # fmt: skip


@file.on_dead_letter(InventoryImportUploaded)
async def fail_import(
    event: InventoryImportUploaded,
    letter: DeadLettered,
    database: Database = Shared(open_database),
    delivery: Delivery = CurrentDelivery(),
) -> InventoryImportFailed | None:
    """Notes that an import was dead-lettered for a reason that is not the file's; a mail to the sender follows."""
    if letter.error.startswith(f"{Retry.__name__}: "):
        return None  # another process is at work: its import is not ended here
    event_id, reason = delivery.message.id, reason_of(delivery, letter)
    record = await noted(
        in_transaction(database.engine, lambda connection: import_record.fail(connection, event_id, reason))
    )
    return InventoryImportFailed(
        business_id=event.business_id,
        import_id=record.id if record else event_id,
        file=event.file,
        problem=reason,
        name=event.name,
        user_email=event.user_email,
        written=record.written if record else 0,
    )


async def _import(event: InventoryImportUploaded, importing: StockImport) -> list[Event]:
    record = await importing.run()
    own, book = importing.report_files(record)
    if record.status != "done":
        return [
            InventoryImportFailed(
                business_id=event.business_id,
                import_id=record.id,
                file=event.file,
                problem=record.error[:500],
                refused=record.refused,
                name=event.name,
                errors_file=own,
                user_email=event.user_email,
                written=record.written,
                errors_xlsx_file=book,
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
        errors_file=own,
        user_email=event.user_email,
        products_new=record.new,
        products_changed=record.changed,
        products_unchanged=record.unchanged,
        errors_xlsx_file=book,
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
    """Writes a business' products and stock into a file."""
    if delivery.crashes >= _CRASHES:
        raise DeadLetter(f"each of {delivery.crashes} processes that made this export ended while it was at it")
    name = await _know(database, event.business_id)
    exported = await export_stock(event, delivery.message.id, name, database, storages, progress)
    return InventoryExported(
        business_id=event.business_id,
        export_id=exported.id,
        format=event.format,
        file=exported.file,
        file_name=exported.file_name,
        rows=exported.rows,
        bytes=exported.bytes,
        user_email=event.user_email,
    )


@file.on_dead_letter(InventoryExportRequested)
async def fail_export(
    event: InventoryExportRequested,
    letter: DeadLettered,
    database: Database = Shared(open_database),
    delivery: Delivery = CurrentDelivery(),
) -> InventoryExportFailed:
    """Notes that there will be no export; a mail to the requester follows."""
    event_id, reason = delivery.message.id, reason_of(delivery, letter)
    await noted(note_failed(database, event_id, reason))
    return InventoryExportFailed(
        business_id=event.business_id,
        export_id=export_id(event_id),
        format=event.format,
        problem=reason,
        user_email=event.user_email,
    )


@file.on(ExportsCleanupDue)
async def clean_up_exports(
    event: ExportsCleanupDue,  # noqa: ARG001 - it says that it is time, and nothing else
    database: Database = Shared(open_database),
    storages: Storages = Shared(open_storages),
) -> None:
    """Removes exports, error reports and uploads that are too old, and exports that are too many."""
    settings = FileSettings.load()
    await clean_up(database, storages.exports, settings)
    await remove_uploads(database, storages.uploads, settings)


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
