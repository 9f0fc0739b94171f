"""VirtualClock: time that stands still until a test moves it, and the timers that hang on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any


class VirtualClock:
    """Milliseconds since 1970, as Redis counts, and a timer service in the shape of an event loop's (in seconds)."""

    def __init__(self, start: datetime | None = None) -> None:
        self.ms = round((start or datetime.now(UTC)).timestamp() * 1000)
        self._timers: list[_Timer] = []

    def now(self) -> datetime:
        """The time of day, in UTC."""
        return datetime.fromtimestamp(self.ms / 1000, UTC)

    def time(self) -> float:
        """Seconds since 1970."""
        return self.ms / 1000

    def call_later(self, delay: float, callback: Callable[[], Any], /) -> asyncio.TimerHandle:
        """Calls back once that many seconds have been advanced over."""
        timer = _Timer(self.time() + delay, callback)
        self._timers.append(timer)
        return timer

    def next_timer(self) -> int | None:
        """When the next timer is due, rounded up to the millisecond; None without timers."""
        return min((timer.due for timer in self._timers if not timer.cancelled()), default=None)

    def fire(self) -> bool:
        """Calls the timers that are due, in their order; says whether there were any."""
        due = sorted((timer for timer in self._timers if timer.due <= self.ms), key=lambda timer: timer.due)
        self._timers = [timer for timer in self._timers if timer.due > self.ms]
        for timer in due:
            if not timer.cancelled():
                timer.call()
        return bool(due)


class _Timer(asyncio.TimerHandle):
    """A handle that no event loop knows."""

    def __init__(self, at: float, callback: Callable[[], Any]) -> None:
        self.call = callback
        self.due = -int(-at * 1000 // 1)
        self._at = at
        self._called_off = False

    def when(self) -> float:
        return self._at

    def cancel(self) -> None:
        self._called_off = True

    def cancelled(self) -> bool:
        return self._called_off
