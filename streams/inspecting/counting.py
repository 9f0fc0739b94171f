"""Counting: how many entries of a stream a group has not read, where Redis itself cannot say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from streams.redis.entries import PAGE

if TYPE_CHECKING:
    from streams.redis.entries import Entries


async def count_unread(entries: Entries, key: str, *, after: str, last: str, length: int) -> int:
    """The entries behind `after` up to `last`, of a stream that had `length` entries then.

    Redis keeps no positions, so they are counted: from `after` onwards and backwards in turn, until one side ends.
    After trimming the side behind is short, with a group that keeps up the side before it.
    """
    ahead, behind = entries.forward(key, f"({after}", last), entries.backward(key, after)
    before = unread = 0
    while True:
        for _ in range(PAGE):
            if await anext(ahead, None) is None:
                return unread
            unread += 1
        for _ in range(PAGE):
            if await anext(behind, None) is None:
                return max(0, length - before)
            before += 1


# Waiters: who waits for what in one partition.

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
