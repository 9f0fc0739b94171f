"""Logs: one format for all, with trace ids, without secrets, and never in anybody's way."""

from __future__ import annotations

import io
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import orjson
import pytest
import structlog
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from observability.logs import configure_logs
from schemas import UserRegistered
from streams.errors import StreamsError
from streams.logs import StderrHandler

Configure = Callable[..., io.StringIO]


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Iterator[Configure]:
    root = logging.getLogger()
    level, levels = (
        root.level,
        {name: logging.getLogger(name).level for name in ("mode", "faust", "urllib3", "asyncio")},
    )

    def configured(**environment: str) -> io.StringIO:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("sys.stderr", stderr := io.StringIO())
        configure_logs()
        return stderr

    yield configured
    for handler in [handler for handler in root.handlers if isinstance(handler, StderrHandler)]:
        root.removeHandler(handler)
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
    structlog.reset_defaults()


def lines(stderr: io.StringIO) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in stderr.getvalue().splitlines()]


def test_a_line_has_time_level_logger_and_fields(configure: Configure) -> None:
    stderr = configure(LOG_FORMAT="json")
    structlog.get_logger("streams.test").warning("mail.refused", code=550, size=2**70)
    (line,) = lines(stderr)
    assert datetime.fromisoformat(line.pop("timestamp")).tzinfo is not None
    assert line == {
        "event": "mail.refused", "level": "warning", "logger": "streams.test", "code": 550, "size": 2**70,
    }  # fmt: skip


def test_the_standard_library_speaks_the_same_format(configure: Configure) -> None:
    stderr = configure(LOG_FORMAT="json")
    logging.getLogger("somebody").warning("hello %s", "world")
    (line,) = lines(stderr)
    assert (line["event"], line["level"], line["logger"]) == ("hello world", "warning", "somebody")


def test_lines_carry_the_ids_of_the_current_span(configure: Configure) -> None:
    stderr = configure(LOG_FORMAT="json")
    tracer = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False).get_tracer("test")
    with tracer.start_as_current_span("work") as span:
        structlog.get_logger().info("inside")
        logging.getLogger("somebody").info("inside too")
    structlog.get_logger().info("outside")
    inside, also, outside = lines(stderr)
    context = span.get_span_context()
    assert inside["trace_id"] == also["trace_id"] == f"{context.trace_id:032x}"
    assert inside["span_id"] == f"{context.span_id:016x}"
    assert "trace_id" not in outside


@pytest.mark.parametrize("fmt", ["json", "console"])
def test_what_is_secret_or_personal_is_hidden_at_any_depth(configure: Configure, fmt: str) -> None:
    stderr = configure(LOG_FORMAT=fmt)
    structlog.get_logger().info(
        "connected",
        smtp_password="canary",
        Authorization=b"canary",
        nested={"list": [{"reset_token": "canary", "pin": {"api-key": 12}}]},
        url="redis://user:canary@host/0",
        reply="550 <canary@example.com> unknown",
        payload=UserRegistered(user_id=7, email="canary@example.com", name="Canary"),
        message_id="<0190@planning.example>",
    )
    told = stderr.getvalue()
    assert "canary" not in told.lower()
    assert "<0190@planning.example>" in told
    assert "user_id" in told


def test_long_deep_and_odd_values_are_cut(configure: Configure) -> None:
    class Odd:
        def __str__(self) -> str:
            raise ValueError("no text")

    deep: list[Any] = []
    for _ in range(100):
        deep = [deep]
    stderr = configure(LOG_FORMAT="json")
    structlog.get_logger().info("odd", long="x" * 100_000, deep=deep, odd=Odd(), lone="\udcff", nan=float("nan"))
    (line,) = lines(stderr)
    assert len(line["long"]) == 2000
    assert (line["odd"], line["lone"], line["nan"]) == ("<Odd>", "\\udcff", None)
    assert len(stderr.getvalue()) < 3000


