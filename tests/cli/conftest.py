"""Fixtures of the command line: the command as a child process, and a client of the same app."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import structlog

from streams import Settings, Streams
from streams.cli.application import application
from streams.cli.exit import ending
from tests.cli.consuming import settings_for


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """What it printed, as JSON."""
        return json.loads(self.out)

    def refused(self, code: int, *parts: str) -> None:
        """Checks that it ended with `code` and one line on stderr that holds `parts`, and printed nothing."""
        assert self.code == code, self
        assert self.out == "", self
        assert self.err.startswith("error: "), self
        assert self.err.count("\n") == 1, self
        for part in parts:
            assert part in self.err, self


Cli = Callable[..., Coroutine[Any, Any, Result]]


@pytest.fixture
def cli(streams_env: Mapping[str, str], tmp_path: Any) -> Cli:
    """Runs `python -m streams ARGUMENT...`, while the test's own event loop goes on."""

    async def run(*arguments: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Result:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "streams", *arguments,
            cwd=tmp_path, env={**streams_env, **(env or {})},
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate(stdin)
        assert process.returncode is not None
        return Result(process.returncode, out.decode(), err.decode())

    return run


Command = Callable[..., Result]


@pytest.fixture
def command(
    streams_env: Mapping[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Command]:
    """Runs a command in this process, which takes a hundredth of a child's time: for what needs no consumer beside."""
    before = signal.getsignal(signal.SIGINT)

    def run(*arguments: str, env: Mapping[str, str] | None = None) -> Result:
        with monkeypatch.context() as patch:
            for name, value in {**streams_env, **(env or {})}.items():
                patch.setenv(name, value)
            code = ending(application(), list(arguments))
        out, err = capsys.readouterr()
        return Result(code, out, err)

    yield run
    signal.signal(signal.SIGINT, before)
    structlog.reset_defaults()


@pytest.fixture
def settings(redis_url: str, app: str) -> Settings:
    """The settings of the app that the commands see."""
    return settings_for(redis_url, app)


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Streams]:
    """A client of that app."""
    async with Streams(settings=settings) as streams:
        yield streams
