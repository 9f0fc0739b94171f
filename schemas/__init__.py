"""The contracts: what may be published, in which version, and what is private in it.

Other services may depend on this package alone: it knows no Redis and no engine. Importing it registers every
domain event, which is how a message's `type` finds its class.
"""

from schemas.definition import SchemaError
from schemas.emails import DailyDigestDue, EmailRefused, StockAlertsDue
from schemas.event import Event, registered, registered_types, upcast
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
from schemas.privacy import PII, Secret, redact
from schemas.reports import ReportFailed, ReportGenerated, ReportRequested, ReportsCleanupDue
from schemas.users import PasswordResetRequested, UserRegistered

__all__ = [
    "PII",
    "DailyDigestDue",
    "EmailRefused",
    "Event",
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
    "SchemaError",
    "Secret",
    "StockAlertsDue",
    "StockBelowThreshold",
    "StockCheckDue",
    "UserRegistered",
    "redact",
    "registered",
    "registered_types",
    "upcast",
]
