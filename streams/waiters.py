"""Waiters: who waits for what in one partition."""

from __future__ import annotations

from typing import Any, Final

_SCAN: Final = 5_000


async def count_waiting(redis: Any, due: str, total: int) -> dict[str, int]:
    """How many messages wait in `due` by group, and under the empty name the delayed events."""
    counts: dict[str, int] = {}
    cursor = 0
    while total:
        cursor, members = await redis.zscan(due, cursor, count=_SCAN)
        for member, _ in members:
            group = member.decode("utf-8", "replace").rpartition(" ")[0].partition(" ")[0]
            counts[group] = counts.get(group, 0) + 1
        if cursor == 0:
            break
    return counts
