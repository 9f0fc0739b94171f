"""Clock: what time it is, and the timers of the engine's own waits: the machine's, or those of a test.

`streams.testing` puts one of its own in their place, which stands still until the test moves it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Protocol

from streams.errors import StreamsError


class Timers(Protocol):
    """The part of an event loop that knows the time."""

    def time(self) -> float:
        """Seconds since some moment."""

    def call_later(self, delay: float, callback: Callable[..., Any], /, *args: Any) -> asyncio.TimerHandle:
        """Calls back in `delay` seconds."""

    def call_at(self, when: float, callback: Callable[..., Any], /, *args: Any) -> asyncio.TimerHandle:
        """Calls back at a time."""


class Clock(Timers, Protocol):
    """Another clock than the machine's."""

    def now(self) -> datetime:
        """The time of day, in UTC."""

    async def sleep(self, seconds: float, /) -> None:
        """Waits until so much of its time has passed."""


_clock: Clock | None = None


def now() -> datetime:
    """The time in UTC."""
    return datetime.now(UTC) if _clock is None else _clock.now()


def timers() -> Timers:
    """What runs timers: the event loop, or a test's clock."""
    return _clock or asyncio.get_running_loop()


async def sleep(seconds: float) -> None:
    """Waits."""
    await (asyncio.sleep(seconds) if _clock is None else _clock.sleep(seconds))


@contextmanager
def replaced(by: Clock) -> Iterator[None]:
    """Goes by another clock until the end of the block, in the whole process; `StreamsError` if one is in place."""
    global _clock  # noqa: PLW0603 - a parameter through every layer would be paid for by every event
    if _clock is not None:
        raise StreamsError("another clock is in place: one Harness at a time, its clock is the whole process' clock")
    _clock = by
    try:
        yield
    finally:
        _clock = None
