"""The domain events of Planning Bord: what may be published, in which version, and what is private in it.

Importing it registers every one of them, which is how a message's `type` finds its class. Of the engine it imports
`streams.events` alone, which knows no Redis.
"""

from schemas.emails import DailyDigestDue, EmailRefused, StockAlertsDue
from schemas.files import (
    ExportsCleanupDue,
    InventoryExported,
    InventoryExportFailed,
    InventoryExportRequested,
    InventoryImported,
    InventoryImportFailed,
    InventoryImportUploaded,
)
from schemas.inventory import (
    InventoryBulkUpdateRequested,
    InventorySynced,
    InventorySyncFailed,
    InventorySyncPageDue,
    InventorySyncRequested,
    InventoryUpdated,
    StockBelowThreshold,
    StockCheckDue,
)
from schemas.reports import ReportFailed, ReportGenerated, ReportRequested, ReportsCleanupDue
from schemas.users import PasswordResetRequested, UserRegistered

__all__ = [
    "DailyDigestDue",
    "EmailRefused",
    "ExportsCleanupDue",
    "InventoryBulkUpdateRequested",
    "InventoryExportFailed",
    "InventoryExportRequested",
    "InventoryExported",
    "InventoryImportFailed",
    "InventoryImportUploaded",
    "InventoryImported",
    "InventorySyncFailed",
    "InventorySyncPageDue",
    "InventorySyncRequested",
    "InventorySynced",
    "InventoryUpdated",
    "PasswordResetRequested",
    "ReportFailed",
    "ReportGenerated",
    "ReportRequested",
    "ReportsCleanupDue",
    "StockAlertsDue",
    "StockBelowThreshold",
    "StockCheckDue",
    "UserRegistered",
]
