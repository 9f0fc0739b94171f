"""Unread: how many entries are behind a position is exact, whichever side of it is counted."""

from __future__ import annotations

from typing import Any

import pytest

from streams import Streams
from streams.inspecting.counting import count_unread
from streams.redis.entries import PAGE, Entries


@pytest.mark.parametrize(
    ("before", "unread"),
    [(0, 0), (1, 0), (0, 1), (3, 2 * PAGE), (2 * PAGE, 3), (PAGE, PAGE), (2 * PAGE + 1, 2 * PAGE), (0, 2 * PAGE)],
)
async def test_the_entries_behind_a_position_are_counted(streams: Streams, before: int, unread: int) -> None:
    """Also with holes on both sides; the position itself may be one."""
    partition = streams.partitions[0]
    key = streams.keys.stream("notes")
    pipe: Any = streams.redis.pipeline(transaction=False)
    numbers = [*range(1, before + 1), *range(before + 2, before + unread + 2)]
    for number in numbers:
        pipe.xadd(key, {"n": number}, id=f"{number}-1")
    await pipe.execute()
    found = await count_unread(
        Entries(partition), key, after=f"{before + 1}-0", last=f"{before + unread + 1}-1", length=before + unread
    )
    assert found == unread
