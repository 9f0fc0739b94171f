"""ChildProcess: one process of the demo, and how to find exactly that process again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

GRACE: Final = 5.0
"""Seconds a consumer may take to finish what it handles (`STREAMS_GRACE`); it is ended the hard way 3 s later."""


class ChildProcess:
    """A child process in a session of its own: Ctrl-C in the terminal is the demo's to hear, not the child's.

    It runs in `directory`, or in that of its parent. What it writes goes to `<name>.out` and `<name>.log` in `logs`;
    `name` must be fit for a file name.
    """

    def __init__(
        self,
        name: str,
        module: str,
        arguments: Sequence[str],
        *,
        env: Mapping[str, str],
        logs: Path,
        directory: Path | None = None,
    ) -> None:
        self.name = name
        self.out, self.log = logs / f"{name}.out", logs / f"{name}.log"
        with self.out.open("wb") as out, self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                cwd=directory,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                start_new_session=True,
            )
        self.pid = self._process.pid
        self.identity = identity(self.pid)

    @property
    def returncode(self) -> int | None:
        """Its exit code, None while it runs, negative after a signal."""
        return self._process.poll()

    @property
    def running(self) -> bool:
        """Whether it lives."""
        return self.returncode is None

    def terminate(self) -> None:
        """Asks it to finish what it does and end."""
        self._process.terminate()

    def kill(self) -> None:
        """Ends it at once, as a crash would (SIGKILL), and waits until it is gone."""
        self._process.kill()
        self._process.wait()

    def end(self, patience: float = GRACE + 3.0) -> None:
        """Waits up to `patience` seconds for the end it was asked for, then ends it."""
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self.kill()


def identity(pid: int) -> str:
    """What differs between a process and a later one with the same pid: the boot, when it was started, and whose it is.

    Empty when there is no such process, or no /proc.
    """
    with suppress(OSError, IndexError):
        # The name in parentheses may hold blanks and parentheses; the start is the 20th field after it (proc(5)).
        started = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {started} {Path(f'/proc/{pid}').stat().st_uid}"
    return ""
