"""A processor whose handlers sleep in threads, or cancel all there is.

It writes what it does to `SLEEPERS_LOG`; `SLEEPERS_LOOP=asyncio` runs it without uvloop.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Literal

import orjson

from streams import Backoff, Event, Processor, run


class Slept(Event, stream="sleeps", version=1):
    """A handler is asleep."""

    n: int
    seconds: float


class SleptInExecutor(Slept, stream="sleeps", version=1):
    """The same, by `asyncio.to_thread` in a coroutine."""


class SleptInOwnExecutor(Slept, stream="sleeps", version=1):
    """The same, in an executor of the handler's own."""


class Swept(Event, stream="sleeps", version=1):
    """Every task there is was cancelled, the main task before or after all others."""

    n: int
    main: Literal["first", "last"] = "first"


_LOG: Final = os.open(os.environ.get("SLEEPERS_LOG", os.devnull), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
_own = ThreadPoolExecutor(2)


def note(what: str, n: int) -> None:
    """Writes one line."""
    line = {"what": what, "n": n, "pid": os.getpid(), "at": time.time(), "thread": threading.current_thread().name}
    os.write(_LOG, orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))


def sleep(event: Slept) -> None:
    """Sleeps, and says so."""
    note("start", event.n)
    until = time.monotonic() + event.seconds
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(0.05, left))
        note("alive", event.n)
    note("end", event.n)


sleepers = Processor(
    "sleepers", retry=Backoff(attempts=3, first=0.05), timeout=float(os.environ.get("SLEEPERS_TIMEOUT", "60"))
)


@sleepers.on(Slept)
def in_thread(event: Slept) -> None:
    """A plain `def`."""
    sleep(event)


@sleepers.on(SleptInExecutor)
async def in_executor(event: SleptInExecutor) -> None:
    """In a thread of asyncio's."""
    await asyncio.to_thread(sleep, event)


@sleepers.on(SleptInOwnExecutor)
async def in_own_executor(event: SleptInOwnExecutor) -> None:
    """In a thread of its own."""
    await asyncio.get_running_loop().run_in_executor(_own, sleep, event)


@sleepers.on(Swept)
async def sweep(event: Swept) -> None:
    """Cancels whatever task it finds."""
    note("start", event.n)
    tasks = sorted(asyncio.all_tasks(), key=lambda task: "_serve_to_the_end" in str(task.get_coro()))
    for task in tasks if event.main == "last" else reversed(tasks):
        task.cancel()


if __name__ == "__main__":
    sys.modules["tests.support.programs.sleepers"] = sys.modules["__main__"]
    if os.environ.get("SLEEPERS_LOOP") == "asyncio":
        sys.modules["uvloop"] = None  # type: ignore[assignment]
    run(sleepers)
