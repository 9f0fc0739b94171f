"""Circuit breaker: pauses a consumer while a dependency that its handlers need does not answer.

Without it an outage longer than the retries would empty the stream into the dead letters. One per consumer: closed
(normal), open (nothing starts for a while), half open (one message is tried).
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING, Final

from streams import clock
from streams.logs import get_logger
from streams.messages.outcome import Acked, DeadLettered, Outcome, Retried

if TYPE_CHECKING:
    from streams.executing.priority_queue import PriorityQueue

log = get_logger("streams.breaker")

_FIRST: Final = 0.5  # seconds
_MOST: Final = 15.0


class Breaker:
    """The state, and `closed` as a plain attribute because every hand-out looks at it."""

    def __init__(self, group: str, queue: PriorityQueue, rng: Random | None = None) -> None:
        self.closed = True
        self.dependency = ""
        self._group = group
        self._queue = queue  # has the tasks that wait until hand-outs may go on
        self._delay = 0.0
        self._probes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._rng = rng or Random()

    @property
    def is_open(self) -> bool:
        """Whether nothing is handed out now: it waits for its time, or for the outcome of what it let through."""
        return not self.closed and self._probes == 0

    def admits(self) -> bool:
        """Whether a message may be handed out now; in the half-open state that is said once per probe."""
        if self.closed:
            return True
        if self._probes > 0:
            self._probes -= 1
            return True
        return False

    def opened(self, dependency: str) -> float:
        """Notes that `dependency` did not answer; returns the seconds after which the message shall be tried again."""
        if self._timer is None:  # the others in flight that fail for the same outage do not lengthen it
            self._delay = min(_MOST, self._delay * 2 or _FIRST)
            log.warning(
                "breaker.opened" if self.closed else "breaker.still_open",
                group=self._group, dependency=dependency, retry_in=self._delay,
            )  # fmt: skip
            self.closed, self.dependency = False, dependency
            self._timer = clock.timers().call_later(self._delay, self._half_open)
        return self._delay * (1 + self._rng.random() / 2)

    def concluded(self, outcome: Outcome | None) -> None:
        """Notes how a delivery ended while the breaker was not closed.

        Half open, a handler that came to any outcome of its own proves that the dependency answers, and hand-outs go
        on; if no handler ran at all (a skipped type, invalid data, a lost lease), another probe is let through.
        """
        if self.closed or self._timer is not None:
            return
        match outcome:
            case Acked(skipped=False) | Retried() | DeadLettered(reason="failed" | "rejected"):
                log.warning("breaker.closed", group=self._group, dependency=self.dependency)
                self.closed, self.dependency, self._delay, self._probes = True, "", 0.0, 0
            case _:
                self._probes = 1
        self._queue.wake()

    def opens_in(self) -> float:
        """Seconds until the next probe; 0 when closed, or when a probe is under way."""
        if self._timer is None:
            return 0.0
        return max(0.0, self._timer.when() - clock.timers().time())

    def _half_open(self) -> None:
        self._timer = None
        self._probes = 1
        self._queue.wake()

    def stop(self) -> None:
        """Ends the timer."""
        if self._timer is not None:
            self._timer.cancel()
