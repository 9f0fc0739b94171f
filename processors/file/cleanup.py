"""clean_up: removes exports and error reports by age, and exports by number."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import structlog
from sqlalchemy import or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from processors.database import Database
from processors.database.atomically import atomically
from processors.database.tables import exports
from processors.file.settings import FileSettings
from processors.storage import Storage
from processors.storage.file_key import FileKey

log = structlog.get_logger(__name__)

_AT_ONCE: Final = 200
_ABANDONED: Final = timedelta(days=1)  # nobody writes to a draft for so long


async def clean_up(database: Database, storage: Storage, settings: FileSettings) -> int:
    """Removes what is older than `FILE_EXPORTS_DAYS`, the oldest exports beyond `FILE_EXPORTS_MOST`, and the drafts of
    processes that died; returns how many files. What fails half way is done by the next one.
    """
    now = datetime.now(UTC)
    old = now - timedelta(days=settings.file_exports_days)
    removed = 0
    while keys := await _due(database, old, settings.file_exports_most):
        for id, key in keys:
            if key:
                await storage.remove(FileKey.checked(key))
            await atomically(database.engine, partial(_note, id=id))
        removed += len(keys)
    # Error reports, and whatever else has no row: an export whose process died before it could note it.
    stale = [found.key async for found in storage.ls() if found.at < old]
    for key in stale:
        await storage.remove(key)
    drafts = await asyncio.to_thread(storage.leftovers, now - _ABANDONED)
    for draft in drafts:
        draft.unlink(missing_ok=True)
    removed += len(stale) + len(drafts)
    log.info("exports.cleaned", removed=removed)
    return removed


async def _due(database: Database, old: datetime, most: int) -> list[tuple[str, str | None]]:
    kept = select(exports.c.id).where(exports.c.status == "done").order_by(exports.c.created_at.desc()).limit(most)
    query = (
        select(exports.c.id, exports.c.file)
        .where(
            or_(
                (exports.c.status == "done") & exports.c.id.not_in(kept),
                (exports.c.status != "removed") & (exports.c.created_at < old),
            )
        )
        .limit(_AT_ONCE)
    )
    async with database.engine.connect() as connection:
        return [(row.id, row.file) for row in await connection.execute(query)]


async def _note(connection: AsyncConnection, *, id: str) -> None:
    await connection.execute(update(exports).where(exports.c.id == id).values(status="removed", file=None))
