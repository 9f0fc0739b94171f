"""Durations, read as people type them: `10s`, `1h30m`."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

from streams.cli.ending import Usage

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
