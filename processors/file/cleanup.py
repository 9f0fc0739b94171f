"""clean_up: removes exports and error reports by age, and exports by number; remove_uploads: uploads by age."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy import select

from processors.file.settings import FileSettings
from processors.shared.database import Database
from processors.shared.database.tables import exports, imports
from processors.shared.storage import Storage
from processors.shared.storage.retention import remove_old

log = structlog.get_logger(__name__)


async def clean_up(database: Database, storage: Storage, settings: FileSettings) -> None:
    """Removes what is older than `FILE_EXPORTS_DAYS`, error reports (which have no row) among it, and the oldest
    exports beyond `FILE_EXPORTS_MOST`.
    """
    days, most = settings.file_exports_days, settings.file_exports_most
    log.info("exports.cleaned", removed=await remove_old(database, storage, exports, days=days, most=most))


async def remove_uploads(database: Database, storage: Storage, settings: FileSettings) -> int:
    """Removes uploads that are older than `FILE_UPLOADS_DAYS`, whether they were imported or refused. One whose import
    is under way stays, however old it is. Returns how many.
    """
    old = datetime.now(UTC) - timedelta(days=settings.file_uploads_days)
    async with database.engine.connect() as connection:
        busy = set(await connection.scalars(select(imports.c.file).where(imports.c.finished_at.is_(None))))
    stale = [found.key async for found in storage.ls() if found.at < old and found.key not in busy]
    for key in stale:
        await storage.remove(key)
    log.info("uploads.cleaned", removed=len(stale))
    return len(stale)
