"""clean_up: removes reports by age and by number."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import gettempdir
from typing import Any, Final

import structlog
from sqlalchemy import or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from processors.database import Database
from processors.database.atomically import atomically
from processors.database.tables import reports
from processors.report.generating import PLACE
from processors.report.settings import ReportSettings
from processors.storage import Storage
from processors.storage.file_key import FileKey

log = structlog.get_logger(__name__)

_AT_ONCE: Final = 200
_ABANDONED: Final = timedelta(days=1)  # nobody writes to a draft for so long


async def clean_up(database: Database, storage: Storage, settings: ReportSettings) -> int:
    """Removes what is older than `REPORT_DAYS`, the oldest reports beyond `REPORT_MOST`, and what processes that died
    have left; returns how many. The rows stay, without the address of whoever asked. What fails half way is done by the
    next one.
    """
    now = datetime.now(UTC)
    old = now - timedelta(days=settings.report_days)
    removed = 0
    while rows := await _due(database, old, settings.report_most):
        for id, key in rows:
            if key:
                await storage.remove(FileKey.checked(key))
            await atomically(database.engine, partial(_note, id=id))
            removed += 1 if key else 0
    # What has no row: its process died before it could note it, and nobody tried again.
    stale = [found.key async for found in storage.ls() if found.at < old]
    for key in stale:
        await storage.remove(key)
    drafts = await asyncio.to_thread(storage.leftovers, now - _ABANDONED)
    for draft in drafts:
        draft.unlink(missing_ok=True)
    removed += len(stale) + len(drafts) + await asyncio.to_thread(_clear, now - _ABANDONED)
    log.info("reports.cleaned", removed=removed)
    return removed


def _clear(before: datetime) -> int:
    """In the temporary directory: what reports were made of whose processes were killed."""
    removed = 0
    for path in Path(gettempdir()).glob(f"{PLACE}*"):
        with suppress(OSError):  # another user's, or gone by now
            if path.lstat().st_mtime < before.timestamp():
                shutil.rmtree(path)
                removed += 1
    return removed


async def _due(database: Database, old: datetime, most: int) -> list[tuple[str, Any]]:
    kept = (
        select(reports.c.id)
        .where(reports.c.status == "done")
        .order_by(reports.c.created_at.desc(), reports.c.id)
        .limit(most)
    )
    query = (
        select(reports.c.id, reports.c.file)
        .where(
            or_(
                (reports.c.status == "done") & reports.c.id.not_in(kept),
                (reports.c.status != "removed") & (reports.c.created_at < old),
            )
        )
        .limit(_AT_ONCE)
    )
    async with database.engine.connect() as connection:
        return [(row.id, row.file) for row in await connection.execute(query)]


async def _note(connection: AsyncConnection, *, id: str) -> None:
    await connection.execute(
        update(reports).where(reports.c.id == id).values(status="removed", file=None, user_email=None)
    )
