"""The work of both sides: the same body of about 120 bytes, and a handler that only counts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from streams import Event


class Benched(Event, stream="bench", version=1):
    """The event of the benchmarks."""

    user_id: int
    email: str
    name: str
    at: str


def bodies(count: int) -> list[dict[str, Any]]:
    """Makes `count` bodies."""
    at = datetime.now(UTC).isoformat()
    return [{"user_id": n, "email": f"user{n}@example.com", "name": f"User Number {n}", "at": at} for n in range(count)]


class Counter:
    """Counts handler calls."""

    def __init__(self) -> None:
        self.count = 0

    def hit(self) -> None:
        """One more."""
        self.count += 1
