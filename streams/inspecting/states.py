"""States: the one vocabulary for the state of an event in a group, and the shape of the answer why it has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from streams.inspecting.consumer_report import Report

State = Literal[
    "waiting", "unread", "queued", "running", "retrying", "snoozed",
    "acked", "dead", "cancelled", "expired", "skipped",
]  # fmt: skip
"""The state of an event in one group, in every command, object and text.

| state | means |
|---|---|
| waiting | it is delayed: due, and in its stream, later |
| unread | it is in its stream, and is not delivered yet |
| queued | another message of its key is handled first, or its handler is at a limit |
| running | it is delivered to a consumer, and not settled |
| retrying | its handler failed: it waits for its next attempt, or is back in the inbox |
| snoozed | it is handled later, without an attempt that failed |
| acked | it was handled |
| dead | it is a dead letter, or was one that was discarded |
| cancelled | it was cancelled before it was handled |
| expired | its time to be handled was over before a handler started |
| skipped | the group has nothing to do with it: no handler for its type, or it began further on in the stream |
"""

SETTLED: Final[frozenset[State]] = frozenset({"acked", "dead", "cancelled", "expired", "skipped"})
"""The states that an event keeps, unless it is replayed."""

Cause = Literal[
    "",
    "key", "limit", "paused", "breaker", "no_consumer", "silent", "unresponsive",
    "behind", "busy", "unsubscribed",
    "ready", "suspect", "cancelling", "stuck",
    "unsupported", "overdue",
    "discarded", "no_handler", "missed", "trimmed", "unknown",
]  # fmt: skip
"""What keeps an event in its state, or how it came to it; empty where the state says it all."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why it is not done, or that it is. `group` is empty when no group is meant, `state` when the event is not there,
    `cause` when the state says it all, `remedy` when nothing is to be done.
    """

    group: str
    state: State | Literal[""]
    cause: Cause
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