def test_an_exception_is_a_short_stack_without_values(configure: Configure) -> None:
    def fail(depth: int, password: str) -> None:
        if depth:
            fail(depth - 1, password)
        raise LookupError("no such thing as canary@example.com")

    stderr = configure(LOG_FORMAT="json")
    try:
        fail(50, "canary")
    except LookupError:
        structlog.get_logger().exception("failed")
    (line,) = lines(stderr)
    (stack,) = line["exception"]
    assert stack["exc_type"] == "LookupError"
    assert len(stack["frames"]) <= 11
    assert "canary" not in stderr.getvalue()


def test_the_console_is_coloured_on_a_terminal_only_and_without_local_variables(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def written() -> str:
        monkeypatch.setattr("sys.stderr", terminal := Terminal())
        configure_logs()
        try:
            secret = "canary"
            raise LookupError(len(secret))
        except LookupError:
            structlog.get_logger().exception("failed", name="\x1b[31mred")
        return terminal.getvalue()

    configure()
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[" in written()
    monkeypatch.setenv("NO_COLOR", "1")
    plain = written()
    assert "\x1b" not in plain
    assert "LookupError: 6" in plain
    monkeypatch.setenv("LOG_FORMAT", "json")
    assert orjson.loads(written())["event"] == "failed"


def test_the_level_is_heeded_and_chatty_libraries_are_quiet(configure: Configure) -> None:
    stderr = configure(LOG_FORMAT="json", LOG_LEVEL="warning")
    structlog.get_logger().info("no")
    logging.getLogger("somebody").info("no")
    structlog.get_logger().warning("yes")
    assert [line["event"] for line in lines(stderr)] == ["yes"]
    stderr = configure(LOG_LEVEL="DEBUG")
    logging.getLogger("mode.worker").info("no")
    logging.getLogger("urllib3.connectionpool").debug("no")
    structlog.get_logger().debug("yes")
    assert [line["event"] for line in lines(stderr)] == ["yes"]


def test_configuring_again_writes_each_line_once(configure: Configure) -> None:
    configure(LOG_FORMAT="json")
    stderr = configure()
    structlog.get_logger().info("once")
    assert len(lines(stderr)) == 1


@pytest.mark.parametrize("variable", ["LOG_LEVEL", "LOG_FORMAT"])
def test_a_wrong_setting_says_what_is_right(configure: Configure, variable: str) -> None:
    with pytest.raises(StreamsError, match=rf"{variable}='loud' is unknown; set it to one of \w+, \w+"):
        configure(**{variable: "loud"})


@pytest.mark.parametrize("redirect", ["2>&-", "2>/dev/full"])
def test_a_stderr_that_takes_nothing_stops_nothing(redirect: str) -> None:
    program = (
        "import structlog, observability.logs as logs; logs.configure_logs()\n"
        "for _ in range(1000): structlog.get_logger().info('x', y='z' * 100)\n"
        "print('done')"
    )
    done = subprocess.run(
        ["sh", "-c", f'"$0" -c "$1" {redirect}', sys.executable, program],
        stdout=subprocess.PIPE, timeout=25, check=False, env={**os.environ, "LOG_FORMAT": "json"},
    )  # fmt: skip
    assert done.stdout == b"done\n"


def test_a_broken_pipe_stops_nothing() -> None:
    program = (
        "import sys, structlog, observability.logs as logs; logs.configure_logs(); sys.stdin.readline()\n"
        "for _ in range(1000): structlog.get_logger().info('x', y='z' * 100)\n"
        "print('done')"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stderr is not None
    child.stderr.close()
    child.stderr = None
    out, _ = child.communicate(b"\n", timeout=25)
    assert (out, child.returncode) == (b"done\n", 0)


def test_no_secret_name_is_a_false_alarm() -> None:
    from streams.logs import _SECRET

    assert [name for name in ("passed", "key", "author", "partition_key", "tokens_of") if _SECRET.search(name)] == [
        "tokens_of"
    ]
    assert re.search(_SECRET, "DB_PASSWD")
