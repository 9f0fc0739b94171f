"""Facts: what is known of a group and an event when it is asked why it is not done, and the answer's shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from streams.inspecting.consumer_report import Report

State = Literal[
    "done", "skipped", "dead", "discarded", "cancelled", "expired", "missed",
    "running", "ready", "suspect", "cancelling", "stuck", "unresponsive", "silent",
    "unread", "behind", "busy", "paused", "no_consumer",
    "retrying", "snoozed", "breaker", "limited", "newer", "overdue", "delayed", "in_line",
    "unsubscribed", "trimmed", "unknown",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reason:
    """Why it is not done, or that it is. `group` is empty when no group is meant, `mend` when nothing is to be done."""

    group: str
    state: State
    why: str
    remedy: str = ""

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a group and of the event, beside its trail. Durations in seconds.

    `beats` are the ages of its consumers' heartbeats, `reports` the answers of those that answered. `ahead` is how many
    unread entries stand before it (None: not counted), `rate` how many a second are read. `last_seen` is how long ago
    the group had a consumer, None when nobody knows; `reads` whether its newest consumers read this stream.
    """

    id: str
    type: str
    version: int
    stream: str
    lease: float
    deliveries: int
    reads: bool = True
    paused: bool = False
    cancelled: bool = False
    beats: Mapping[str, float] = field(default_factory=dict)
    reports: Mapping[str, Report] = field(default_factory=dict)
    ahead: int | None = None
    rate: float = 0.0
    last_seen: float | None = None

    @property
    def alive(self) -> list[str]:
        """The consumers whose heartbeat is younger than a lease."""
        return [name for name, age in self.beats.items() if age <= self.lease]
