"""Duration: a number of seconds as people read it."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from math import nan
from numbers import Real


def format_duration(seconds: float | None) -> str:
    """A duration in at most two units: `0.4 s`, `12 s`, `3 min`, `2 h 5 min`, `4 d 3 h`; `-` for None."""
    if seconds is None:
        return "-"
    if seconds < 0:
        return f"-{format_duration(-seconds)}"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    if minutes < 120:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


Duration = float | timedelta


def seconds(duration: Duration) -> float:
    """A duration in seconds; raises `ValueError` when it is no number of them, negative, or over ten years."""
    given: object = duration  # a user's, whatever its annotation says
    if isinstance(given, timedelta):
        value = given.total_seconds()
    elif not isinstance(given, bool) and isinstance(given, Real | Decimal):
        try:
            value = float(given)
        except (ValueError, OverflowError):  # a signalling NaN, an int beyond every float
            value = nan
    else:
        raise ValueError(f"duration {repr(given)[:40]} must be seconds, as 5, or a timedelta, as timedelta(minutes=5)")
    if not 0 <= value < 10 * 365 * 86_400:
        raise ValueError(f"duration {value:g} s must be between 0 and ten years")
    return value
