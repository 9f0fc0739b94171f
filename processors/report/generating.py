"""generate: makes the report of a request. It is there as a whole or not at all, and the same again on another try."""

from __future__ import annotations

import asyncio
import hashlib
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeVar

import structlog
from sqlalchemy import Row, select, update
from sqlalchemy.dialects.postgresql import insert as insert_on_postgresql
from sqlalchemy.dialects.sqlite import insert as insert_on_sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from processors.report.document import Document
from processors.report.extract import Extract, extract
from processors.report.inventory_summary import inventory_summary
from processors.report.refused import ReportRefused
from processors.report.request import ReportRequest
from processors.report.sales_analysis import sales_analysis
from processors.report.stock_forecast import stock_forecast
from processors.shared.database import Database
from processors.shared.database.business_day import zone_named
from processors.shared.database.stock import has_business
from processors.shared.database.tables import businesses, reports
from processors.shared.database.transaction import in_transaction
from processors.shared.storage import Storages
from processors.shared.storage.file_key import FileKey
from schemas import ReportRequested
from schemas.reports import ReportFormat, ReportType
from streams import Progress, StreamsError

log = structlog.get_logger(__name__)

_T = TypeVar("_T")

PLACE: Final = "planning-bord-report-"
"""What the directories in `TMPDIR` begin with in which reports are made."""

_BLOCK: Final = 1024 * 1024
_KINDS: Final[dict[ReportType, Callable[[Extract, ReportRequest], Document]]] = {
    "inventory-summary": inventory_summary, "sales-analysis": sales_analysis, "stock-forecast": stock_forecast,
}  # fmt: skip
_SHARE_READ: Final = 80  # of 100: the rest is arithmetic and writing


@dataclass(frozen=True, slots=True)
class Generated:
    """A report that is there until `expires_at`: its key in the area `reports`, and what it is called."""

    id: str
    title: str
    file: str
    file_name: str
    bytes: int
    expires_at: datetime


def report_id(event: ReportRequested, event_id: str) -> str:
    """What the report of an event is called, on every try: people read it in mails."""
    return f"{event.report_type}-{hashlib.sha256(event_id.encode()).hexdigest()[:20]}"


async def generate(
    event: ReportRequested, event_id: str, database: Database, storages: Storages, progress: Progress
) -> Generated:
    """Makes it, or finds it made by an earlier try. Raises `ReportRefused` for what cannot be made."""
    id = report_id(event, event_id)
    key = FileKey.new(event.business_id, event.format, made_from=f"report {event_id}")
    row = await in_transaction(database.engine, lambda connection: _begin(connection, event, id, event_id))
    try:
        request = _request(event, row)
        name = _file_name(row.business_name, request, event.format)
        if row.status != "done":
            row = await _make(event, request, id, key, name, database, storages, progress)
            log.info("report.ended", report_id=id, format=event.format, bytes=row.bytes)
    except ReportRefused as refused:
        await note_failed(database, id, str(refused))
        raise
    return _generated(row, request, name, storages)


async def outcome_of(
    event: ReportRequested, event_id: str, database: Database, storages: Storages
) -> Generated | str | None:
    """What has become of a request: the report, why there is none, or None while that is not known."""
    async with database.engine.connect() as connection:
        query = select(reports.c.status, reports.c.error).where(reports.c.id == report_id(event, event_id))
        found = (await connection.execute(query)).one_or_none()
        if found is None or found.status not in ("done", "failed"):
            return None
        if found.status == "failed":
            return found.error or "it failed"
        row = await _find(connection, report_id(event, event_id))
    request = _request(event, row)
    return _generated(row, request, _file_name(row.business_name, request, event.format), storages)


def _request(event: ReportRequested, row: Row[Any]) -> ReportRequest:
    try:
        zone = zone_named(row.time_zone)
    except StreamsError as error:
        raise ReportRefused(str(error)) from None
    return ReportRequest.of(event, row.created_at, zone)


def _generated(row: Row[Any], request: ReportRequest, name: str, storages: Storages) -> Generated:
    return Generated(row.id, request.title, row.file, name, row.bytes, datetime.now(UTC) + _validity(storages))


