"""in_words: numbers as people read them."""

from __future__ import annotations

import math
from datetime import date
from typing import Any, Final

from processors.report.document import Kind

NOTHING: Final = "-"
_SIGNS: Final = {"EUR": "€", "GBP": "£", "USD": "$"}
_STEPS: Final = ((1_000_000_000_000, "tn"), (1_000_000_000, "bn"), (1_000_000, "m"), (1_000, "k"))


def in_words(value: Any, kind: Kind, currency: str = "") -> str:
    """A value in full: `£1,234.50`, `1,234`, `12.3 %`, `+4.0 %`, `24 Nov 2026`."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return NOTHING
    match kind:
        case "money":
            cents = round(value)  # whole numbers keep all of their digits, however many there are
            return f"{'-' if cents < 0 else ''}{sign(currency)}{abs(cents) // 100:,}.{abs(cents) % 100:02}"
        case "count":
            return f"{value:,.0f}"
        case "decimal":
            return f"{value:,.1f}"
        case "share":
            return f"{value * 100:.1f} %"
        case "change":
            return f"{value * 100:+,.1f} %" if abs(value) < 10 else f"{value + 1:,.0f} times"
        case "day":
            assert isinstance(value, date)
            return f"{value.day} {value:%b %Y}"
        case "text" | "state":
            return str(value)


def in_short(value: float, kind: Kind, currency: str = "") -> str:
    """The same in little room: `£1.2m`. From ten thousand on the cents do not matter."""
    if kind not in ("money", "count"):
        return in_words(value, kind, currency)
    amount = abs(value / 100 if kind == "money" else value)
    before = ("-" if value < 0 else "") + (sign(currency) if kind == "money" else "")
    for size, name in _STEPS:
        if amount >= size * 0.9995:  # what three digits would round up to it
            parts = amount / size
            return f"{before}{parts:.3g}{name}" if parts < 999.5 else f"{before}{amount:.2e}"
    return f"{before}{amount:.3g}"


def as_headline(value: float | None, kind: Kind, currency: str = "") -> str:
    """A figure that is read at a glance: in full, without the cents of what is large."""
    if value is not None and kind == "money" and abs(value) >= 1_000_000:
        return f"{'-' if value < 0 else ''}{sign(currency)}{(abs(round(value)) + 50) // 100:,}"
    return in_words(value, kind, currency)


def plural(count: int, one: str, many: str = "") -> str:
    """`1 product`, `2 products`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def sign(currency: str) -> str:
    """What stands before an amount."""
    return _SIGNS.get(currency, f"{currency} " if currency else "")
