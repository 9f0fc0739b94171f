"""Events of the reports area: reports that are asked for, and their outcomes."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, EmailStr, Field, HttpUrl

from schemas.files import FileReference
from schemas.inventory import BusinessId
from streams.events.event import Event, upcast
from streams.events.privacy import PII

ReportType = Literal["inventory-summary", "sales-analysis", "stock-forecast"]
ReportFormat = Literal["csv", "xlsx", "html", "pdf"]
Category = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]*$")]


class ReportFilters(BaseModel):
    """What a report is about, where it can be chosen. What is left out, or has no meaning for the report, chooses all.

    The days are of the business' time zone, and both are part of the report. Days that are the wrong way round are
    refused by the report and not by the schema, so that the user gets an answer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    first_day: date | None = None
    last_day: date | None = None
    categories: list[Category] = Field(default_factory=list, max_length=50)
    days_ahead: int = Field(30, ge=7, le=180)


class ReportRequested(Event, stream="reports", version=1):
    """A user wants a report on a business' stock or sales as a file."""

    business_id: BusinessId
    report_type: ReportType
    format: ReportFormat = "html"
    filters: ReportFilters = ReportFilters()
    user_email: Annotated[EmailStr, PII]


class ReportGenerated(Event, stream="reports", version=2):
    """A report is ready and can be fetched until `expires_at`: it is `file` in the area `reports` of the storage.

    A link to it is the right to fetch it, so it is signed where it is needed and does not stand in a stream. Events of
    version 1 have one, in `url`.
    """

    report_id: str = Field(min_length=1, max_length=64)
    file: FileReference | None = None
    file_name: str = Field("", max_length=255)
    url: Annotated[HttpUrl | None, PII] = None
    user_email: Annotated[EmailStr, PII]
    title: str = Field("", max_length=300)
    business_id: BusinessId | None = None
    report_type: ReportType | None = None
    format: ReportFormat | None = None
    expires_at: AwareDatetime | None = None

    @staticmethod
    @upcast(from_version=1)
    def _link(data: dict[str, Any]) -> dict[str, Any]:
        return data


class ReportFailed(Event, stream="reports", version=1):
    """A report that was asked for cannot be made, for a reason that trying again does not change."""

    report_id: str = Field(min_length=1, max_length=64)
    business_id: BusinessId
    report_type: ReportType
    format: ReportFormat
    problem: str = Field(max_length=500)
    user_email: Annotated[EmailStr, PII]


class ReportsCleanupDue(Event, stream="reports", version=1, priority="low"):
    """It is time to remove reports that are too old or too many."""
