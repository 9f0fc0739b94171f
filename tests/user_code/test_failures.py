"""Whatever a handler raises is a failure of its delivery: stored with its text, counted, and of no effect on others."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from streams import (
    Backoff,
    Batch,
    BatchFailed,
    CurrentProgress,
    DeadLetter,
    Depends,
    Middleware,
    Processor,
    Progress,
    Retry,
    Shared,
    Snooze,
    Unavailable,
)
from streams.messages.error_text import describe, describe_traceback
from streams.messages.outcome import DeadLettered, Retried, Snoozed
from streams.redaction import scrub
from streams.testing import Harness
from tests.conformance import conftest
from tests.conformance.engine import Engine, becomes, dead
from tests.support.events import Noted

engine, make_engine, redis_binary = conftest.engine, conftest.make_engine, conftest.redis_binary
pytest_generate_tests = conftest.pytest_generate_tests

QUICK = Backoff(attempts=2, first=0.02)


class Raising(Exception):
    """Without a text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class Silent(Exception):
    """Its text is None."""

    def __str__(self) -> str:
        return None  # type: ignore[return-value]  # noqa: PLE0307


class Recursive(Exception):
    """Its text asks for itself."""

    def __str__(self) -> str:
        return str(self)

    __repr__ = __str__


class Endless(Exception):
    """Its text is 100 MB."""

    def __str__(self) -> str:
        return "x" * 100_000_000


class Exits(Exception):
    """Its text ends the process."""

    def __str__(self) -> str:  # noqa: PLE0307
        sys.exit(3)


class Lying(Exception):
    """Whatever is asked of it, it raises."""

    @property
    def __class__(self) -> Any:  # type: ignore[override]
        raise ZeroDivisionError

    @property
    def args(self) -> Any:  # type: ignore[override]
        raise ZeroDivisionError

    __traceback__ = __cause__ = __context__ = __notes__ = args  # type: ignore[assignment]


class Meta(type):
    """A class without a name."""

    @property
    def __name__(cls) -> str:
        raise ZeroDivisionError


class Nameless(Exception, metaclass=Meta):
    """One of it."""


class Text(str):
    """A str that answers nothing."""

    __slots__ = ()

    def __getattribute__(self, name: str) -> Any:
        raise ZeroDivisionError

    def __getitem__(self, key: Any) -> Any:
        raise ZeroDivisionError

    def __len__(self) -> int:
        raise ZeroDivisionError


class Odd(Exception):
    """Its text is such a one."""

    def __str__(self) -> str:
        return Text("an odd text")


class Own(BaseException):
    """A class of its own."""


class Uneasy(Exception):
    """It cannot be compared, hashed, asked for an attribute, or given one."""

    def _no(self, *_: Any) -> Any:
        raise ZeroDivisionError

    __eq__ = __hash__ = __getattribute__ = __setattr__ = __reduce__ = __bool__ = _no  # type: ignore[assignment]


def circle() -> Exception:
    one, other = ValueError("one"), KeyError("other")
    one.__cause__, other.__context__ = other, one
    return one


def noted() -> Exception:
    error = ValueError("bad row")
    error.add_note("it was row 7")
    return error


def strange_notes() -> Exception:
    error = ValueError("odd notes")
    error.__notes__ = [5, Text("x"), "a good one"]  # type: ignore[assignment, list-item]
    return error


def renamed() -> Exception:
    return type("Two\nlines\x1b[31m" + "x" * 1000, (Exception,), {})("named oddly")  # type: ignore[no-any-return]


def panic() -> BaseException:
    """A real one of native code: pyo3's PanicException is no Exception."""
    try:
        pl.Series([2**31 - 1]).cast(pl.Date).to_list()
    except BaseException as error:
        return error
    raise AssertionError("polars does not panic any more: look for another one")


