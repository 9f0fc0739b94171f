"""Delay: when an event is due, as the publish script takes it, and until when it may be handled."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from streams import clock
from streams.durations import Duration, seconds
from streams.errors import Unpublishable
from streams.messages.publishable import shown


def moment(delay: Duration | None, at: datetime | None) -> str:
    """Packs `delay=` or `at=`: '' now, '+N' in N ms, '@N' at N ms since 1970. Raises `Unpublishable`."""
    if delay is not None and at is not None:
        raise Unpublishable("give delay= or at=, not both")
    if delay is not None:
        try:
            return f"+{round(seconds(delay) * 1000)}"
        except ValueError as error:
            raise Unpublishable(f"delay=: {error}") from None
    if at is None:
        return ""
    milliseconds = round(_aware("at", at).timestamp() * 1000)
    if milliseconds < clock.now().timestamp() * 1000 - 1000:
        raise Unpublishable(f"at={at.isoformat()} is in the past")
    return f"@{milliseconds}"


def expiry(expires: timedelta | datetime | None, when: str) -> str:
    """The `expirytime` of a message, RFC 3339 in UTC, or empty. Raises `Unpublishable` for a time without zone, and for
    one at which the message is not yet due: it would be published for nothing.
    """
    if expires is None:
        return ""
    now = clock.now()
    if isinstance(expires, timedelta):
        try:
            at = now + expires
        except OverflowError:
            raise Unpublishable("expires= is after the year 9999; leave it out") from None
    else:
        at = _aware("expires", expires)
    wait = int(when[1:]) / 1000 if when else 0.0
    start = datetime.fromtimestamp(wait, UTC) if when.startswith("@") else now + timedelta(seconds=wait)
    if at <= start:
        raise Unpublishable(f"expires={at.isoformat()} is before the event would be handled")
    return at.astimezone(UTC).isoformat(timespec="milliseconds")


def _aware(name: str, at: Any) -> datetime:
    """A time that has a time zone, so that it is one instant."""
    if not isinstance(at, datetime):
        other = " or a timedelta" if name == "expires" else ""
        raise Unpublishable(f"{name}={shown(at)} must be an aware datetime{other}, as datetime.now(UTC) + ...")
    try:
        if at.utcoffset() is not None:
            at.astimezone(UTC)
            return at
    except OverflowError:
        raise Unpublishable(f"{name}={at.isoformat()} is beyond the years 1 to 9999 in UTC") from None
    except Exception as error:  # noqa: BLE001 - a time zone is user code, and may raise anything
        raise Unpublishable(f"{name}= has a time zone that fails ({type(error).__name__})") from None
    raise Unpublishable(f"{name}={at.isoformat()} has no time zone; use an aware datetime, as datetime.now(UTC)")
