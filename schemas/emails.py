"""Events of the emails area: what became of a mail that did not reach everybody."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from schemas.event import Event
from schemas.privacy import PII


class EmailRefused(Event, stream="emails", version=1):
    """The mail server took a mail for some of its recipients and refused it for these.

    Sending again would repeat it to the ones that have it, so the refusal is reported instead of retried.
    """

    template: str
    message_id: str
    recipients: Annotated[list[str], PII, Field(min_length=1)]
    code: int
    reply: Annotated[str, PII]
