"""Logs of applications that set nothing up, and logs that cannot be written: nothing private, and nothing stops."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import orjson
import pytest
import structlog
from pydantic import BaseModel, computed_field

from streams import PII, Backoff, Delivery, Event, Middleware, Processor, Streams
from streams.logs import StderrHandler, configure_unless_done, get_logger
from streams.messages.middleware import Deliver
from streams.messages.outcome import Outcome
from streams.sql import create_tables, make_engine
from streams.testing import Harness
from tests.faults.conftest import ROOT, ProbeLog
from tests.support.child import Spawn
from tests.support.programs.odd_handlers import Odd
from tests.support.waiting import wait_until
from tests.user_code.conftest import SpawnOdd

CANARY = "canary@example.com"


class Person(BaseModel):
    """A part of an event."""

    name: Annotated[str, PII]
    age: int = 7


@dataclass
class HostPort:
    """A part that is no model."""

    street: Annotated[str, PII]


class Moved(Event, stream="odd", version=1):
    """An event with personal data in many places."""

    n: int = 1
    email: Annotated[str, PII] = CANARY
    other: Annotated[str, PII] | None = CANARY
    several: tuple[Annotated[str, PII], ...] = (CANARY,)
    place: HostPort = HostPort(CANARY)
    who: Person = Person(name=CANARY)
    families: tuple[dict[str, list[Person]], ...] = ({"them": [Person(name=CANARY)]},)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def greeting(self) -> str:
        """Made of it."""
        return f"Dear {self.email}"


@pytest.fixture
def untouched() -> Iterator[logging.Logger]:
    """Logging as a process has it that has set nothing up; as it was, afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    names = [name for name in logging.root.manager.loggerDict if name in ("mode", "faust", "asyncio", "urllib3")]
    levels = {name: logging.getLogger(name).level for name in names}
    root.handlers.clear()
    structlog.reset_defaults()
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
    structlog.reset_defaults()


@pytest.mark.parametrize("show", ["{!r}".format, "{!s}".format, "{}".format], ids=["repr", "str", "format"])
def test_an_event_shows_no_personal_data(show: Callable[[Any], str]) -> None:
    """Wherever the mark stands: on a field, on a part of its type, on a field of a part; nor what is made of it."""
    shown = show(Moved())
    assert CANARY not in shown
    assert "n=1" in shown
    assert "age" not in shown  # of a part with personal data nothing is shown


def test_an_event_without_marks_shows_everything() -> None:
    """The mark is what hides."""

    class Plain(Event, stream="odd", version=1):
        n: int
        text: str

    assert repr(Plain(n=1, text="here")) == "Plain(n=1, text='here')"


class Broken(Middleware):
    """A middleware that fails, with the event in its frame."""

    async def deliver(self, delivery: Delivery, call_next: Deliver) -> Outcome:
        """Fails as code does that was written for another field."""
        data = delivery.message.data
        raise LookupError(len(data))


