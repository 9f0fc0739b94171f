"""VirtualTime: a clock that stands still until a test moves it, and the timers that depend on it."""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from itertools import count
from typing import Any


class VirtualTimer:
    """One call back that is to come."""

    def __init__(self, at: float, callback: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self._at = at
        self.callback = callback
        self.arguments = arguments
        self.cancelled = False

    def when(self) -> float:
        """When it comes, in seconds since 1970."""
        return self._at

    def cancel(self) -> None:
        """Calls it off."""
        self.cancelled = True


class VirtualTime:
    """The clock of one harness, in whole milliseconds, as Redis counts them. `wait` is called when the engine waits by
    itself, outside of anything that is being handled: it lets that much time pass.
    """

    def __init__(self, start: datetime, wait: Callable[[float], Awaitable[None]]) -> None:
        self.ms = math.ceil(start.timestamp() * 1000)
        self._wait = wait
        self._timers: list[tuple[float, int, VirtualTimer]] = []
        self._order = count()

    def now(self) -> datetime:
        """The time of day, UTC."""
        return datetime.fromtimestamp(self.ms / 1000, UTC)

    def time(self) -> float:
        """Seconds since 1970."""
        return self.ms / 1000

    def call_later(self, delay: float, callback: Callable[..., Any], *arguments: Any) -> VirtualTimer:
        """Calls back when the clock has been moved by `delay` seconds."""
        return self.call_at(self.time() + delay, callback, *arguments)

    def call_at(self, when: float, callback: Callable[..., Any], *arguments: Any) -> VirtualTimer:
        """Calls back when the clock has been moved to `when`."""
        timer = VirtualTimer(when, callback, arguments)
        heapq.heappush(self._timers, (when, next(self._order), timer))
        return timer

    async def sleep(self, seconds: float) -> None:
        """Lets time pass."""
        await asyncio.sleep(0)
        await self._wait(seconds)

    def next_timer(self) -> int | None:
        """The ms since 1970 at which the next timer has come; None without one."""
        while self._timers and self._timers[0][2].cancelled:
            heapq.heappop(self._timers)
        return math.ceil(round(self._timers[0][0] * 1000, 3)) if self._timers else None

    def move_to(self, ms: int) -> None:
        """Moves the clock forward and fires the timers that have come, in their order."""
        self.ms = max(self.ms, ms)
        while (due := self.next_timer()) is not None and due <= self.ms:
            timer = heapq.heappop(self._timers)[2]
            timer.callback(*timer.arguments)
