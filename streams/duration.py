"""Duration: a number of seconds as people read it."""

from __future__ import annotations


def told(seconds: float | None) -> str:
    """A duration in at most two units: `0.4 s`, `12 s`, `3 min`, `2 h 5 min`, `4 d 3 h`; `-` for None."""
    if seconds is None:
        return "-"
    if seconds < 0:
        return f"-{told(-seconds)}"
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