async def test_the_engine_hands_over_no_values_whatever_prints_them(
    untouched: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    """In an application that has set nothing up, structlog prints the local variables of each frame: the engine's own
    lines have the place and the error as text, and nothing else.
    """
    probe = Processor("probe", retry=Backoff(attempts=1))

    @probe.on(Moved)
    async def handle(event: Moved) -> None:
        structlog.get_logger().info("got", event=event)

    async with Harness(probe, middleware=[Broken()]) as harness:
        await harness.publish(Moved())
        await harness.run()
    async with Harness(probe) as harness:
        await harness.publish(Moved())
        await harness.run()
    written = "".join(capsys.readouterr())
    assert "delivery.middleware_failed" in written
    assert "raise LookupError(len(data))" in written
    assert "got" in written
    assert CANARY not in written


def test_errors_of_all_loggers_of_the_engine_are_text(untouched: logging.Logger) -> None:
    """No call of the engine gives structlog an exception: the linter keeps structlog out, this keeps `exc_info` out."""
    found = [
        path.name
        for path in (ROOT / "streams").rglob("*.py")
        if path.name != "logs.py" and ("exc_info" in (text := path.read_text()) or "log.exception(" in text)
    ]
    assert not found


class _Refusing:
    def __getattr__(self, name: str) -> Callable[..., None]:
        def refuse(*_: object, **__: object) -> None:
            raise SystemExit("a log that ends its process")

        return refuse


@pytest.mark.parametrize("error", [OSError, ValueError, RecursionError, SystemExit])
def test_a_processor_of_structlog_that_fails_costs_a_line(
    untouched: logging.Logger, error: type[BaseException]
) -> None:
    """Whatever it raises."""

    def fail(*_: object) -> Any:
        raise error

    structlog.configure(processors=[fail])
    get_logger("streams.test").error("lost")
    structlog.configure(processors=[], logger_factory=lambda *_: _Refusing())
    get_logger("streams.test").error("lost")
    structlog.configure(logger_factory=fail)
    get_logger("streams.test").error("lost")


def test_only_what_nothing_has_set_up_is_set_up(untouched: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    """An application that has configured structlog keeps it; one that has handlers of its own gets the lines there."""
    monkeypatch.setenv("LOG_FORMAT", "json")
    monkeypatch.setenv("LOG_LEVEL", "warning")
    monkeypatch.setattr("sys.stderr", stderr := io.StringIO())
    untouched.handlers.clear()  # pytest's
    configure_unless_done()
    (ours,) = untouched.handlers
    assert isinstance(ours, StderrHandler)
    structlog.get_logger("x").info("too low")
    structlog.get_logger("x").warning("seen", event_=Moved())
    assert orjson.loads(stderr.getvalue())["event"] == "seen"
    assert CANARY not in stderr.getvalue()

    structlog.reset_defaults()
    untouched.handlers[:] = [theirs := logging.StreamHandler(text := io.StringIO())]
    theirs.setFormatter(logging.Formatter("theirs %(name)s %(message)s"))
    configure_unless_done()
    try:
        secret = CANARY
        raise LookupError(len(secret))
    except LookupError:
        structlog.get_logger("x").exception("failed")
    assert untouched.handlers == [theirs]
    assert text.getvalue().startswith('theirs x {"event":"failed"')
    assert CANARY not in text.getvalue()

    structlog.configure(processors=[structlog.processors.KeyValueRenderer()])
    before = structlog.get_config()["processors"]
    configure_unless_done()
    assert structlog.get_config()["processors"] is before


@pytest.mark.newest_redis
@pytest.mark.parametrize("fmt", ["json", "console"])
async def test_a_process_that_sets_nothing_up_shows_nothing_private(
    streams: Streams, spawn_odd: SpawnOdd, odd_log: ProbeLog, fmt: str
) -> None:
    """`run(processor)` alone: the handlers' own `log.exception` has no local variables, and the settings are heeded."""
    child = spawn_odd(LOG_FORMAT=fmt, LOG_LEVEL="info")
    await streams.publish_many([Odd(n=1, act="log_exception"), Odd(n=2, act="fail")])
    await wait_until(lambda: "delivery.dead_lettered" in child.stderr(), timeout=20)
    child.terminate()
    assert child.wait() == 0
    assert "app.failed" in child.stderr()
    assert "raise RuntimeError" in child.stderr() or '"lineno"' in child.stderr()
    assert CANARY not in child.output()
    assert "personal-" not in child.output().replace('f"personal-', "")
    if fmt == "json":
        lines = [orjson.loads(line) for line in child.stderr().splitlines()]
        assert {"consumer.started", "app.failed", "consumer.drained"} <= {line["event"] for line in lines}


@pytest.mark.newest_redis
def test_a_wrong_log_setting_is_a_wrong_setting(spawn_odd: SpawnOdd, redis_url: str) -> None:
    """One line, and the code for wrong usage."""
    child = spawn_odd(LOG_LEVEL="loud")
    assert child.wait() == 2
    assert child.stderr().startswith("error: LOG_LEVEL='loud' is unknown")


@pytest.mark.newest_redis
@pytest.mark.parametrize("where", ["a reader that dies", ">&- 2>&-", ">/dev/full 2>/dev/full"])
async def test_a_log_that_cannot_be_written_stops_nothing(
    streams: Streams, streams_env: Mapping[str, str], odd_log: ProbeLog, where: str
) -> None:
    """The events are handled, a crash ends the process with 1, a signal with 0."""
    environment = {**streams_env, "ODD_LOG": str(odd_log.path), "PYTHONPATH": str(ROOT), "LOG_FORMAT": "console"}
    command = [sys.executable, "-m", "tests.support.programs.odd_handlers"]
    if where == "a reader that dies":
        reader, writer = os.pipe()
        child = subprocess.Popen(command, env=environment, stdout=writer, stderr=writer)
        os.close(writer)
        os.read(reader, 100)
        os.close(reader)
    else:
        child = subprocess.Popen(["sh", "-c", f'exec "$0" "$@" {where}', *command], env=environment)
    try:
        await streams.publish_many([Odd(n=n, act="log_exception") for n in range(20)])
        await wait_until(lambda: sorted(odd_log.numbers("end")) == list(range(20)), timeout=20)
        child.terminate()
        assert child.wait(10) == 0
    finally:
        child.kill()
        child.wait()


@pytest.mark.newest_redis
async def test_a_reader_that_stops_reading_costs_the_process(
    streams: Streams, streams_env: Mapping[str, str], odd_log: ProbeLog
) -> None:
    """The pipe fills, and the event loop waits in a write for ever: the process ends, as with any other blocked loop,
    and another one handles what it held.
    """
    environment = {**streams_env, "ODD_LOG": str(odd_log.path), "PYTHONPATH": str(ROOT)}
    environment |= {"ODD_TIMEOUT": "1", "STREAMS_LEASE": "0.5"}
    command = [sys.executable, "-m", "tests.support.programs.odd_handlers"]
    reader, writer = os.pipe()
    child = subprocess.Popen(command, env=environment, stdout=writer, stderr=writer)
    os.close(writer)
    try:
        await streams.publish(Odd(n=1, act="chatter"))
        await wait_until(lambda: child.poll() is not None, timeout=20)
        assert child.returncode != 0
        assert odd_log.numbers("end") == []
    finally:
        child.kill()
        child.wait()
        os.close(reader)


@pytest.mark.newest_redis
async def test_a_relay_sets_its_logs_up_as_well(spawn: Spawn, redis_url: str, tmp_path: Path) -> None:
    """It is a program of its own, and logs as the settings say, on standard error."""
    url = f"sqlite:///{tmp_path}/outbox.db"
    engine = make_engine(url)
    await create_tables(engine)
    await engine.dispose()
    env = {"PYTHONPATH": str(ROOT), "DATABASE_URL": url, "LOG_FORMAT": "json", "LOG_LEVEL": "info"}
    child = spawn("streams.sql.relay", env=env)
    await wait_until(lambda: "relay.started" in child.stderr(), timeout=20)
    child.terminate()
    assert child.wait() == 0
    assert child.stdout() == ""
    events = [orjson.loads(line)["event"] for line in child.stderr().splitlines()]
    assert events == ["relay.started", "relay.stopped"]
