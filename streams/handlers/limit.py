"""Limit: how often a handler may start, and how often it may run at once, over all consumers of its group."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from streams.durations import Duration, seconds
from streams.errors import StreamsError

BY_KEY: Final = "key"
_MOST: Final = 1_000_000


class PartitionQuota(NamedTuple):
    """What of a limit one partition may use: ms between two starts (0: any), that many at once after a pause, and that
    many running at once (0: any).
    """

    interval: float
    burst: int
    most: int


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `rate` starts in `per` seconds, and at most `concurrency` running at once: either or both.

    `burst` starts may follow each other at once after a pause; left out it is a tenth of `rate`, at least 1. `by` says
    what is limited: None, the handler as a whole; "key", each ordering key by itself (messages without one together);
    a function of the event, whatever it returns: `by=lambda event: event.business_id`. A try counts as a start.

    Handlers whose limits have the same `name` share it: what one starts counts for all of them. Give them equal limits;
    where they differ, that of the last one that asked holds.

    A delivery that may not start yet is queued in Redis, takes no slot, and loses no attempt. Queued keys are admitted
    round-robin. With several partitions each has its quota, unless it is by key: a key lives in one of them.
    """

    rate: float | None = None
    per: Duration = 1.0
    burst: int | None = None
    concurrency: int | None = None
    by: Literal["key"] | Callable[[Any], object] | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if self.rate is None and self.concurrency is None:
            raise StreamsError("a Limit needs a rate=, a concurrency=, or both")
        for name, given, kind in (
            ("rate", self.rate, int | float), ("burst", self.burst, int), ("concurrency", self.concurrency, int)
        ):  # fmt: skip
            if given is not None and (isinstance(given, bool) or not isinstance(given, kind)):
                raise StreamsError(f"Limit: {name}={given!r} must be a {'whole ' if kind is int else ''}number")
        if self.rate is not None and not 0 < self.rate <= _MOST:
            raise StreamsError(f"Limit: rate={self.rate:g} must be over 0 and at most {_MOST:,}")
        if not seconds(self.per) > 0:
            raise StreamsError(f"Limit: per={self.per} must be over 0 seconds")
        if self.burst is not None and (self.rate is None or not 1 <= self.burst <= _MOST):
            raise StreamsError(f"Limit: burst={self.burst} must be at least 1, and goes with a rate")
        if self.concurrency is not None and not 1 <= self.concurrency <= _MOST:
            raise StreamsError(f"Limit: concurrency={self.concurrency} must be at least 1")
        if self.by is not None and self.by != BY_KEY and not callable(self.by):
            raise StreamsError(f'Limit: by={self.by!r} must be "key" or a function of the event')

    def share(self, partition: int, partitions: int) -> PartitionQuota:
        """The share of one partition; raises `StreamsError` when there is nothing left for it."""
        divided = 1 if self.by == BY_KEY else partitions
        interval, burst, most = 0.0, 1, 0
        if self.rate is not None:
            interval = seconds(self.per) * 1000 / self.rate * divided
            burst = max(1, (self.burst or math.ceil(self.rate / 10)) // divided)
        if self.concurrency is not None:
            if self.concurrency < divided:
                raise StreamsError(
                    f"Limit: concurrency={self.concurrency} cannot be divided among {partitions} partitions; "
                    f'give at least {partitions}, or by="key"'
                )
            most = self.concurrency // divided + (partition < self.concurrency % divided)
        return PartitionQuota(interval, burst, most)

    def __str__(self) -> str:
        parts = []
        if self.rate is not None:
            parts.append(f"{self.rate:g} in {seconds(self.per):g} s")
        if self.concurrency is not None:
            parts.append(f"{self.concurrency} at once")
        if self.by is not None:
            parts.append("by key" if self.by == BY_KEY else "by what it is about")
        return ", ".join(parts)
