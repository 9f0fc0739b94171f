"""Batch: how many events a handler takes at once, and how it says which of them failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from streams.durations import Duration, seconds
from streams.events.event import Event

LARGEST: Final = 10_000
"""Events in a batch: what one settlement looks through at once (settle.lua)."""

FollowUps = Event | Sequence[Event] | Mapping[int, Event | Sequence[Event]] | None
"""What a batch handler returns: follow-ups of the batch, or of single events by their position (from 0)."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Calls the handler with a list of up to `size` events, at the latest `within` seconds after the first was read.

    `within=0` takes what is there. `size` is 1 to 10,000. Raises `ValueError` for an invalid value.
    """

    size: int = 500
    within: Duration = 2.0

    def __post_init__(self) -> None:
        if isinstance(self.size, bool) or not isinstance(self.size, int):
            raise ValueError(f"size={self.size!r} must be a whole number")
        if not 1 <= self.size <= LARGEST:
            raise ValueError(f"size={self.size} must be between 1 and {LARGEST:,}")
        seconds(self.within)


class BatchFailed(Exception):
    """Raised by a batch handler when some of its events failed: their positions in the list (from 0), each with what a
    handler of one event would have raised (`Retry`, `Snooze`, `DeadLetter`, any exception). The others are acked,
    and `follow_ups` are published with them, as if they had been returned.
    """

    def __init__(self, errors: Mapping[int, BaseException], follow_ups: FollowUps = None) -> None:
        for position, error in dict[Any, Any](errors).items():
            if not (isinstance(position, int) and isinstance(error, BaseException)):
                raise TypeError("BatchFailed takes {position in the list: exception}")
        super().__init__(f"{len(errors)} events of the batch failed")
        self.errors = dict(errors)
        self.follow_ups = follow_ups
