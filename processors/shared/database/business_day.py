"""Business days: where the days, weeks and months of a business begin and end.

Each business has one time zone (`businesses.time_zone`), which its reports, its digest and its schedules share.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import Final
from zoneinfo import ZoneInfo

from streams import StreamsError

UTC_ZONE: Final = ZoneInfo("UTC")
_NOT_A_PLACE: Final = ("localtime", "Factory", "posixrules")  # another zone on each machine, or none


def zone_named(name: str) -> ZoneInfo:
    """The time zone of a name such as `Europe/Berlin`; raises `StreamsError` for what is none."""
    try:
        if name in _NOT_A_PLACE:
            raise ValueError(name)
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # not found, not a name at all, a directory
        raise StreamsError(
            f"{name[:64]!r} is no time zone; write one as Europe/Berlin "
            "(python -m processors.shared.database zone BUSINESS ZONE)"
        ) from None


def midnight(day: date, zone: ZoneInfo) -> datetime:
    """The first moment of a day, in UTC. A day may have 23 or 25 hours, and may begin at one o'clock."""
    return datetime.combine(day, time(), zone).astimezone(UTC)
