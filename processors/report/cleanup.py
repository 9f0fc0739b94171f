"""clean_up: removes reports by age and by number."""

from __future__ import annotations

import asyncio
import shutil
import time
from contextlib import suppress
from pathlib import Path
from tempfile import gettempdir

import structlog

from processors.report.generating import PLACE
from processors.report.settings import ReportSettings
from processors.shared.database import Database
from processors.shared.database.tables import reports
from processors.shared.storage import Storage
from processors.shared.storage.retention import ABANDONED, remove_old

log = structlog.get_logger(__name__)


async def clean_up(database: Database, storage: Storage, settings: ReportSettings) -> None:
    """Removes what is older than `REPORT_DAYS`, the oldest reports beyond `REPORT_MOST`, and what processes that died
    have left in the temporary directory.
    """
    removed = await remove_old(database, storage, reports, days=settings.report_days, most=settings.report_most)
    log.info("reports.cleaned", removed=removed + await asyncio.to_thread(_clear))


def _clear() -> int:
    before, removed = time.time() - ABANDONED.total_seconds(), 0
    for path in Path(gettempdir()).glob(f"{PLACE}*"):
        with suppress(OSError):  # another user's, or gone by now
            if path.lstat().st_mtime < before:
                shutil.rmtree(path)
                removed += 1
    return removed
