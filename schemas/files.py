"""Events of the files area: what users send and fetch, and what became of it.

A `file` is the name the storage has given it, never a path; its `name` is what its user calls it, for people only.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import EmailStr, Field, HttpUrl

from schemas.event import Event
from schemas.inventory import BusinessId
from schemas.privacy import PII

FileReference = Annotated[
    str,
    Field(
        min_length=1,
        max_length=80,
        pattern=r"^[0-9]{1,10}/[0-9a-f]{32}\.[a-z]{2,8}$",
        examples=["1/0123456789abcdef0123456789abcdef.csv"],
    ),
]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", examples=["0123456789abcdef" * 4])]
ExportFormat = Literal["csv", "json", "ndjson", "xlsx", "parquet"]
Whom = Annotated[EmailStr | None, PII]
"""Who asked, and is to be told; nobody when it is left out."""


class InventoryImportUploaded(Event, stream="files", version=1):
    """A file of stock is there and is to be imported. A file that was imported before is not imported twice, unless
    `again` says so.
    """

    business_id: BusinessId
    file: FileReference
    sha256: Digest
    name: str = Field("", max_length=255)
    again: bool = False
    user_email: Whom = None


class InventoryImported(Event, stream="files", version=1):
    """A file was imported: all its rows but those that were refused, which are in the report at `errors_url`.

    With `repeated` nothing was done: the same file had been imported before, and these are the numbers of then.
    """

    business_id: BusinessId
    import_id: str
    file: FileReference
    rows: int = Field(ge=0)
    written: int = Field(ge=0)
    refused: int = Field(ge=0)
    repeated: bool = False
    name: str = Field("", max_length=255)
    errors_url: HttpUrl | None = None
    user_email: Whom = None


class InventoryImportFailed(Event, stream="files", version=1):
    """Nothing of a file was imported: it is no CSV file of stock, or too many of its rows are wrong."""

    business_id: BusinessId
    import_id: str
    file: FileReference
    problem: str = Field(max_length=500)
    refused: int = Field(0, ge=0)
    name: str = Field("", max_length=255)
    errors_url: HttpUrl | None = None
    user_email: Whom = None


class InventoryExportRequested(Event, stream="files", version=1):
    """Somebody wants a business' products and stock as a file."""

    business_id: BusinessId
    format: ExportFormat = "csv"
    user_email: Whom = None


class InventoryExported(Event, stream="files", version=1):
    """An export is ready and can be fetched at `url` for as long as the link works."""

    business_id: BusinessId
    export_id: str
    format: ExportFormat
    url: HttpUrl
    rows: int = Field(ge=0)
    bytes: int = Field(ge=0)
    user_email: Whom = None


class ExportsCleanupDue(Event, stream="files", version=1, priority="low"):
    """It is time to remove exports that are too old or too many."""
