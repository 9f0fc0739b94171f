"""link_to: the link that a mail about an event has. Events say which file, and are no right to fetch it."""

from __future__ import annotations

from datetime import UTC, datetime

from processors.shared.storage import Storages
from schemas import InventoryExported, InventoryImported, InventoryImportFailed, ReportGenerated


async def link_to(
    storages: Storages, event: InventoryExported | ReportGenerated | InventoryImported | InventoryImportFailed
) -> str:
    """A signed link to the file of an event, or to its error report."""
    if isinstance(event, InventoryImported | InventoryImportFailed):
        assert event.errors_file is not None
        assert event.errors_url is None
        return await storages.link("exports", event.errors_file, "import-errors.csv", made_at=datetime.now(UTC))
    assert event.file is not None
    assert event.url is None
    area = "reports" if isinstance(event, ReportGenerated) else "exports"
    return await storages.link(area, event.file, event.file_name, made_at=datetime.now(UTC))
