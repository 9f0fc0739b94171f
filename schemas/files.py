"""Events of the files area: what users send and fetch, and the outcomes.

A `file` is the name the storage has given it, never a path; its `name` is what its user calls it, for people only.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, HttpUrl

from schemas.inventory import BusinessId
from schemas.requester import Requester
from streams.events.event import Event, upcast
from streams.events.privacy import PII

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
ImportField = Literal["sku", "quantity", "name", "category", "price", "threshold", "location"]
BlankQuantity = Literal["refuse", "keep", "zero"]


class InventoryImportUploaded(Event, stream="files", version=1):
    """A file of stock is there and is to be imported. A file that was imported before is not imported twice, unless
    `again` says so.
    """

    business_id: BusinessId
    file: FileReference
    sha256: Digest
    name: str = Field("", max_length=255)
    again: bool = False
    user_email: Requester = None
    encoding: str = Field("", max_length=40)
    """What the file is written in, where it does not say so itself: `mac-roman`, `cp1250` ..."""
    decimal: str = Field("", pattern=r"^[.,]?$")
    """The decimal sign of its numbers, where the file leaves both readings open."""
    sheet: str = Field("", max_length=100)
    """The sheet of a workbook; the first one without it."""
    map: dict[ImportField, str] = Field(default_factory=dict, examples=[{"sku": "Custom SKU"}])
    """The names of columns, by what they hold. It is remembered for the business' files with the same first line."""
    location: str = Field("", max_length=100)
    """One of the locations in the file, or `sum` for all of them together. It is remembered likewise."""

    blank_quantity: BlankQuantity = "refuse"
    """What a row means whose quantity is blank or a dash: `refuse` it, `keep` the stock as it is, or `zero`."""

    @property
    def mapping(self) -> dict[str, str]:
        """`map` with fields as text."""
        return {str(field): name for field, name in self.map.items()}


class InventoryImported(Event, stream="files", version=1):
    """A file was imported: all its rows but those that were refused, which are in the report `errors_file`, and as
    a workbook in `errors_xlsx_file`, in the area `exports` of the storage.

    `rows` is `written` and `refused` together. Of the rows that were written `products_new` made a product,
    `products_changed` changed one, and `products_unchanged` found it as they say, or set by a later file. With
    `repeated` nothing was done: the same file was the last one that was imported, and these are the numbers of then.
    """

    business_id: BusinessId
    import_id: str
    file: FileReference
    rows: int = Field(ge=0)
    written: int = Field(ge=0)
    refused: int = Field(ge=0)
    repeated: bool = False
    name: str = Field("", max_length=255)
    errors_file: FileReference | None = None
    errors_url: Annotated[HttpUrl | None, PII] = None  # of older events: a signed link
    user_email: Requester = None
    products_new: int = Field(0, ge=0)
    products_changed: int = Field(0, ge=0)
    products_unchanged: int = Field(0, ge=0)
    errors_xlsx_file: FileReference | None = None


class InventoryImportFailed(Event, stream="files", version=1):
    """A file was not imported: it is no file of stock, too many of its rows are wrong, or something went wrong here.

    Nothing of it was written, unless `written` says how many rows were before it failed.
    """

    business_id: BusinessId
    import_id: str
    file: FileReference
    problem: str = Field(max_length=500)
    refused: int = Field(0, ge=0)
    name: str = Field("", max_length=255)
    errors_file: FileReference | None = None
    errors_url: Annotated[HttpUrl | None, PII] = None  # of older events: a signed link
    user_email: Requester = None
    written: int = Field(0, ge=0)
    errors_xlsx_file: FileReference | None = None


class InventoryExportRequested(Event, stream="files", version=1):
    """A user wants a business' products and stock as a file."""

    business_id: BusinessId
    format: ExportFormat = "csv"
    user_email: Requester = None


class InventoryExported(Event, stream="files", version=2):
    """An export is ready and can be fetched: it is `file` in the area `exports` of the storage, called `file_name`.

    A link to it is the right to fetch it, so it is signed where it is needed and does not stand in a stream. Events of
    version 1 have one, in `url`.
    """

    business_id: BusinessId
    export_id: str
    format: ExportFormat
    file: FileReference | None = None
    file_name: str = Field("", max_length=255)
    url: Annotated[HttpUrl | None, PII] = None
    rows: int = Field(ge=0)
    bytes: int = Field(ge=0)
    user_email: Requester = None

    @staticmethod
    @upcast(from_version=1)
    def _link(data: dict[str, Any]) -> dict[str, Any]:
        return data


class InventoryExportFailed(Event, stream="files", version=1):
    """There will be no export: something went wrong, and was tried several times."""

    business_id: BusinessId
    export_id: str
    format: ExportFormat
    problem: str = Field(max_length=500)
    user_email: Requester = None


class ExportsCleanupDue(Event, stream="files", version=1, priority="low"):
    """It is time to remove exports that are too old or too many."""
