"""Durations, read as people type them: `10s`, `1h30m`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from streams.cli.exit import Usage

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_PART: Final = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)(ms|s|m|h|d)")
_LONGEST: Final = 10 * 365 * 86_400.0


def parse_duration(text: str, option: str) -> timedelta:
    """`10s`, `5m`, `2h`, `1d`, `250ms` or several of them in a row; raises `Usage` naming the option."""
    total, at = 0.0, 0
    for part in _PART.finditer(text):
        if part.start() != at:
            break
        total += float(part[1]) * _UNITS[part[2]]
        at = part.end()
    if not text or at != len(text):
        raise Usage(f"{option} {text!r} is no duration; write it like 250ms, 10s, 5m, 2h, 1d or 1h30m")
    if total > _LONGEST:
        raise Usage(f"{option} {text!r} is longer than ten years")
    return timedelta(seconds=total)


# Moments: read as people type them: `-1h`, `now`, `2026-11-24T09:00:00+01:00`, or the id of an entry.

_ENTRY: Final = re.compile(r"\d{1,20}(-\d{1,20})?")


def parse_moment(text: str, option: str) -> datetime | str | None:
    """A time, or an entry id as it is; None for nothing and for `now`. Raises `Usage` naming the option."""
    if text in ("", "now"):
        return None
    if text.startswith("-"):
        return datetime.now(UTC) - parse_duration(text[1:], f"{option} -")
    if _ENTRY.fullmatch(text):
        return text
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Usage(
            f"{option} {text[:60]!r} is neither a time ago (-1h), a time (2026-11-24T09:00:00+01:00) nor an entry id"
        ) from None
    if moment.tzinfo is None:
        raise Usage(f"{option} {text!r} has no time zone; write it like 2026-11-24T09:00:00+01:00 or ...Z")
    return moment
