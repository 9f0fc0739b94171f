"""Moment: when an event is due, as the publish script takes it."""

from __future__ import annotations

import time
from datetime import datetime

from streams.errors import StreamsError
from streams.outcome import Duration, seconds


def moment(delay: Duration | None, at: datetime | None) -> str:
    """Packs `delay=` or `at=`: '' now, '+N' in N ms, '@N' at N ms since 1970. Raises `StreamsError` for a wrong one."""
    if delay is not None and at is not None:
        raise StreamsError("give delay= or at=, not both")
    if delay is not None:
        try:
            return f"+{round(seconds(delay) * 1000)}"
        except ValueError as error:
            raise StreamsError(str(error)) from error
    if at is None:
        return ""
    if at.tzinfo is None:
        raise StreamsError(f"at={at.isoformat()} has no time zone; use an aware datetime")
    milliseconds = round(at.timestamp() * 1000)
    if milliseconds < time.time() * 1000 - 1000:
        raise StreamsError(f"at={at.isoformat()} is in the past")
    return f"@{milliseconds}"
