"""Watchdog: ends this process when a handler holds the interpreter's lock for longer than allowed.

Nothing in the process can do it by then, so another one does: `streams/consuming/watcher.py` is started beside it, and
is sent signs of life by a thread. One watchdog is enough for all consumers of a process.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any, Final, NoReturn, Protocol

from streams.consuming.exits import EXIT_CRASHED, say
from streams.consuming.watcher import SIGN
from streams.logs import get_logger

log = get_logger("streams.watchdog")

_LAST_WORDS: Final = 2.0  # seconds
_PER_LEASE: Final = 4  # signs of life
_SLOWEST: Final = 5.0  # seconds between two of them
_TICKS: Final = 2  # that the watcher counts for each of them
_STACK_SIGNAL: Final = int(getattr(signal, "SIGRTMAX", 1)) - 1  # nothing else uses it; 0 where there is none


class RunsHandlers(Protocol):
    """A consumer, as the watchdog sees it."""

    @property
    def longest(self) -> float:
        """The longest timeout of its handlers, in seconds."""

    def running(self) -> list[float]:
        """The deadlines of the handlers that run (monotonic)."""


class Watchdog:
    """Watches over the handlers of this process from `start` to `stop`.

    A process in which no Python runs is ended a `lease` after the first deadline of the handlers that run; where it is
    not known what runs, `longest` (the longest timeout) counts.
    """

    def __init__(self, label: str, *, lease: float) -> None:
        self.longest = 0.0
        self._label = label
        self._lease = lease
        self._consumers: Sequence[RunsHandlers] = ()
        self._every = min(lease / _PER_LEASE, _SLOWEST)
        self._until = 0.0  # monotonic: when the watcher would act on a silence that begins now
        self._signs = self._stacks = -1
        self._watcher: subprocess.Popen[bytes] | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._live, name="watchdog", daemon=True)

    def start(self, consumers: Sequence[RunsHandlers]) -> None:
        """Starts the watcher and the signs of life. A machine that allows no further process is warned about once."""
        self._consumers = consumers
        self.longest = max(consumer.longest for consumer in consumers)
        if not sys.executable:
            log.warning("watchdog.not_started", error="there is no Python to start")
            return
        signs, self._signs = os.pipe()
        os.set_blocking(self._signs, False)
        stacks, self._stacks = os.pipe()
        tick = self._every / _TICKS
        script = Path(__file__).with_name("watcher.py")
        try:
            if _STACK_SIGNAL:
                faulthandler.register(_STACK_SIGNAL, file=self._stacks, all_threads=True)
            self._watcher = subprocess.Popen(
                [sys.executable, "-I", "-S", script, self._label, str(tick), str(_STACK_SIGNAL), str(stacks)],
                stdin=signs, stdout=subprocess.DEVNULL, pass_fds=(stacks,), start_new_session=True,
            )  # fmt: skip
        except (OSError, ValueError) as error:
            log.warning("watchdog.not_started", error=error.__class__.__name__)
            self._close()
            return
        finally:
            os.close(signs)
            os.close(stacks)
        self._sign()
        self._thread.start()

    def expect(self, timeout: float) -> None:
        """Notes that a handler begins which may take `timeout` seconds, less than the longest: no sign of life could
        say so once it holds the lock.
        """
        if monotonic() + timeout + self._lease < self._until:
            self._say(timeout + self._lease)

    def last(self, seconds: float) -> None:
        """Has the process ended after so many seconds, whatever it does until then: what it writes may block it."""
        self._stopped.set()
        self._say(seconds)

    def end_blocked(self, about: Mapping[str, Any]) -> NoReturn:
        """Ends this process: a handler has blocked the event loop for longer than it may, and nothing else can end it.
        What was held is handed over when its lease runs out; the message that did it counts as one that ended its
        process.
        """
        self.last(_LAST_WORDS)  # a reader of the log that has stopped reading must not keep the process
        log.critical("consumer.blocked", **about)
        say("error: a handler blocks the event loop, and has for longer than it may: the process is ended")
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        os._exit(EXIT_CRASHED)

    def stop(self) -> None:
        """Ends the watch, and the watcher with it."""
        self._stopped.set()
        if self._watcher is not None:
            self._thread.join(1.0)  # it must not write to what has the number of the pipe next
            self._close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._watcher.wait(5.0)

    def forked(self) -> None:
        """In a child of this process: it is not watched, and gives no signs of life for its parent."""
        self._stopped.set()
        self._close()

    def _live(self) -> None:
        while not self._stopped.wait(self._every):
            self._sign()

    def _sign(self) -> None:
        now = monotonic()
        deadlines = (deadline for consumer in self._consumers for deadline in consumer.running())
        first = min(deadlines, default=now + self.longest)
        self._say(max(first - now, 0.0) + self._lease)

    def _say(self, seconds: float) -> None:
        self._until = monotonic() + seconds
        try:
            os.write(self._signs, SIGN.pack(seconds))
        except BlockingIOError:
            return  # it does not read, and will find those that it has
        except OSError:
            if not self._stopped.is_set():
                log.warning("watchdog.ended", hint="a handler that holds the interpreter keeps this process for ever")
            self._stopped.set()

    def _close(self) -> None:
        if _STACK_SIGNAL:
            faulthandler.unregister(_STACK_SIGNAL)
        signs, self._signs, stacks, self._stacks = self._signs, -1, self._stacks, -1
        for end in (signs, stacks):
            if end >= 0:
                os.close(end)
