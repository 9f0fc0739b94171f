"""clean_up: removes exports and error reports by age, and exports by number."""

from __future__ import annotations

import structlog

from processors.database import Database
from processors.database.tables import exports
from processors.file.settings import FileSettings
from processors.storage import Storage
from processors.storage.retention import remove_old

log = structlog.get_logger(__name__)


async def clean_up(database: Database, storage: Storage, settings: FileSettings) -> None:
    """Removes what is older than `FILE_EXPORTS_DAYS`, error reports (which have no row) among it, and the oldest
    exports beyond `FILE_EXPORTS_MOST`.
    """
    days, most = settings.file_exports_days, settings.file_exports_most
    log.info("exports.cleaned", removed=await remove_old(database, storage, exports, days=days, most=most))
