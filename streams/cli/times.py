"""Times, read as people type them: a duration (`10s`, `1h30m`), an instant (`-1h`, `now`, `2026-11-24T09:00:00Z`, or
the id of an entry where one can stand), an age (either of them). Every option that takes a time takes it from here.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import Final

from streams.cli.exit import Usage
from streams.redis.untrusted import is_entry_id

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_PART: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)(ms|s|m|h|d)")
_LONGEST: Final = 10 * 365 * 86_400.0
_OF_A_DURATION: Final = frozenset("0123456789.msdh")
_DIGITS: Final = re.compile(r"[0-9]{1,20}(?:-[0-9]{1,20})?")
_INSTANT: Final = "2026-11-24T09:00:00+01:00"


def parse_duration(text: str, option: str) -> timedelta:
    """`10s`, `5m`, `2h`, `1d`, `250ms` or several of them in a row; raises `Usage` naming the option."""
    total, at = 0.0, 0
    for part in _PART.finditer(text):
        if part.start() != at:
            break
        total += float(part[1]) * _UNITS[part[2]]
        at = part.end()
    if not text or at != len(text):
        raise Usage(f"{option} {text[:60]!r} is no duration; write it like 250ms, 10s, 5m, 2h, 1d or 1h30m")
    if total > _LONGEST:
        raise Usage(f"{option} {text[:60]!r} is longer than ten years")
    return timedelta(seconds=total)


def parse_seconds(text: str, option: str, *, least: float = 0.0) -> float:
    """A duration in which a number alone is seconds: `5`, `0.5`, `2m`. Raises `Usage` naming the option."""
    try:
        found = float(text)
    except ValueError:
        found = parse_duration(text, option).total_seconds()
    if not (math.isfinite(found) and least <= found <= _LONGEST):
        raise Usage(f"{option} {text[:60]!r} must be at least {least:g} seconds, and at most ten years")
    return found


def parse_instant(text: str, option: str, *, now: datetime | None = None) -> datetime | None:
    """A time; None for nothing and for `now`. A time ago is counted from `now`, this machine's clock unless given.
    Raises `Usage` naming the option.
    """
    if text in ("", "now"):
        return None
    return _instant(text, option, f"a time ago (-1h) nor a time ({_INSTANT})", now)


def parse_moment(text: str, option: str, *, now: datetime | None = None) -> datetime | str | None:
    """As `parse_instant`, or an entry id as it is."""
    if text in ("", "now"):
        return None
    if _DIGITS.fullmatch(text):
        if not is_entry_id(text if "-" in text else f"{text}-0"):
            raise Usage(f"{option} {text} is no entry id: they end at {2**64 - 1}-{2**64 - 1}")
        return text
    return _instant(text, option, f"a time ago (-1h), a time ({_INSTANT}) nor an entry id", now)


def parse_age(text: str, option: str) -> timedelta:
    """How long ago: a duration (`1h`, `-1h`), or the time since an instant. Raises `Usage` naming the option."""
    if not set(text) - _OF_A_DURATION:
        return parse_duration(text, option)
    at = _instant(text, option, f"a duration (1h) nor a time ({_INSTANT})", now := datetime.now(UTC))
    if at > now:
        raise Usage(f"{option} {text!r} is in the future")
    return now - at


def _instant(text: str, option: str, forms: str, now: datetime | None) -> datetime:
    if text.startswith("-"):
        return (now or datetime.now(UTC)) - parse_duration(text[1:], f"{option} -")
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise Usage(f"{option} {text[:60]!r} is neither {forms}") from None
    if found.tzinfo is None:
        raise Usage(f"{option} {text!r} has no time zone; write it like {_INSTANT} or ...Z")
    try:
        return found.astimezone(UTC)
    except OverflowError:
        raise Usage(f"{option} {text!r} is beyond the years 1 to 9999 in UTC") from None
