"""VirtualClock: time that stands still until a test moves it, and the timers that hang on it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any


class VirtualClock:
    """Milliseconds since 1970, as Redis counts, and timers in the shape of an event loop's (in seconds).

    `passing` is called when the engine waits by itself, outside of any handler: it lets that much time pass.
    """

    def __init__(self, start: datetime, passing: Callable[[float], Awaitable[None]]) -> None:
        self.ms = math.ceil(start.timestamp() * 1000)
        self._passing = passing
        self._timers: list[_Timer] = []

    def now(self) -> datetime:
        """The time of day, in UTC."""
        return datetime.fromtimestamp(self.ms / 1000, UTC)

    def time(self) -> float:
        """Seconds since 1970."""
        return self.ms / 1000

    def call_later(self, delay: float, callback: Callable[..., Any], /, *args: Any) -> asyncio.TimerHandle:
        """Calls back once that many seconds have been advanced over."""
        return self.call_at(self.time() + delay, callback, *args)

    def call_at(self, when: float, callback: Callable[..., Any], /, *args: Any) -> asyncio.TimerHandle:
        """Calls back once the clock has been advanced to `when`."""
        timer = _Timer(when, callback, args)
        self._timers.append(timer)
        return timer

    async def sleep(self, seconds: float, /) -> None:
        """Lets time pass."""
        await self._passing(seconds)

    def next_timer(self) -> int | None:
        """When the next timer is due, rounded up to the millisecond; None without timers."""
        return min((timer.due for timer in self._timers if not timer.cancelled()), default=None)

    def fire(self) -> None:
        """Calls the timers that are due, in their order."""
        due = sorted((timer for timer in self._timers if timer.due <= self.ms), key=lambda timer: timer.due)
        self._timers = [timer for timer in self._timers if timer.due > self.ms]
        for timer in due:
            if not timer.cancelled():
                timer.call()


class _Timer(asyncio.TimerHandle):
    """A handle that no event loop knows."""

    def __init__(self, at: float, callback: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.due = math.ceil(round(at * 1000, 3))
        self._at = at
        self._callback_of = callback
        self._arguments = arguments
        self._cancelled = False

    def call(self) -> None:
        self._callback_of(*self._arguments)

    def when(self) -> float:
        return self._at

    def cancel(self) -> None:
        self._cancelled = True

    def cancelled(self) -> bool:
        return self._cancelled
