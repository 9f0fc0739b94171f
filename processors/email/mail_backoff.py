"""Tries: when a mail is tried again. A server's "not now" has a schedule of its own, of minutes and hours."""

from __future__ import annotations

import random as random_module
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from streams import Backoff, Retry
from streams.clock import now

_LAST: Final = 60.0  # seconds before its end at which what ends is tried for the last time
_SHORTEST: Final = 30.0  # seconds between two tries of what ends


class Deferred(Retry):
    """The mail server refused a mail for now (4xx: greylisting, throttling, a full disk). It counts as an attempt.

    `until` is the moment after which the mail is worth nothing: the last try is a minute before it.
    """

    def __init__(self, message: str, *, until: datetime | None = None) -> None:
        super().__init__(message)
        self.until = until


class Ambiguous(Retry):
    """The mail was sent and no reply came: the server may or may not have it.

    Unless `EMAIL_AMBIGUOUS` is `hold`, it is sent again with the same Message-ID (at-least-once): two copies are a
    smaller harm than none, and mail systems that look at the Message-ID drop the second. It counts as an attempt, so
    that a server which always dies on this mail gets it a few times only. `tries` counts how often it ended so.
    """

    tries = 1


@dataclass(frozen=True)
class MailBackoff(Backoff):
    """The retry policy of mails: `deferred` for `Deferred`, the other fields for every other error.

    All count as attempts. An error after attempts that `deferred` alone allowed is tried again as one of those: a mail
    that was refused for hours is not dead-lettered for one lost connection to Redis. `Ambiguous` counts its own kind
    only.
    """

    # RFC 5321, 4.5.4.1, wants tries over days. The first ones are closer together than its half an hour: greylisting
    # lets a mail pass after 5 to 15 minutes, and people wait for a welcome and a password reset.
    deferred: Backoff = field(default_factory=lambda: Backoff(attempts=20, first=60.0, most=4 * 3600.0))

    def next_delay(
        self, failures: int, error: BaseException, random: Callable[[], float] = random_module.random
    ) -> float | None:
        """Seconds until the next try, or None when there is none left."""
        if not isinstance(error, Deferred):
            if isinstance(error, Ambiguous):
                return super().next_delay(error.tries, error, random)
            if failures > self.attempts:
                return self.deferred.next_delay(failures, error, random)
            return super().next_delay(failures, error, random)
        delay = self.deferred.next_delay(failures, error, random)
        if delay is None or error.until is None:
            return delay
        left = (error.until - now()).total_seconds() - _LAST
        return None if left < _SHORTEST else min(delay, left)