FAULTS: dict[str, tuple[Callable[[], BaseException], str]] = {
    "surrogate": (lambda: ValueError("no such file: caf\udce9.csv"), "ValueError: no such file: caf\\udce9.csv"),
    "nul and escapes": (lambda: ValueError("a\x00b\x1b[31mc\u202ed"), "ValueError: a\\x00b\\x1b[31mc\\u202ed"),
    "str raises": (lambda: Raising("made", "of", 3), "Raising: (its text cannot be read: RuntimeError), made, of, 3"),
    "str is None": (Silent, "Silent: (its text cannot be read: TypeError)"),
    "digits": (lambda: ValueError(10**5_000), "ValueError: (its text cannot be read: ValueError), an integer of 16"),
    "str recurses": (Recursive, "Recursive: (its text cannot be read: RecursionError)"),
    "str is 100 MB": (Endless, "Endless: xxx"),
    "str exits": (Exits, "Exits: (its text cannot be read: SystemExit)"),
    "str is no str": (Odd, "Odd: an odd text"),
    "lies": (lambda: Lying("here"), "Lying: here"),
    "uneasy": (lambda: Uneasy("here"), "Uneasy: here"),
    "uneasy in a group": (lambda: ExceptionGroup("g", [Uneasy("here")]), "Uneasy: here (in ExceptionGroup: g)"),
    "nameless class": (lambda: Nameless("here"), "Nameless: here"),
    "odd name": (renamed, "Two lines\\x1b[31mxxx"),
    "odd arguments": (lambda: ValueError(Raising(), object), "ValueError: "),
    "circle": (circle, "ValueError: one"),
    "note": (noted, "ValueError: bad row [note: it was row 7]"),
    "odd notes": (strange_notes, "ValueError: odd notes"),
    "panic": (panic, "PanicException: "),
    "own base exception": (lambda: Own("mine"), "Own: mine"),
    "generator exit": (lambda: GeneratorExit("gone"), "GeneratorExit: gone"),
    "system exit": (lambda: SystemExit(3), "SystemExit: 3"),
    "memory": (lambda: MemoryError("no room"), "MemoryError: no room"),
    "recursion": (lambda: RecursionError("too deep"), "RecursionError: too deep"),
    "stop iteration": (lambda: StopIteration(5), "RuntimeError: coroutine raised StopIteration"),
    "login": (lambda: OSError("https://ada:hunter2@host/ password=hunter2"), "OSError: https://ada:[redacted]@host/ "),
    "dead letter": (lambda: DeadLetter("caf\udce9 password=hunter2"), "DeadLetter: caf\\udce9 password=[redacted]"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_failure_is_described_and_hits_no_bystander(engine: Engine, fault: str) -> None:
    make, expected = FAULTS[fault]
    probe, handled = Processor("probe", concurrency=2, retry=QUICK), list[int]()

    @probe.on(Noted)
    async def handle(event: Noted) -> None:
        if event.n == 2:
            raise make()
        handled.append(event.n)

    receipts = await engine.streams.publish_many(Noted(n=n) for n in range(6))
    await engine.start(probe)
    trail = await becomes(engine, receipts[2].id, "dead")
    (letter,) = await dead(engine, "probe")
    await engine.until(lambda: sorted(handled) == [0, 1, 3, 4, 5])
    rejected = fault == "dead letter"
    assert letter.error.startswith(expected)
    assert (letter.reason, letter.attempts, letter.deliveries) == (("rejected", 1, 1) if rejected else ("failed", 2, 2))
    assert {line["error"] for line in trail.history} == {letter.error}
    assert "test_failures.py" in letter.traceback or fault == "lies"
    for text in (letter.error, letter.traceback):
        assert "hunter2" not in text
        assert text.isprintable() or "\n" in text
    assert len(letter.error) <= 500
    assert len(letter.traceback) <= 8_000


@pytest.mark.parametrize(
    ("signal", "outcome"),
    [
        (lambda text: Snooze(0.01, text), "snoozed"),
        (lambda text: Retry(text, after=0.01), "retried"),
        (lambda text: Unavailable("smtp", text), "snoozed"),
    ],
    ids=["snooze", "retry", "unavailable"],
)
@pytest.mark.parametrize(
    "text",
    ["https://ada:hunter2@host/ password=hunter2", "x" * 30_000_000, "caf\udce9 \x00"],
    ids=["login", "huge", "odd"],
)
async def test_what_a_signal_says_is_scrubbed_and_cut(
    engine: Engine, signal: Callable[[str], Exception], outcome: str, text: str
) -> None:
    probe, tries = Processor("probe", retry=QUICK), list[int]()

    @probe.on(Noted)
    async def handle(event: Noted) -> None:
        tries.append(event.n)
        if len(tries) == 1:
            raise signal(text)

    await engine.start(probe)
    with capture_logs() as logs:
        receipt = await engine.streams.publish(Noted(n=1))
        trail = await becomes(engine, receipt.id, "acked")
    line = trail.history[0]
    assert line["outcome"] == outcome
    said = line["reason"] or line["error"]
    assert "hunter2" not in said
    assert "hunter2" not in repr(logs)
    assert 0 < len(said) <= 500


async def test_signals_of_ones_own_may_forget_what_they_are_made_of(engine: Engine) -> None:
    """A subclass without `super().__init__()`, or with nonsense in it, is a failure or waits by the policy."""

    class MySnooze(Snooze):
        def __init__(self) -> None:
            Exception.__init__(self, "later")

    class MyRetry(Retry):
        def __init__(self) -> None:
            super().__init__("again")
            self.after = float("nan")

    class MyUnavailable(Unavailable):
        def __init__(self) -> None:
            Exception.__init__(self, "away")

    probe, tries = Processor("probe", retry=Backoff(attempts=3, first=0.01)), list[int]()

    @probe.on(Noted)
    async def handle(event: Noted) -> None:
        tries.append(event.n)
        raise [MySnooze(), MyRetry(), MyUnavailable(), ValueError("the end")][len(tries) - 1]

    await engine.start(probe)
    receipt = await engine.streams.publish(Noted(n=1))
    trail = await becomes(engine, receipt.id, "dead")
    assert [line["outcome"] for line in trail.history] == ["retried", "retried", "snoozed", "dead_lettered"]
    assert trail.history[0]["error"] == "MySnooze: later"


async def test_an_exception_is_asked_for_its_text_once(engine: Engine) -> None:
    asked: list[int] = []

    class Counting(Exception):
        def __str__(self) -> str:
            asked.append(1)
            return f"asked {len(asked)} times"

    probe = Processor("probe", retry=Backoff(attempts=1))

    @probe.on(Noted)
    async def handle(event: Noted) -> None:
        try:
            raise Counting
        except Counting as error:
            raise ValueError("outer") from error

    await engine.start(probe)
    receipt = await engine.streams.publish(Noted(n=1))
    await becomes(engine, receipt.id, "dead")
    assert asked == [1]
    assert "Counting: asked 1 times" in (await dead(engine, "probe"))[0].traceback


@pytest.mark.parametrize("where", ["depends", "shared", "plain", "batch", "batch failed", "middleware", "transaction"])
@pytest.mark.parametrize("fault", ["panic", "own base exception", "surrogate", "lies", "generator exit"])
async def test_wherever_it_is_raised(where: str, fault: str) -> None:
    """In what a handler depends on, in a thread, in a batch, in a middleware, in a transaction."""
    make, expected = FAULTS[fault]
    handled: list[int] = []

    def act(*events: Noted) -> None:
        if any(event.n == 2 for event in events):
            raise make()
        handled.extend(event.n for event in events)

    class Bad(Middleware):
        async def deliver(self, delivery: Any, call_next: Any) -> Any:
            if b'"n":2' in delivery.message.data:
                raise make()
            return await call_next(delivery)

    class Rolling:
        async def run(self, delivery: Any, handle: Any) -> Any:
            return await handle()

    probe = Processor("probe", concurrency=2, retry=QUICK, transaction=Rolling() if where == "transaction" else None)
    broken = [True]

    def factory() -> int:
        if broken.pop() if broken else False:
            raise make()
        return 1

    if where in ("depends", "shared"):

        @probe.on(Noted)
        async def depending(
            event: Noted, given: int = Depends(factory) if where == "depends" else Shared(factory)
        ) -> None:
            handled.append(event.n)

    elif where == "plain":

        @probe.on(Noted)
        def plain(event: Noted) -> None:
            act(event)

    elif where.startswith("batch"):

        @probe.on(Noted, batch=Batch(size=10, within=0))
        async def many(events: list[Noted]) -> None:
            if where == "batch":
                act(*events)
            elif wrong := {at: make() for at, event in enumerate(events) if event.n == 2}:
                handled.extend(event.n for event in events if event.n != 2)
                raise BatchFailed(wrong)
            else:
                handled.extend(event.n for event in events)

    else:

        @probe.on(Noted)
        async def single(event: Noted) -> None:
            if where == "middleware":
                handled.append(event.n)
            else:
                act(event)

    async with Harness(probe, middleware=[Bad()] if where == "middleware" else []) as streams:
        await streams.publish_many(Noted(n=n) for n in range(5))
        await streams.run()
        await streams.advance(minutes=5)
        letters = streams.dead_letters("probe")
        if where in ("depends", "shared"):
            assert sorted(handled) == [0, 1, 2, 3, 4]
            assert len(letters) == 0
        else:
            assert sorted(handled) == [0, 1, 3, 4]
            letter = letters[0]
            assert letter.error.startswith(expected) or fault == "generator exit"
            assert letter.attempts == 2


async def test_a_middleware_that_forgets_what_it_returns_fails_the_delivery() -> None:
    class Forgetful(Middleware):
        async def deliver(self, delivery: Any, call_next: Any) -> Any:
            await call_next(delivery)

    probe = Processor("probe", retry=QUICK)

    @probe.on(Noted)
    async def handle(event: Noted) -> None:
        return

    async with Harness(probe, middleware=[Forgetful()]) as streams:
        await streams.publish(Noted(n=1))
        await streams.run()
        await streams.advance(minutes=1)
        assert "returned NoneType in the place of an outcome" in streams.dead_letters("probe")[0].error


def test_an_outcome_is_scrubbed_wherever_it_is_made() -> None:
    text = "caf\udce9 password=hunter2 " + "x" * 1_000_000
    for outcome in (Retried(1, text), Snoozed(1, text), DeadLettered(text, text, text)):
        assert "hunter2" not in repr(outcome)
        assert len(repr(outcome)) < 10_000
        repr(outcome).encode()
    for wrong in (float("nan"), -1, float("inf")):
        with pytest.raises(ValueError):
            Retried(wrong, "x")


async def test_progress_takes_any_text(engine: Engine) -> None:
    probe, seen = Processor("probe", retry=QUICK), asyncio.Event()

    @probe.on(Noted)
    async def handle(event: Noted, progress: Progress = CurrentProgress()) -> None:
        for text in ("caf\udce9 password=hunter2", "x" * 30_000_000, Text("odd"), 5):
            await progress.set(1, text=text)  # type: ignore[arg-type]
        seen.set()

    await engine.start(probe)
    receipt = await engine.streams.publish(Noted(n=1))
    await becomes(engine, receipt.id, "acked")
    assert seen.is_set()


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("https://ada:hunter2@host/x", "https://ada:[redacted]@host/x"),
        ("redis://:hun/te@r2@host:6379/0", "redis://:[redacted]@host:6379/0"),
        ("amqp://u:hunter2@h1,amqp://v:hunter2@h2", "amqp://u:[redacted]@h2"),
        ("https://ghp_hunter2hunter2hunter2@github.com/x", "https://[redacted]@github.com/x"),
        ("http://host:8080/users/ada@example.com", "http://host:8080/users/ada@example.com"),
        ("{'password': 'hunter 2', 'user': 'ada'}", "{'password': [redacted], 'user': 'ada'}"),
        ('{"api_key": "hunter2", "n": 1}', '{"api_key": [redacted], "n": 1}'),
        ("REDIS_PASSWORD=hunter2 x", "REDIS_PASSWORD=[redacted] x"),
        ("clientSecret=hunter2", "clientSecret=[redacted]"),
        ("authorization: Bearer hunter2 (401)", "authorization: [redacted] (401)"),
        ("[('Authorization', 'Basic hunter2')]", "[('Authorization', [redacted])]"),
        ("Cookie: sid=hunter2; other=hunter2 end", "Cookie: [redacted] end"),
        ("got Bearer hunter2hunter2.x", "got Bearer [redacted]"),
        ("GET /x?sig=hunter2&n=1", "GET /x?sig=[redacted]&n=1"),
        ("[type=int, input_value='hunter2', input_type=str]", "[type=int, input_value=[redacted], input_type=str]"),
        ("[parameters: ('ada', 'hunter2')]", "[parameters: [redacted])]"),
        ("InvalidToken: signature is wrong", "InvalidToken: signature is wrong"),
        ("ExpiredToken: token=hunter2", "ExpiredToken: token=[redacted]"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.hunter2", "[redacted]"),
        ("-----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END", "-----BEGIN RSA PRIVATE KEY-----[redacted]-----END"),
    ],
)
def test_what_looks_like_a_credential_is_hidden(text: str, hidden: str) -> None:
    assert scrub(text) == hidden
    assert scrub(hidden) == hidden


def test_a_login_that_the_cut_goes_through_is_hidden() -> None:
    assert "hunter" not in scrub("https://ada:" + "hunter2" * 1_000_000 + "@host")
    assert "hunter" not in scrub("password='" + "x" * 1500 + "' https://ada:" + "hunter2" * 1_000)


@pytest.mark.parametrize("address", ["redis://[::1]:6379", "http://host:8080", "http://host:8080/a?b=c:d"])
def test_an_address_without_a_login_is_kept(address: str) -> None:
    """What is cut may hide the end of a login; what is whole says where it was."""
    assert scrub(f"no connection to {address}") == f"no connection to {address}"


WORST = [
    " ", "\n", "\t", "a", "@", "://", "://a:", "://a", "password=", "password='", 'token="', "password ", "'", '"',
    "\\",
    "-----BEGIN PRIVATE KEY-----", "input_value=", "[parameters: ", "eyJ", "eyJaaaaaaaa.", "token: ", "AaToken: ",
    "\x00", "\udc80", "cookie: a=b;", "a.", "basic ", "?sig=", "_", "pass", "Aa", "9",
]  # fmt: skip


@pytest.mark.parametrize("piece", WORST)
def test_no_text_is_slow(piece: str) -> None:
    """A megabyte of its worst character: the time is that of what is kept, not of what was given."""
    text = (piece * 1_000_000)[:1_000_000]
    began = time.process_time()
    scrub(text)
    describe(ValueError(text))
    scrub(text, 8_000)
    assert time.process_time() - began < 1.0


@given(st.text(st.characters(), max_size=300), st.integers(1, 600))
def test_any_text_can_be_stored(text: str, length: int) -> None:
    found = scrub(text, length)
    found.encode()
    assert len(found) <= length
    assert all(character.isprintable() or character in "\t\n" or not character.isascii() for character in found)


def _chained(draw: random.Random, depth: int = 0) -> BaseException:
    error: BaseException = draw.choice([ValueError, KeyError, Raising, Own, Silent])(draw.choice(["a", "b\udc80", 5]))
    if depth < 4 and draw.random() < 0.5:
        others = [_chained(draw, depth + 1) for _ in range(draw.randint(1, 3))]
        error = BaseExceptionGroup("group\udc80", others)
    if draw.random() < 0.5 and depth < 4:
        error.__cause__ = _chained(draw, depth + 1)
    if draw.random() < 0.2:
        error.__context__ = error.__cause__ or error
    return error


@pytest.mark.parametrize("seed", range(100))
def test_any_chain_can_be_described(seed: int) -> None:
    error = _chained(random.Random(seed))
    for text, most in ((describe(error), 500), (describe_traceback(error), 8_000)):
        assert 0 < len(text) <= most
        text.encode()


def test_deep_and_wide_groups_are_described_quickly() -> None:
    deep: Exception = ValueError("the bottom")
    for _ in range(20_000):
        deep = ExceptionGroup("g", [deep])
    wide = ExceptionGroup("wide", [ExceptionGroup("w", [ValueError(str(n))] * 50) for n in range(2_000)])
    began = time.process_time()
    assert describe(deep).startswith("ValueError: the bottom (in ExceptionGroup: g)")
    assert describe(wide).endswith("(in ExceptionGroup: wide)")
    assert len(describe_traceback(wide)) <= 8_000
    assert time.process_time() - began < 2.0
    while isinstance(deep, ExceptionGroup):  # or its end is a recursion too deep for the interpreter
        deep = deep.exceptions[0]


def test_frames_that_cannot_be_read_are_reported_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    class Loader:
        def get_source(self, name: str) -> str:
            raise ZeroDivisionError

    code = compile("def f():\n    raise ValueError('from nowhere')\n", "caf\\udce9" + "x" * 5_000, "exec")
    names: dict[str, Any] = {"__loader__": Loader(), "__name__": "nowhere"}
    exec(code, names)
    try:
        names["f"]()
    except ValueError as error:
        text = describe_traceback(error)
    assert text.endswith("ValueError: from nowhere")
    assert len(text) <= 8_000


@pytest.fixture(autouse=True)
def _quiet_panics(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """A panic writes to stderr by itself."""
    yield
    capfd.readouterr()
