"""Reached: how far the handling of an event has come in one group, by the last report of its handler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import orjson

if TYPE_CHECKING:
    from streams.partition import Partition


@dataclass(frozen=True, slots=True)
class Reached:
    """`done` of `total` (None: nobody knows) in the handler's own unit, in its `attempt`; `at` is RFC 3339."""

    done: float
    total: float | None
    text: str
    attempt: int
    at: str

    @property
    def share(self) -> float | None:
        """What is done of all, 0 to 1; None when the total is not known."""
        return min(1.0, self.done / self.total) if self.total else None

    @classmethod
    def decode(cls, report: bytes) -> Self | None:
        """Reads a report as `progress.lua` keeps it; None for anything else: others may write into Redis."""
        try:
            match orjson.loads(report):
                case {"done": done, "total": total, "text": str(text), "attempt": int(attempt), "at": str(at)}:
                    return cls(float(done), None if total is None else float(total), text, attempt, at)
        except (ValueError, TypeError):
            pass
        return None

    @classmethod
    async def of(cls, partition: Partition, event_id: str) -> dict[str, Self]:
        """What handlers have reported of an event, by group; empty an hour after the last report."""
        redis: Any = partition.redis  # redis-py's annotations are unions over both protocols
        if await redis.type(partition.keys.progress(event_id)) != b"hash":
            return {}
        reports = await redis.hgetall(partition.keys.progress(event_id))
        read = {group.decode("utf-8", "replace"): cls.decode(report) for group, report in reports.items()}
        return {group: reached for group, reached in read.items() if reached is not None}
