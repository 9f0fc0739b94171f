"""Moment: when an event is due, as the publish script takes it, and until when it may be handled."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from streams import clock
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
    if milliseconds < clock.now().timestamp() * 1000 - 1000:
        raise StreamsError(f"at={at.isoformat()} is in the past")
    return f"@{milliseconds}"


def expiry(expires: timedelta | datetime | None, when: str) -> str:
    """The `expirytime` of a message, RFC 3339 in UTC, or empty. Raises `StreamsError` for a time without zone, and for
    one at which the message is not yet due: it would be published for nothing.
    """
    if expires is None:
        return ""
    now = clock.now()
    at = expires if isinstance(expires, datetime) else now + expires
    if at.tzinfo is None:
        raise StreamsError(f"expires={at.isoformat()} has no time zone; use an aware datetime")
    wait = int(when[1:]) / 1000 if when else 0.0
    start = datetime.fromtimestamp(wait, UTC) if when.startswith("@") else now + timedelta(seconds=wait)
    if at <= start:
        raise StreamsError(f"expires={at.isoformat()} is before the event would be handled")
    return at.astimezone(UTC).isoformat(timespec="milliseconds")
