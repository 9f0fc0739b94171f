"""Events of the reports area."""

from __future__ import annotations

from typing import Annotated

from pydantic import EmailStr, Field, HttpUrl

from schemas.event import Event
from schemas.privacy import PII


class ReportGenerated(Event, stream="reports", version=1):
    """A report is ready and can be fetched at `url`."""

    report_id: str = Field(min_length=1, max_length=64)
    url: HttpUrl
    user_email: Annotated[EmailStr, PII]
