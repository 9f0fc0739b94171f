"""Untrusted: reads values in Redis that any client with a login may have written.

What cannot be read is shown with escapes, counted as zero, or left out; nothing here raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any, Final

import orjson

_NUMBER: Final = re.compile(r"-?[0-9]{1,18}")
_ENTRY_ID: Final = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")
_LAST_MS: Final = 253_402_300_799_999
"""The end of the year 9999: no later moment can be written down."""


def text(value: Any) -> str:
    """Bytes as text; what is no UTF-8 as escapes, so that two different names stay different."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def wire(value: str) -> bytes:
    """Text as bytes, also if it has halves of surrogates."""
    return value.encode("utf-8", "surrogatepass")


def whole(value: Any, otherwise: int = 0) -> int:
    """A whole number in decimal digits, at most 18 of them."""
    if isinstance(value, int):
        return value
    found = value if isinstance(value, str) else text(value) if value else ""
    return int(found) if len(found) < 20 and _NUMBER.fullmatch(found) else otherwise


def is_entry_id(value: str) -> bool:
    """Whether Redis takes it as the id of an entry: two numbers below 2^64."""
    return _ENTRY_ID.fullmatch(value) is not None and all(int(part) < 2**64 for part in value.split("-"))


def is_time(value: bytes) -> bool:
    """Whether it is a time in ms since 1970, in digits."""
    return value.isdigit() and len(value) <= 15


def moment(milliseconds: float, zone: tzinfo = UTC) -> datetime:
    """A time in ms since 1970, or the nearest that can be written down: a publisher may choose the id of an entry."""
    bounded = min(max(milliseconds, 0), _LAST_MS - 86_400_000) if milliseconds == milliseconds else 0  # noqa: PLR0124
    return datetime.fromtimestamp(bounded / 1000, zone)


def written(text: str, otherwise: datetime) -> datetime:
    """A time as the engine writes it, RFC 3339; `otherwise` for anything else."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return otherwise
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def texts(values: Mapping[bytes, bytes] | None) -> dict[str, str]:
    """A hash as text."""
    return {text(name): text(value) for name, value in (values or {}).items()}


def pairs(flat: list[Any]) -> dict[Any, Any]:
    """A flat list of names and values; of a name that comes twice the first counts, as in the scripts."""
    found: dict[Any, Any] = {}
    for name, value in zip(flat[::2], flat[1::2], strict=False):
        found.setdefault(name, value)
    return found


def scores(members: Iterable[tuple[bytes, float]]) -> dict[str, float]:
    """The members of a sorted set by name, with finite scores: nothing can be reckoned with the others."""
    return {text(name): score for name, score in members if abs(score) < 2**53}


def count(value: bytes | None) -> int:
    """A number of nine digits at most, as the engine writes it; 0 for anything else."""
    return int(value) if value and value.isdigit() and len(value) < 10 else 0


def failures(value: bytes) -> list[dict[str, Any]]:
    """The errors that a message carries, as far as they are some."""
    try:
        errors = orjson.loads(value) if value else []
    except orjson.JSONDecodeError:
        return []
    return [error for error in errors if isinstance(error, dict)] if isinstance(errors, list) else []


def entry_time(entry_id: bytes) -> bytes:
    """When an entry was added by its id, RFC 3339; empty for an id that is no time."""
    try:
        return datetime.fromtimestamp(int(entry_id.partition(b"-")[0]) / 1000, UTC).isoformat().encode()
    except (ValueError, OverflowError, OSError):  # a publisher may choose the id of an entry
        return b""
