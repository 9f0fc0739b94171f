"""Unread: how many entries of a stream a group has not been given, where Redis cannot say it itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.entries import PAGE

if TYPE_CHECKING:
    from streams.entries import Entries


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
