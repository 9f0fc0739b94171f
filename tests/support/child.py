"""Child: a real process of the project, started by a test, with its output in files."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

TAIL = 8_000


class Spawn(Protocol):
    """The `spawn` fixture: starts `python -m MODULE ARGUMENT...` in the test's directory and environment."""

    def __call__(self, module: str, *arguments: str, env: Mapping[str, str] | None = None, name: str = "") -> Child:
        """Starts it; `env` is added to `streams_env`, `name` names its output (its module unless given)."""


class Child:
    """One process in a session of its own, so that what it starts ends with it."""

    def __init__(self, command: list[str], directory: Path, env: Mapping[str, str], name: str) -> None:
        self.name = name
        self._out, self._err = directory / f"{name}.out", directory / f"{name}.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=directory,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        self.pid = self._process.pid

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid}, {'running' if self.running else f'exit {self.returncode}'})"

    @property
    def returncode(self) -> int | None:
        """Its exit code, None while it runs, negative after a signal."""
        return self._process.poll()

    @property
    def running(self) -> bool:
        """Whether it lives."""
        return self.returncode is None

    def stdout(self) -> str:
        """What it has written so far."""
        return self._out.read_text(encoding="utf-8", errors="replace")

    def stderr(self) -> str:
        """What it has complained about so far."""
        return self._err.read_text(encoding="utf-8", errors="replace")

    def output(self) -> str:
        """The ends of both, for a person."""
        return f"--- {self} stdout\n{self.stdout()[-TAIL:]}\n--- stderr\n{self.stderr()[-TAIL:]}"

    def signal(self, number: signal.Signals) -> None:
        """Sends it (and only it) a signal."""
        self._process.send_signal(number)

    def terminate(self) -> None:
        """Asks it to drain and end."""
        self.signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it at once and waits until it is gone."""
        self.signal(signal.SIGKILL)
        self._process.wait(timeout=10)

    def wait(self, timeout: float = 20) -> int:
        """Waits for its end and returns its exit code; fails with its output after `timeout` seconds."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout:g} s\n{self.output()}") from None

    def end(self) -> None:
        """Ends it and everything in its session, whatever state it is in."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # its own group: it was started as the leader of a new session
        self._process.wait(timeout=10)
