"""Clock: what time it is, and the timers of the engine's own waits: the machine's, or those of a test.

`streams.testing` has a clock of its own, which stands still until the test moves it. Only what is off the way of a
plain event asks here: what a message is stamped with is its publisher's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Protocol


class Timer(Protocol):
    """What `call_later` gives: it can be asked when, and called off."""

    def when(self) -> float:
        """When it will be, in seconds of `Timers.time`."""
        ...

    def cancel(self) -> None:
        """Calls it off."""
        ...


class Timers(Protocol):
    """The part of an event loop that knows the time."""

    def time(self) -> float:
        """Seconds, from any point on."""
        ...

    def call_later(self, delay: float, callback: Callable[..., Any], *arguments: Any) -> Timer:
        """Calls back after `delay` seconds."""
        ...

    def call_at(self, when: float, callback: Callable[..., Any], *arguments: Any) -> Timer:
        """Calls back at a time."""
        ...


class Clock(Timers, Protocol):
    """Another clock than the machine's."""

    def now(self) -> datetime:
        """The time of day, UTC."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Waits until so much of its time has passed."""
        ...


_clock: ContextVar[Clock | None] = ContextVar("clock", default=None)


def now() -> datetime:
    """The time of day, UTC."""
    clock = _clock.get()
    return datetime.now(UTC) if clock is None else clock.now()


def time() -> float:
    """Seconds from any point on."""
    clock = _clock.get()
    return monotonic() if clock is None else clock.time()


def timers() -> Timers:
    """What runs timers here: the event loop, or a test's clock."""
    return _clock.get() or asyncio.get_running_loop()


async def sleep(seconds: float) -> None:
    """Waits."""
    clock = _clock.get()
    await (asyncio.sleep(seconds) if clock is None else clock.sleep(seconds))


def install(clock: Clock) -> None:
    """Makes it the clock of the current context, and of the tasks that are made in it."""
    _clock.set(clock)


def reset() -> None:
    """Goes back to the machine's."""
    _clock.set(None)
