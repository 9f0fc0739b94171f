"""ProcessState: says to what supervises this process whether it starts, runs or stops, and that its event loop runs.

systemd is notified over the socket that it names in `NOTIFY_SOCKET` (`Type=notify`, `WatchdogSec=`), probes of
containers read the file of `STREAMS_STATE_FILE`. Without either of them this costs nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Final, Literal

from streams.errors import ConfigurationError
from streams.logs import get_logger

log = get_logger("streams.process_state")

State = Literal["starting", "ready", "stopping"]

EVERY: Final = 5.0  # seconds between two signs of life
_NOTICES: Final[dict[State, str]] = {"starting": "", "ready": "READY=1", "stopping": "STOPPING=1"}


class ProcessState:
    """The state of this process, from `begin` to `end`, which are called in its event loop.

    The signs of life come from the event loop, so they end when a handler blocks it. The variables of systemd are taken
    out of the environment: a program that a handler starts must not speak for this process. Raises
    `ConfigurationError` for a file that cannot be written.
    """

    def __init__(self, file: Path | None = None, *, environ: MutableMapping[str, str] = os.environ) -> None:
        self._file = file
        address = environ.pop("NOTIFY_SOCKET", "")
        microseconds, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        watched = address != "" and microseconds.isascii() and microseconds.isdigit() and pid in ("", str(os.getpid()))
        watchdog = int(microseconds) / 1e6 if watched else 0.0
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._is_watched = watchdog > 0
        self._every = min(EVERY, watchdog / 3) if self._is_watched else EVERY
        self._state: State = "starting"
        self._timer: asyncio.TimerHandle | None = None
        self._socket: socket.socket | None = None
        self._failed = False

    def begin(self) -> None:
        """Says that the process starts; the signs of life begin."""
        if self._file is not None:
            try:
                self._write()
            except OSError as error:
                raise ConfigurationError(
                    f"STREAMS_STATE_FILE={self._file} cannot be written: {error.strerror or error.__class__.__name__}"
                ) from None
        if self._address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
        if self._file is not None or self._is_watched:
            self._live()

    def ready(self) -> None:
        """Says that the process does its work now; nothing once it stops."""
        if self._state == "starting":
            self._become("ready")

    def stopping(self) -> None:
        """Says that the process ends by itself."""
        if self._state != "stopping":
            self._become("stopping")

    def end(self) -> None:
        """Ends the signs of life."""
        if self._timer is not None:
            self._timer.cancel()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _become(self, state: State) -> None:
        self._state = state
        self._tolerate(self._write)
        self._notify(_NOTICES[state])

    def _live(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._every, self._live)
        if self._is_watched:
            self._notify("WATCHDOG=1")
        self._tolerate(self._touch)

    def _notify(self, text: str) -> None:
        if self._socket is not None:
            # A manager that does not read, or is being restarted, must not stop the process; the next sign follows.
            with contextlib.suppress(OSError):
                self._socket.sendto(text.encode(), self._address)

    def _touch(self) -> None:
        try:
            if self._file is not None:
                os.utime(self._file)
        except FileNotFoundError:
            self._write()

    def _write(self) -> None:
        if self._file is None:
            return
        draft = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        draft.write_text(f"{self._state}\n", encoding="ascii")
        draft.replace(self._file)  # a probe that reads meanwhile finds the old state or the new one

    def _tolerate(self, work: Callable[[], None]) -> None:
        """Does it; a disk that is full costs a probe, not the messages in hand."""
        try:
            work()
        except OSError as error:
            if not self._failed:
                log.warning("state.not_written", file=str(self._file), error=error.__class__.__name__)
            self._failed = True
        else:
            self._failed = False
