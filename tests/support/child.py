"""Child: a real process of the project, started by a test, with its output in files."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Protocol

from examples.demo.child_process import ChildProcess

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

TAIL = 8_000


class Spawn(Protocol):
    """The `spawn` fixture: starts `python -m MODULE ARGUMENT...` in the test's directory and environment."""

    def __call__(self, module: str, *arguments: str, env: Mapping[str, str] | None = None, name: str = "") -> Child:
        """Starts it; `env` is added to `streams_env`, `name` names its output (its module unless given)."""


class Child(ChildProcess):
    """One process in a session of its own, so that what it starts ends with it."""

    def __init__(self, command: list[str], directory: Path, env: Mapping[str, str], name: str) -> None:
        super().__init__(name, command[0], command[1:], env=env, logs=directory, directory=directory)

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid}, {'running' if self.running else f'exit {self.returncode}'})"

    def stdout(self) -> str:
        """What it has written so far."""
        return self.out.read_text(encoding="utf-8", errors="replace")

    def stderr(self) -> str:
        """What it has complained about so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def output(self) -> str:
        """The ends of both, for a person."""
        return f"--- {self} stdout\n{self.stdout()[-TAIL:]}\n--- stderr\n{self.stderr()[-TAIL:]}"

    def signal(self, number: signal.Signals) -> None:
        """Sends it (and only it) a signal."""
        self._process.send_signal(number)

    def wait(self, timeout: float = 20) -> int:
        """Waits for its end and returns its exit code; fails with its output after `timeout` seconds."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout:g} s\n{self.output()}") from None

    def end(self, patience: float = 10) -> None:
        """Ends it and everything in its session, whatever state it is in, and waits until it is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # its own group: it was started as the leader of a new session
        self._process.wait(patience)
