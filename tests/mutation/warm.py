"""Warm: a process that has imported what tests need from other projects, and forks one pytest after the other.

Imports are most of the time of a run of a few tests. Nothing of this project is imported before the fork, and nothing
that starts threads: each pytest imports the source that it is about.

The process reads one job a line (JSON: directory, output, arguments), and writes two lines for each: the pid of pytest,
which leads a session of its own, and its exit code.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Final

_IMPORTED: Final = (
    "pytest", "_pytest.assertion.rewrite", "_pytest.terminal", "_pytest.junitxml", "pytest_asyncio.plugin",
    "pytest_timeout", "pytest_cov.plugin", "pytest_examples", "xdist.plugin", "anyio.pytest_plugin", "hypothesis",
    "hypothesis.strategies", "redis.asyncio", "redis.asyncio.cluster", "redis.asyncio.sentinel", "pydantic",
    "pydantic_settings", "orjson", "structlog", "typer", "typer.testing", "rich.table", "rich.console", "cronsim",
    "opentelemetry.sdk.trace", "opentelemetry.sdk.metrics", "uncalled_for", "sqlalchemy.ext.asyncio", "jinja2", "httpx",
    "aiosmtpd.controller", "cryptography.x509", "openpyxl",
)  # fmt: skip
_ALWAYS: Final = ("-q", "-n", "0", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")
# One version of Redis is enough to notice a fault, and is half of the time.
_NEWEST: Final = ("-k", "not redis-7")


class Warm:
    """The process, as its parent has it."""

    def __init__(self, directory: Path, output: Path) -> None:
        self._directory, self._output = directory, output
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            env={name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def pytest(self, arguments: list[str], seconds: float) -> tuple[int, str, bool]:
        """Runs pytest in the directory; returns its exit code, what it wrote, and whether it was cut off."""
        arguments = [*_ALWAYS, *_NEWEST, *arguments]
        job = {"directory": str(self._directory), "output": str(self._output), "arguments": arguments}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{json.dumps(job)}\n")
        self._process.stdin.flush()
        pid, done, cut_off = int(self._process.stdout.readline()), threading.Event(), threading.Event()
        clock = threading.Thread(target=_watch, args=(pid, seconds, done, cut_off))
        clock.start()
        code = int(self._process.stdout.readline())
        done.set()
        clock.join()
        return code, self._output.read_text(errors="replace"), cut_off.is_set()

    def close(self) -> None:
        """Ends it."""
        self._process.communicate()


def _watch(pid: int, seconds: float, done: threading.Event, cut_off: threading.Event) -> None:
    """Ends a pytest that takes too long: with its fixtures, which end what they started, or with all of its session."""
    if not done.wait(seconds):
        cut_off.set()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)
            if not done.wait(60):
                os.killpg(pid, signal.SIGKILL)


def main() -> None:
    """Imports, and does jobs until there are none."""
    for name in _IMPORTED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for line in sys.stdin:
        job = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _run(job["directory"], job["output"], job["arguments"])
        _write(pid)
        _write(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def _run(directory: str, output: str, arguments: list[str]) -> None:
    os.setsid()
    os.chdir(directory)
    for descriptor, path, flags in ((0, os.devnull, os.O_RDONLY), (1, output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)):
        os.dup2(os.open(path, flags, 0o600), descriptor)
    os.dup2(1, 2)
    sys.path[0] = directory  # it was the directory of this file
    os.environ["PYTHONPATH"] = directory
    code = 3
    try:
        code = int(importlib.import_module("pytest").main(arguments))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _write(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
