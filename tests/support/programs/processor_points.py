"""Processor points: the processors of the project, which end themselves with SIGKILL at one named point.

It reads what to do as `points` does. polars and obstore start threads when they are used for the first time: only the
children use them.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Final

import aiosmtplib

from processors.email import email
from processors.email.mailer import Mailer
from processors.file import file, importing
from processors.file import handlers as file_handlers
from processors.report import generating, report
from processors.report import handlers as report_handlers
from processors.shared.storage import storage
from processors.shared.storage.file_writer import FileWriter
from streams import Consumer, Settings, Streams
from tests.support.programs.points import LONGEST, die, live, main

Wrap = Callable[[], None]


def around(owner: Any, name: str, *, after: bool, at: int = 1) -> Wrap:
    """Dies before or after the `at`-th call of an async function."""

    def wrap() -> None:
        calls, inner = itertools.count(1), getattr(owner, name)

        async def wrapped(*given: Any, **named: Any) -> Any:
            ends_here = next(calls) == at  # others may be called while this one waits
            if ends_here and not after:
                die()
            made = await inner(*given, **named)
            if ends_here:
                die()
            return made

        setattr(owner, name, wrapped)

    return wrap


def half_written() -> None:
    """Some of an export is on the disk, under the name of a draft."""
    storage._PART = 1024  # type: ignore[misc]
    around(FileWriter, "write", after=True, at=2)()


def renamed() -> None:
    """The file has its name, and nobody knows of it."""

    def wrapped(*_: Any) -> None:
        die()

    storage._sync = wrapped


POINTS: Final[dict[str, Wrap]] = {
    "import: checked, and nothing written": around(importing.StockImport, "_check", after=True),
    "import: a chunk before its commit": around(importing, "write_stock", after=True, at=2),
    "import: a chunk after its commit": around(importing.StockImport, "_write_chunk", after=True, at=2),
    "import: written, its end not noted": around(importing.StockImport, "_end", after=False),
    "import: ended, and not settled": around(importing.StockImport, "_end", after=True),
    "export: half of it is written": half_written,
    "export: it has its name": renamed,
    "export: it is noted, and not settled": around(file_handlers, "export_stock", after=True),
    "report: it is drawn, and not stored": around(generating, "_in_thread", after=True),
    "report: it has its name": renamed,
    "report: it is noted, and not settled": around(report_handlers, "generate", after=True),
    "mail: before the content": around(aiosmtplib.SMTP, "data", after=False),
    "mail: the server has the content": around(aiosmtplib.SMTP, "data", after=True),
    "mail: sent, and not settled": around(Mailer, "send", after=True),
}


async def consume(name: str, ready: int = 1) -> None:
    """One of the processors, until SIGTERM or the point."""
    processor = {"import": file, "export": file, "report": report, "mail": email}[name]
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    consumer = Consumer(processor, Streams(settings=Settings()))
    await consumer.start()
    os.write(ready, b"\n")
    await stopped.wait()
    await consumer.stop()


def answer(role: str, what: str) -> int:
    """`first POINT`: how the child ended; `successor POINT`: the pid of one; `end PID`: how that one ended."""
    name = what.partition(":")[0]
    if role == "successor":
        ready, told = os.pipe()
        child = live(lambda: consume(name, told))
        os.close(told)
        os.read(ready, 1)
        os.close(ready)
        return child
    if role == "end":
        child = int(what)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGTERM)
    else:
        child = live(lambda: consume(name), POINTS[what], seconds=LONGEST)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    sys.modules["tests.support.programs.processor_points"] = sys.modules["__main__"]
    main(answer)
