"""Moments: read as people type them: `-1h`, `now`, `2026-11-24T09:00:00+01:00`, or the id of an entry."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from streams.cli.durations import parse_duration
from streams.cli.ending import Usage

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
