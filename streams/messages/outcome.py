"""Outcome: how a delivery ended. A closed set; each member has exactly one settlement.

The exceptions below are how a handler asks for one. They are signals, not errors: handlers ask, the executor decides,
the settlement acts. The texts of an outcome are stored and shown: wherever one is made, they are scrubbed and cut here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, get_args

from streams.durations import seconds
from streams.messages.error_text import LONGEST_TRACEBACK
from streams.redaction import LONGEST, scrub

if TYPE_CHECKING:
    from streams.durations import Duration
    from streams.messages.message import Message


@dataclass(frozen=True, slots=True)
class Acked:
    """Done. `follow_ups` are published in the same script call; `skipped` says there was nothing to do. One that is
    `shared` is the outcome of several deliveries of a batch: its follow-ups are published once, with the first of them.
    """

    follow_ups: tuple[Message, ...] = ()
    skipped: bool = False
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Retried:
    """Failed and will be tried again after `after` seconds; counts as an attempt."""

    after: float
    error: str

    def __post_init__(self) -> None:
        _ = seconds(self.after)
        _scrub(self, "error", LONGEST)


@dataclass(frozen=True, slots=True)
class Snoozed:
    """Not now: again after `after` seconds, and it does not count. What is `noted` has a line in log and history."""

    after: float
    reason: str
    first_seen: str = ""
    noted: bool = True

    def __post_init__(self) -> None:
        _ = seconds(self.after)
        _scrub(self, "reason", LONGEST)


@dataclass(frozen=True, slots=True)
class DeadLettered:
    """Dead-lettered, kept with its reason: `failed`, `invalid`, `unknown_type`, `too_large`, `unsupported`, `crashed`
    or `rejected` (the handler said so). `follow_ups` are published in the same script call.
    """

    reason: str
    error: str
    traceback: str = ""
    follow_ups: tuple[Message, ...] = ()

    def __post_init__(self) -> None:
        _scrub(self, "reason", LONGEST)
        _scrub(self, "error", LONGEST)
        _scrub(self, "traceback", LONGEST_TRACEBACK)


def _scrub(outcome: object, field: str, length: int) -> None:
    object.__setattr__(outcome, field, scrub(getattr(outcome, field), length))  # they are frozen


@dataclass(frozen=True, slots=True)
class Released:
    """Released unhandled at once (shutdown); neither an attempt nor a delivery."""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Cancelled by an operator or a caller while this consumer held it."""


@dataclass(frozen=True, slots=True)
class Expired:
    """Not handled, because its publisher said until when it may be (`publish(expires=...)`); `at` is that time."""

    at: str


Outcome = Acked | Retried | Snoozed | DeadLettered | Released | Cancelled | Expired
OUTCOMES: Final = frozenset(get_args(Outcome))

ACKED: Final = Acked()
SKIPPED: Final = Acked(skipped=True)
RELEASED: Final = Released()


class Retry(Exception):
    """Raised by a handler to be tried again, after `after` seconds if given, else by its policy. Counts."""

    def __init__(self, message: str = "the handler asked for a retry", *, after: Duration | None = None) -> None:
        super().__init__(message)
        self.after = None if after is None else seconds(after)


class Snooze(Exception):
    """Raised by a handler to be called again after `after` seconds without it counting as an attempt."""

    def __init__(self, after: Duration, message: str = "snoozed") -> None:
        super().__init__(message)
        self.after = seconds(after)


class DeadLetter(Exception):
    """Raised by a handler to dead-letter the message at once: trying again cannot help. The text says why."""


class Unavailable(Exception):
    """Raised by a handler when something it depends on (a mail server, a database) does not answer at all.

    It opens the processor's breaker: the consumer starts no handlers until a probe succeeds, the message
    waits without losing an attempt, and nothing is dead-lettered for the outage of another service.
    """

    def __init__(self, dependency: str, message: str = "") -> None:
        super().__init__(message or f"{dependency} is not available")
        self.dependency = dependency
