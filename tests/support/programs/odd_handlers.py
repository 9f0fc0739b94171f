"""A processor whose handlers hold the interpreter, start children, or log.

What it does is written to `ODD_LOG`, one line of JSON for each step; `ODD_LOOP=asyncio` runs it without uvloop.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import orjson
import structlog

from streams import PII, Backoff, CurrentDelivery, Delivery, Event, Processor, run


class Odd(Event, stream="odd", version=1):
    """Something to do in an odd way."""

    n: int
    act: str = "ok"
    seconds: float = 60.0
    email: Annotated[str, PII] = "canary@example.com"


class OddForLong(Event, stream="odd", version=1):
    """The same, for a handler that may take an hour."""

    n: int
    act: str = "ok"
    seconds: float = 60.0


class OddInThread(Event, stream="odd", version=1):
    """The same, for a plain `def`."""

    n: int
    act: str = "ok"
    seconds: float = 60.0


AnyOdd = Odd | OddForLong | OddInThread
_LOG = os.open(os.environ.get("ODD_LOG", os.devnull), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
fork: Any = multiprocessing.get_context("fork")
log = structlog.get_logger("app")


def note(what: str, n: int, **more: Any) -> None:
    """Writes one line."""
    os.write(_LOG, orjson.dumps({"what": what, "n": n, "pid": os.getpid(), "at": time.time(), **more}) + b"\n")


# What holds the interpreter: no Python of the process runs meanwhile.


def backtrack(_: AnyOdd) -> None:
    """A regular expression that tries every split of what it is given."""
    re.fullmatch(r"(a+)+b", "a" * 40)


def power(_: AnyOdd) -> None:
    """Arithmetic with integers of many million digits."""
    number = 3**40_000_000
    _ = number * number % 7


def sort(_: AnyOdd) -> None:
    """One call that compares a great many values, in C."""
    while True:
        sorted(list(range(30_000_000, 0, -2)) + list(range(30_000_000)))


def parse(_: AnyOdd) -> None:
    """One call that reads a very large document."""
    json.loads("[" + "[1.5]," * 60_000_000 + "1]")


def wait_in_c(event: AnyOdd) -> None:
    """A library that waits without letting go of the interpreter: it takes no time of the processor's."""
    ctypes.PyDLL(None).sleep(round(event.seconds))


# What starts children.


def terminated(event: AnyOdd) -> None:
    """A child that is ended by its parent."""
    child = fork.Process(target=time.sleep, args=(60,))
    child.start()
    child.terminate()
    child.join()
    note("child", event.n, code=child.exitcode)


def pool(event: AnyOdd) -> None:
    """A pool, which ends its workers by a signal."""
    with fork.Pool(2) as workers:
        note("child", event.n, sum=sum(workers.map(abs, [-1, -2])))


def fork_and_exit(event: AnyOdd) -> None:
    """The classic way."""
    child = os.fork()
    if not child:
        os._exit(7)
    note("child", event.n, code=exit_code(child))


def fork_and_sys_exit(event: AnyOdd) -> None:
    """A child that ends as scripts do, by an exception."""
    child = os.fork()
    if not child:
        sys.exit(7)
    note("child", event.n, code=exit_code(child))


def fork_and_return(event: AnyOdd) -> None:
    """A child that forgets to end, and goes back to where its parent goes on."""
    child = os.fork()
    if child:
        note("child", event.n, code=exit_code(child))


def signalled(event: AnyOdd) -> None:
    """A child that is given every signal a consumer listens to, one after the other, with a handler of its own."""
    child = os.fork()
    if not child:
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT):
            signal.signal(number, lambda *_: None)
            os.kill(os.getpid(), number)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    note("child", event.n, code=exit_code(child))


def outliving(event: AnyOdd) -> None:
    """A child that is there for longer than its parent."""
    child = os.fork()
    if not child:
        note("outliving", event.n, sockets=sockets())
        time.sleep(event.seconds)
        os._exit(0)


def preexec(event: AnyOdd) -> None:
    """A child with code of ours before its program, which is signalled before that."""
    child = subprocess.Popen(["sleep", "60"], preexec_fn=lambda: time.sleep(0.05))  # noqa: PLW1509 - as people do
    child.terminate()
    note("child", event.n, code=child.wait())


def exit_code(child: int) -> int:
    """Waits for the end of a child."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def sockets() -> int:
    """How many sockets this process has open."""
    found = 0
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found += str(each.readlink()).startswith("socket:")
    return found


# What logs, or blocks otherwise.


def block(event: AnyOdd) -> None:
    """Blocks the event loop, and lets other threads run."""
    time.sleep(event.seconds)


def spin(event: AnyOdd) -> None:
    """A loop in Python: slow, and other threads have their share."""
    until = time.monotonic() + event.seconds
    while time.monotonic() < until:
        pass


def fail(event: AnyOdd) -> None:
    """An exception with an event in its frame."""
    address = f"personal-{event.email}"  # type: ignore[union-attr]
    raise RuntimeError(f"no {len(address)}")


def log_exception(event: AnyOdd) -> None:
    """What many handlers do with an exception."""
    try:
        fail(event)
    except RuntimeError:
        log.exception("app.failed", got=event)


def chatter(event: AnyOdd) -> None:
    """More lines than a pipe holds."""
    for number in range(3000):
        log.info("app.line", n=event.n, number=number, text="x" * 80)


def ok(_: AnyOdd) -> None:
    """Nothing odd."""


ACTS: dict[str, Callable[[Any], None]] = {
    act.__name__: act
    for act in (
        backtrack, power, sort, parse, wait_in_c, terminated, pool, fork_and_exit, fork_and_sys_exit, fork_and_return,
        signalled, outliving, preexec, block, spin, fail, log_exception, chatter, ok,
    )
}  # fmt: skip

odd = Processor("odd", retry=Backoff(attempts=2, first=0.05))


@odd.on(Odd, timeout=float(os.environ.get("ODD_TIMEOUT", "30")))
async def act(event: Odd, delivery: Delivery = CurrentDelivery()) -> None:
    """Does what the event says."""
    note("start", event.n, deliveries=delivery.deliveries)
    loop = asyncio.get_running_loop()
    if event.act == "stop_loop":
        loop.stop()
    elif event.act == "exit_loop":
        loop.call_soon(sys.exit, 0)
    elif event.act == "cancel_all":
        for task in asyncio.all_tasks():
            task.cancel()
    elif event.act == "fork_and_wait":  # a child that forgets to end, and waits in its parent's event loop
        child = os.fork()
        if not child:
            await asyncio.sleep(0.01)
            note("child in the loop", event.n)
        else:
            note("child", event.n, code=exit_code(child))
    else:
        ACTS[event.act](event)
    note("end", event.n)


@odd.on(OddForLong, timeout=3600.0)
async def act_for_long(event: OddForLong) -> None:
    """Likewise."""
    note("start", event.n)
    if event.act == "sleep":
        await asyncio.sleep(event.seconds)
    else:
        ACTS[event.act](event)
    note("end", event.n)


@odd.on(OddInThread, timeout=float(os.environ.get("ODD_TIMEOUT", "30")))
def act_in_thread(event: OddInThread) -> None:
    """Likewise, in a thread."""
    note("start", event.n)
    ACTS[event.act](event)
    note("end", event.n)


if __name__ == "__main__":
    sys.modules["tests.support.programs.odd_handlers"] = sys.modules["__main__"]
    if os.environ.get("ODD_LOOP") == "asyncio":
        sys.modules["uvloop"] = None  # type: ignore[assignment]
    run(odd)
