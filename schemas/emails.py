"""Events of the emails area: mails that are due, and mails that did not reach all their addresses."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from pydantic import Field

from schemas.inventory import BusinessId
from streams.events.event import Event
from streams.events.privacy import PII


class EmailRefused(Event, stream="emails", version=1):
    """The mail server took a mail for some of its recipients and refused it for these.

    Sending again would repeat it to the ones that have it, so the refusal is reported instead of retried.
    """

    template: str
    message_id: str
    recipients: Annotated[list[str], PII, Field(min_length=1)]
    code: int
    reply: Annotated[str, PII]


class DailyDigestDue(Event, stream="emails", version=1):
    """The daily digest of `day` is due for the people of a business, or of every business, when none is named.

    There is one digest of a business and a day, whatever number of events ask for it.
    """

    day: date
    business_id: BusinessId | None = None


class StockAlertsDue(Event, stream="emails", version=1):
    """It is time to mail about the low-stock alerts of a business that have come together."""

    business_id: int = Field(ge=0)
