"""digests_due: whose digest is due at a moment, and of which day. Each business' day is that of its own time zone."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

import structlog

from schemas import DailyDigestDue
from streams import StreamsError
from streams.scheduling import Cron

if TYPE_CHECKING:
    from processors.email.settings import EmailSettings
    from processors.shared.database import Database

log = structlog.get_logger(__name__)

EVERY: Final = timedelta(minutes=15)
"""How often it is looked whose time has come: every zone's hour begins at a quarter of an hour of UTC."""


def is_local(settings: EmailSettings) -> bool:
    """Whether `EMAIL_DIGEST_CRON` is in each business' own time zone. Seconds are not looked at so often."""
    return not settings.email_digest_tz and len(settings.email_digest_cron.split()) == 5


async def digests_due(at: datetime, database: Database, settings: EmailSettings) -> list[DailyDigestDue]:
    """The digests that are due at a slot: of each business that has recipients, the last day that has ended there.

    In local time a slot stands for the quarter of an hour before it. One that is no quarter is an operator's, who wants
    all of them now.
    """
    from processors.email.digest import zones_of_businesses
    from processors.shared.database.business_day import zone_named

    all_businesses = not is_local(settings) or bool(at.minute % 15 or at.second or at.microsecond)
    due: list[DailyDigestDue] = []
    for business, name in (await zones_of_businesses(database.engine)).items():
        if not settings.digest_recipients(business):
            continue
        try:
            zone = zone_named(name)
        except StreamsError as error:  # written by another program; the others get theirs all the same
            log.error("digest.no_time_zone", business_id=business, error=str(error))
            continue
        if all_businesses or _has_come(settings.email_digest_cron, zone, at):
            due.append(DailyDigestDue(day=at.astimezone(zone).date() - timedelta(1), business_id=business))
    return due


def _has_come(expression: str, zone: ZoneInfo, at: datetime) -> bool:
    until = int(at.timestamp() * 1000)
    return bool(Cron(expression, zone.key).slots_between(until - int(EVERY.total_seconds() * 1000), until, 1))
