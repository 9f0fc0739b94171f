"""Supervisor: runs processors as child processes, and starts again what ends.

It knows them by their names only: each is `python -m processors.NAME`, in a process of its own.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from streams import Settings
from streams.consuming import EXIT_CRASHED
from streams.errors import EXIT_INTERRUPTED, EXIT_REFUSED, EXIT_USAGE

log = structlog.get_logger("processors.supervisor")

_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 60.0
_LONG_ENOUGH: Final = 60.0
"""Seconds: who has run for so long is started again at once, whatever was before."""

_BEYOND_GRACE: Final = 10.0
"""Seconds that a child has on top of its own grace, to close its connections."""

_PR_SET_PDEATHSIG: Final = 1  # prctl(2), Linux
_HOPELESS: Final = (EXIT_USAGE, EXIT_REFUSED)


@dataclass(slots=True)
class _Place:
    """One process that shall run."""

    name: str
    number: int
    process: asyncio.subprocess.Process | None = None
    pause: float = _FIRST_PAUSE

    @property
    def label(self) -> str:
        return f"{self.name}-{self.number}"


class Supervisor:
    """Keeps `counts[name]` processes of each processor running until `stop`.

    One that ends is started again: at once after a minute of running, else after a pause that doubles from 1 s to
    60 s. One that ends with 2 or 78 (wrong setting, a Redis that must not be used) is not started again: it would
    end the same. `arguments` go to each.
    """

    def __init__(self, counts: dict[str, int], *, grace: float, arguments: Sequence[str] = ()) -> None:
        self._places = [_Place(name, number) for name, count in counts.items() for number in range(1, count + 1)]
        self._patience = grace + _BEYOND_GRACE
        self._arguments = arguments
        self._stopping = asyncio.Event()
        self._exit_code: int = 0

    async def run(self) -> int:
        """Runs until `stop`, or until no process is left; returns the exit code to end with."""
        loop = asyncio.get_running_loop()
        _wait_without_threads(loop)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self.stop, number)
        try:
            await asyncio.gather(*(self._keep(place) for place in self._places))
        finally:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(number)
        return self._exit_code

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Lets every process finish what it has begun; the second call ends them at once."""
        if not self._stopping.is_set():
            log.info("supervisor.stopping", signal=number.name, processes=len(self._running()))
            self._stopping.set()
            return
        self._exit_code = EXIT_INTERRUPTED
        for process in self._running():
            process.terminate()  # the second signal to each of them

    async def _keep(self, place: _Place) -> None:
        """The life of one place: a process, its end, a pause, the next one."""
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            began = loop.time()
            code = await self._live(place)
            if self._stopping.is_set():
                return
            if code in _HOPELESS:
                log.error("supervisor.not_restarted", process=place.label, code=code)
                self._exit_code = code
                return
            if loop.time() - began >= _LONG_ENOUGH:
                place.pause = 0.0
            log.warning("supervisor.ended", process=place.label, code=code, again_in=place.pause)
            await self._sleep(place.pause)
            place.pause = min(_LONGEST_PAUSE, max(_FIRST_PAUSE, place.pause * 2))

    async def _live(self, place: _Place) -> int:
        # A session of its own: Ctrl-C in a shell reaches every process of a group, and ours would be the second signal.
        process = place.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", f"processors.{place.name}", *self._arguments, stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True, preexec_fn=_with_its_supervisor(),
        )  # fmt: skip
        log.info("supervisor.started", process=place.label, pid=process.pid)
        ended = asyncio.ensure_future(process.wait())
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((ended, stopping), return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                return ended.result()
            return await self._drain(place, process, ended)
        finally:
            stopping.cancel()
            place.process = None

    async def _drain(self, place: _Place, process: asyncio.subprocess.Process, ended: asyncio.Future[int]) -> int:
        process.terminate()
        done, _ = await asyncio.wait((ended,), timeout=self._patience)
        if not done:
            log.error("supervisor.killed", process=place.label, after=self._patience)
            process.kill()
            self._exit_code = self._exit_code or EXIT_CRASHED
        code = await ended
        log.info("supervisor.stopped", process=place.label, code=code)
        if code not in (0, -signal.SIGTERM):
            self._exit_code = self._exit_code or EXIT_CRASHED
        return code

    def _running(self) -> list[asyncio.subprocess.Process]:
        return [place.process for place in self._places if place.process and place.process.returncode is None]

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass


async def supervise(counts: dict[str, int], *, settings: Settings, arguments: Sequence[str] = ()) -> int:
    """Runs processors under a `Supervisor` until a signal; returns the exit code."""
    return await Supervisor(counts, grace=settings.grace, arguments=arguments).run()


def _wait_without_threads(loop: asyncio.AbstractEventLoop) -> None:
    """Lets asyncio wait for children by their pidfds, as it does by itself from Python 3.12 on, and not in a thread for
    each. When a process with threads is killed, Linux may signal its children more than once, and a second signal ends
    them at once.
    """
    if sys.version_info < (3, 12) and hasattr(os, "pidfd_open"):
        watcher = asyncio.PidfdChildWatcher()
        watcher.attach_loop(loop)
        asyncio.set_child_watcher(watcher)


def _with_its_supervisor() -> Callable[[], None] | None:
    """What a child does first of all: asks Linux for a SIGTERM when its supervisor is killed. Else it would run on with
    no supervisor to restart or end it, beside those of the next supervisor. Elsewhere it does run on.
    """
    if sys.platform != "linux":
        return None
    prctl, supervisor = ctypes.CDLL(None).prctl, os.getpid()  # found here: between fork and exec as little as possible

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != supervisor:  # it was killed before it could be asked
            os._exit(1)

    return ask