async def note_failed(database: Database, id: str, reason: str) -> None:
    """Notes in its row that a report failed, and why. One that is there already stays."""
    values = {"status": "failed", "error": reason, "finished_at": datetime.now(UTC)}

    async def note(connection: AsyncConnection) -> None:
        await connection.execute(
            update(reports).where(reports.c.id == id, reports.c.status.not_in(("done", "removed"))).values(values)
        )

    await in_transaction(database.engine, note)


async def _begin(connection: AsyncConnection, event: ReportRequested, id: str, event_id: str) -> Row[Any]:
    """Makes its row, whose moment is the report's from now on."""
    if not await has_business(connection, event.business_id):
        raise ReportRefused(f"there is no business {event.business_id}")
    make = insert_on_sqlite if connection.dialect.name == "sqlite" else insert_on_postgresql
    await connection.execute(
        make(reports)
        .values(
            id=id, business_id=event.business_id, type=event.report_type, format=event.format,
            filters=event.filters.model_dump_json(exclude_defaults=True), user_email=event.user_email,
            status="running", event_id=event_id[:128], created_at=datetime.now(UTC),
        )
        .on_conflict_do_nothing()
    )  # fmt: skip
    return await _find(connection, id)


async def _make(
    event: ReportRequested,
    request: ReportRequest,
    id: str,
    key: FileKey,
    name: str,
    database: Database,
    storages: Storages,
    progress: Progress,
) -> Row[Any]:
    async def on_progress(days: int, of: int) -> None:
        await progress.set(_SHARE_READ * days / of, 100, f"day {days} of {of}")

    # In the directory that TMPDIR names: what is read and what is written may be larger than memory should be.
    with TemporaryDirectory(prefix=PLACE) as place:
        directory = Path(place)
        found = await extract(database.engine, event.business_id, request, directory, on_progress)
        await progress.set(_SHARE_READ, 100, "adding up")
        made = directory / f"report.{event.format}"
        await _in_thread(partial(_write, found, request, event.format, made))
        await progress.set(95, 100, "storing")
        async with storages.reports.write(key, name=name) as file:
            with made.open("rb") as source:
                while block := await asyncio.to_thread(source.read, _BLOCK):
                    await file.write(block)
    await progress.set(100, 100, "done")
    now = datetime.now(UTC)
    done = partial(
        _note,
        id=id,
        status="done",
        error=None,
        file=key,
        bytes=file.bytes,
        finished_at=now,
        expires_at=now + _validity(storages),
    )
    return await in_transaction(database.engine, done)


def _write(found: Extract, request: ReportRequest, format: ReportFormat, path: Path) -> None:
    document = _KINDS[request.type](found, request)
    writer = import_module(f"processors.report.writers.{format}")  # when it is asked for: typst alone is 80 MB
    getattr(writer, f"write_{format}")(document, path)


async def _in_thread(work: Callable[[], _T]) -> _T:
    """Runs it beside the event loop. A cancellation waits for its end: it uses files that are removed then."""
    working = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait([working])
        raise


async def _note(connection: AsyncConnection, id: str, **values: Any) -> Row[Any]:
    await connection.execute(update(reports).where(reports.c.id == id, reports.c.status != "done").values(**values))
    return await _find(connection, id)


async def _find(connection: AsyncConnection, id: str) -> Row[Any]:
    of = businesses.c.name.label("business_name"), businesses.c.time_zone
    query = select(reports, *of).join(businesses).where(reports.c.id == id)
    return (await connection.execute(query)).one()


def _validity(storages: Storages) -> timedelta:
    return timedelta(seconds=storages.settings.link_seconds)


def _file_name(business: str, request: ReportRequest, format: ReportFormat) -> str:
    """What it is called when it is saved: the report, the business and the days."""
    # Letters of all scripts: a name without them would say nothing.
    slug = re.sub(r"[\W_]+", "-", unicodedata.normalize("NFC", business).lower()).strip("-")[:40] or "business"
    days = (
        f"{request.period.first}-to-{request.period.last}"
        if request.type == "sales-analysis"
        else f"{request.at:%Y-%m-%d}"
    )
    return f"{request.type}-{slug}-{days}.{format}"
