"""Clock: the time of day as the engine reads it on this machine. `streams.testing` puts one of its own in its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime


def _wall() -> datetime:
    return datetime.now(UTC)


_read: Callable[[], datetime] = _wall


def now() -> datetime:
    """The time in UTC."""
    return _read()


@contextmanager
def replaced(read: Callable[[], datetime]) -> Iterator[None]:
    """Reads another clock until the end of the block, in the whole process."""
    global _read  # noqa: PLW0603 - a parameter through every layer would be paid for by every event
    before, _read = _read, read
    try:
        yield
    finally:
        _read = before
