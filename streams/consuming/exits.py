"""Exits: exit codes of a process, its last log line, and an exit that no remaining thread can delay."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import sys
import threading
from typing import Final, NoReturn

from streams.executing.threads import busy_threads
from streams.logs import get_logger
from streams.messages.error_text import describe

log = get_logger("streams.runner")

EXIT_CRASHED: Final = 1
_THREADS_END_WITHIN: Final = 1.0  # seconds


def exit_process(code: int) -> NoReturn:
    """Ends the process, also when a thread still runs something, for which the interpreter would wait. That is no
    fault: what takes longer than the grace is handed over when this process is gone and its lease has ended.
    """
    if threads := busy_threads():
        _leave_behind(code, threads)
    # Not those of handlers: a handler's own executor, `asyncio.to_thread`.
    watchdog = threading.Timer(_THREADS_END_WITHIN, _leave_others_behind, (code,))
    watchdog.daemon = True
    watchdog.start()
    atexit.register(watchdog.cancel)  # the first to be called, when all threads have ended
    sys.exit(code)


def exit_now(code: int) -> NoReturn:
    """Ends the process at once, whatever runs in it; spans, logs and standard output are flushed before."""
    atexit._run_exitfuncs()  # noqa: SLF001 - nothing public runs them
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    os._exit(code)


def say(line: str) -> None:
    """Writes a line to standard error, if that is open."""
    # Standard error may be closed, or without a reader: what comes next must happen all the same.
    with contextlib.suppress(Exception):
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def reason(error: BaseException) -> str:
    """What ended the process, for its log."""
    # Code that cancels every task may reach the main one first; the log has the reason all the same.
    if isinstance(error, asyncio.CancelledError):
        return "the main task was cancelled by other code of this process"
    return describe(error)


def _leave_others_behind(code: int) -> None:
    current, main = threading.current_thread(), threading.main_thread()
    others = [each.name for each in threading.enumerate() if not each.daemon and each not in (current, main)]
    _leave_behind(code, others)


def _leave_behind(code: int, threads: list[str]) -> NoReturn:
    log.warning("runner.threads_left_behind", threads=threads[:5])
    exit_now(code)
