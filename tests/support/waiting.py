"""wait_until: what tests use instead of sleeping. It returns once the condition holds, or fails with its reason."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

T = TypeVar("T")

FIRST_POLL: Final = 0.002
LONGEST_POLL: Final = 0.05


async def wait_until(predicate: Callable[[], Any], timeout: float = 10, message: str | Callable[[], str] = "") -> Any:
    """Calls `predicate` (plain or async) until what it returns is true, and returns that.

    Fails the test after `timeout` seconds with `message`, or with the last value seen.
    """
    deadline, pause = time.monotonic() + timeout, FIRST_POLL
    while True:
        answer = predicate()
        value = await answer if inspect.isawaitable(answer) else answer
        if value:
            return value
        if time.monotonic() >= deadline:
            raise AssertionError(_explain(timeout, message, value))
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, LONGEST_POLL)


def wait_until_sync(predicate: Callable[[], T], timeout: float = 10, message: str | Callable[[], str] = "") -> T:
    """`wait_until` for tests without an event loop."""
    deadline, pause = time.monotonic() + timeout, FIRST_POLL
    while not (value := predicate()):
        if time.monotonic() >= deadline:
            raise AssertionError(_explain(timeout, message, value))
        time.sleep(pause)
        pause = min(pause * 1.5, LONGEST_POLL)
    return value


def _explain(timeout: float, message: str | Callable[[], str], last: object) -> str:
    reason = message if isinstance(message, str) else message()
    return f"not within {timeout:g} s: {reason or 'the condition'} (last value: {last!r})"
