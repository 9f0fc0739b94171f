"""Handlers are checked where they are declared: what cannot work says in one line what to write, and the rest works."""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Generic, Protocol, TypeVar

import pytest

from streams import (
    Backoff,
    Batch,
    CurrentDelivery,
    Delivery,
    Depends,
    Event,
    Limit,
    Processor,
    Shared,
    Slot,
    StreamsError,
    run,
)
from streams.testing import Harness
from tests.conformance import conftest
from tests.conformance.engine import Engine, becomes
from tests.support.events import Noted, Other

if TYPE_CHECKING:
    from somewhere import Unknown  # type: ignore[import-not-found]

engine, make_engine, redis_binary = conftest.engine, conftest.make_engine, conftest.redis_binary
pytest_generate_tests = conftest.pytest_generate_tests

T = TypeVar("T")
AnEvent = TypeVar("AnEvent", bound=Event)


def named(given: object) -> str:
    """A test's name without addresses: each process of pytest-xdist has to find the same ones."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(given))


def make() -> int:
    """A dependency."""
    return 1


async def no_argument() -> None: ...
async def two(event: Noted, db: object) -> None: ...
async def keyword(*, event: Noted) -> None: ...
async def named_only(**event: Noted) -> None: ...
async def needs_keyword(event: Noted, *, db: object) -> None: ...
async def dependency_first(db: int = Depends(make), event: Noted | None = None) -> None: ...
async def positional_dependency(event: Noted, db: int = Depends(make), /) -> None: ...
async def an_int(event: int) -> None: ...
async def an_int_as_text(event: "int") -> None: ...  # noqa: UP037
async def another(event: Other) -> None: ...
async def other_union(event: Other | int | None) -> None: ...
async def a_delivery(event: Delivery) -> None: ...
async def a_list(event: list[Noted]) -> None: ...
async def yields(event: Noted) -> AsyncIterator[Noted]:
    yield event


def yields_plainly(event: Noted) -> Iterator[Noted]:
    yield event


async def text(event: Noted) -> str:
    return "done"


def truth(event: Noted) -> "bool":  # noqa: UP037
    return True


class Methods:
    """Handlers in a class."""

    async def method(self, event: Noted) -> None: ...

    @classmethod
    async def of_class(cls, event: Noted) -> None: ...

    @staticmethod
    async def static(event: Noted) -> None: ...

    async def __call__(self, event: Noted) -> None: ...


class Yielding:
    """An object that yields."""

    async def __call__(self, event: Noted) -> AsyncIterator[int]:
        yield 1


def unmade(request: object) -> int:
    """A dependency of a web framework's kind."""
    return 1


async def wrong_factory(event: Noted, db: int = Depends(unmade)) -> None: ...
async def wrong_shared(event: Noted, db: int = Shared(unmade)) -> None: ...
async def no_factory(event: Noted, db: int = Depends(5)) -> None: ...  # type: ignore[call-overload, arg-type]


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        (no_argument, r"no_argument\(\) takes no event as its first argument; write \(event: Noted\)"),
        (two, r"two\(\): nothing gives it db; write db = Depends"),
        (keyword, "takes no event as its first argument"),
        (named_only, "takes no event as its first argument"),
        (needs_keyword, "nothing gives it db"),
        (dependency_first, "the event comes first"),
        (positional_dependency, "db is given by its name; remove the /"),
        (an_int, r"an_int\(\) takes int, but is given Noted; write \(event: Noted\)"),
        (an_int_as_text, "takes int, but is given Noted"),
        (another, "takes Other, but is given Noted"),
        (other_union, "but is given Noted"),
        (a_delivery, "takes Delivery, but is given Noted"),
        (a_list, r"takes a list; give batch=Batch\(...\), or write \(event: Noted\)"),
        (yields, "yields, so that a call of it does nothing; return a list of events"),
        (yields_plainly, "yields, so that a call of it does nothing"),
        (Yielding(), "yields, so that a call of it does nothing"),
        (text, "returns str, which is ignored"),
        (truth, "returns bool, which is ignored"),
        (lambda: None, "takes no event"),
        (lambda event, other: None, "nothing gives it other"),
        (functools.partial(two, db=1), None),
        (functools.partial(no_argument), "takes no event"),
        (Methods.method, "is a method, and takes more than"),
        (Methods.__dict__["of_class"], "a classmethod has no class yet"),
        (Methods, "Methods is no function"),
        (5, "5 is no function"),
        (None, "None is no function"),
        ("handle", "'handle' is no function"),
        (wrong_factory, r"Depends\(unmade\) cannot be made: nothing gives it request"),
        (wrong_shared, r"Shared\(unmade\) cannot be made: nothing gives it request"),
        (no_factory, r"Depends\(5\) needs a function"),
    ],
    ids=named,
)
def test_a_handler_that_cannot_work_is_refused(handler: Any, expected: str | None) -> None:
    processor = Processor("probe")
    if expected is None:
        processor.on(Noted)(handler)
        return
    with pytest.raises(StreamsError, match=expected) as caught:
        processor.on(Noted)(handler)
    assert str(caught.value).startswith("processor probe, Noted: ")
    assert "\n" not in str(caught.value)
    assert processor.subscriptions == {}


async def one(event: Noted) -> None: ...
async def many_others(events: list[Other]) -> None: ...
async def many_pairs(events: tuple[Noted, ...]) -> None: ...
async def mapping(events: dict[int, Noted]) -> None: ...


@pytest.mark.parametrize("handler", [one, many_others, many_pairs, mapping, an_int], ids=named)
def test_a_batch_handler_takes_a_list(handler: Any) -> None:
    with pytest.raises(
        StreamsError, match=r"takes .*: a handler with batch=Batch\(...\) takes a list; write \(events: l"
    ):
        Processor("probe").on(Noted, batch=Batch())(handler)


class Base(Protocol):
    """Some protocol."""

    n: int


class Generic_(Generic[T]):  # noqa: N801
    """Some generic class."""


async def bare(event) -> None: ...  # type: ignore[no-untyped-def]  # noqa: ANN001
async def anything(event: Any) -> None: ...
async def any_event(event: Event) -> None: ...
async def either(event: Noted | Other) -> None: ...
async def by_text(event: "Noted") -> None: ...  # noqa: UP037
async def unknown(event: Unknown) -> None: ...
async def protocol(event: Base) -> None: ...
async def annotated(event: Annotated[Noted, "a note"]) -> None: ...
async def variable(event: AnEvent) -> None: ...
async def optional(event: Noted | None = None, more: int = 5, *rest: int, **others: int) -> None: ...
async def variadic(*events: Noted) -> None: ...
async def positional(event: Noted, /) -> None: ...
async def with_dependency(event: Noted, delivery: Delivery = CurrentDelivery(), *, db: int = Depends(make)) -> None: ...
async def with_annotated(event: Noted, db: Annotated[int, Depends(make)]) -> None: ...
def answers(event: Noted) -> dict[str, bool]:
    return {"success": True}


@pytest.mark.parametrize(
    "handler",
    [bare, anything, any_event, either, by_text, unknown, protocol, annotated, variable, optional, variadic, positional,
     with_dependency, with_annotated, answers, print, [].append, lambda event: None],
    ids=named,
)  # fmt: skip
def test_what_can_work_is_taken(handler: Any) -> None:
    processor = Processor("probe")
    assert processor.on(Noted)(handler) is handler
    assert "." in processor.subscriptions["Noted"].name


async def a_sequence(events: Sequence[Noted]) -> None: ...
async def a_bare_list(events: list) -> None: ...  # type: ignore[type-arg]
async def unannotated(events) -> None: ...  # type: ignore[no-untyped-def]  # noqa: ANN001
async def list_by_text(events: "list[Noted]") -> None: ...  # noqa: UP037


@pytest.mark.parametrize("handler", [a_list, a_sequence, a_bare_list, unannotated, list_by_text, anything], ids=named)
def test_a_batch_handler_may_take_any_kind_of_list(handler: Any) -> None:
    Processor("probe").on(Noted, batch=Batch())(handler)


def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    """As people write decorators: a plain function around whatever it is given."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def running(function: Callable[..., Any]) -> Callable[..., Any]:
    """As people call coroutine functions from plain ones."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return asyncio.run(function(*args, **kwargs))

    return wrapper


def callables(seen: list[tuple[int, int]]) -> dict[str, Any]:
    """Every kind of callable, which notes what it is given."""

    async def handle(event: Noted, db: int = Depends(make)) -> None:
        await asyncio.sleep(0)
        seen.append((event.n, db))

    async def simple(event: Noted) -> None:
        await asyncio.sleep(0)
        seen.append((event.n, 1))

    async def with_more(more: int, event: Noted, db: int = Depends(make)) -> None:
        seen.append((event.n, db))

    class Handlers:
        async def method(self, event: Noted, db: int = Depends(make)) -> None:
            seen.append((event.n, db))

        @classmethod
        async def of_class(cls, event: Noted, db: int = Depends(make)) -> None:
            seen.append((event.n, db))

        @staticmethod
        async def static(event: Noted, db: int = Depends(make)) -> None:
            seen.append((event.n, db))

        async def __call__(self, event: Noted, db: int = Depends(make)) -> None:
            seen.append((event.n, db))

    class Plain:
        def __call__(self, event: Noted) -> None:
            seen.append((event.n, 1))

    return {
        "function": handle,
        "wrapper": wrapped(handle),
        "wrapper of simple": wrapped(simple),
        "wrapper without wraps": lambda event: simple(event),  # noqa: PLW0108 - that is the case
        "twice": wrapped(wrapped(handle)),
        "running": running(simple),
        "partial": functools.partial(with_more, 5),
        "partial of object": functools.partial(Handlers(), db=1),
        "method": Handlers().method,
        "class method": Handlers.of_class,
        "static method": Handlers.static,
        "static method, undressed": Handlers.__dict__["static"],
        "object": Handlers(),
        "plain object": Plain(),
        "wrapper of object": functools.partial(wrapped(simple)),
    }


@pytest.mark.parametrize("kind", list(callables([])))
async def test_every_kind_of_callable_works(engine: Engine, kind: str) -> None:
    seen: list[tuple[int, int]] = []
    probe = Processor("probe")
    probe.on(Noted)(callables(seen)[kind])
    await engine.start(probe)
    receipt = await engine.streams.publish(Noted(n=7))
    await becomes(engine, receipt.id, "acked")
    assert seen == [(7, 1)]


async def test_a_dependency_is_open_while_a_wrapped_handler_runs(engine: Engine) -> None:
    steps: list[str] = []

    @asynccontextmanager
    async def connection() -> AsyncIterator[str]:
        steps.append("open")
        yield "connection"
        steps.append("closed")

    @wrapped
    async def handle(event: Noted, db: str = Depends(connection)) -> None:
        await asyncio.sleep(0.01)
        steps.append(db)

    probe = Processor("probe")
    probe.on(Noted)(handle)
    await engine.start(probe)
    receipt = await engine.streams.publish(Noted(n=7))
    await becomes(engine, receipt.id, "acked")
    assert steps == ["open", "connection", "closed"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"retry": 3}, r"retry=3 is no policy; write retry=Backoff\(attempts=3\)"),
        ({"retry": "3"}, r"retry='3' is no policy"),
        ({"retry": Backoff}, "retry=Backoff is no policy"),
        ({"retry": True}, "retry=True is no policy"),
        ({"timeout": "30"}, "timeout='30' must be a number of seconds or a timedelta: timeout=30"),
        ({"timeout": 0}, "timeout=0 must be over 0 seconds"),
        ({"timeout": -1}, "timeout: duration .*must be between"),
        ({"timeout": True}, "timeout=True must be a number of seconds"),
        ({"timeout": float("nan")}, "timeout=nan must be a number"),
        ({"timeout": float("inf")}, "timeout=inf must be a number"),
        ({"timeout": timedelta()}, "must be over 0 seconds"),
        ({"timeout": [30]}, "must be a number of seconds"),
        ({"limit": 5}, r"limit=5 is no limit; write limit=Limit\(concurrency=5\)"),
        ({"limit": "10/s"}, "limit='10/s' is no limit"),
        ({"batch": 500}, r"batch=500 is no batch; write batch=Batch\(size=500\)"),
        ({"batch": True}, "batch=True is no batch"),
        ({"batch": Batch}, "batch=Batch is no batch"),
        ({"transaction": "sql"}, "transaction='sql' is no transaction"),
        ({"transaction": object}, r"write transaction=object\(\)"),
    ],
    ids=named,
)
def test_a_policy_that_is_none_is_refused(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(StreamsError, match=expected) as caught:
        Processor("probe").on(Noted, **options)(one)
    assert str(caught.value).startswith("processor probe, Noted: ")
    if options.keys() <= {"retry", "timeout"}:
        with pytest.raises(StreamsError, match=f"processor probe: .*{expected}"):
            Processor("probe", **options)


@pytest.mark.parametrize(
    "options",
    [{"concurrency": "5"}, {"concurrency": 0}, {"concurrency": True}, {"concurrency": 2.5}, {"reserved": "1"},
     {"reserved": -1}, {"deliveries": 0}, {"deliveries": "5"}, {"ordered": "no"}, {"ordered": 1}],
    ids=named,
)  # fmt: skip
def test_a_processor_that_makes_no_sense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(StreamsError, match=f"processor probe: {next(iter(options))}="):
        Processor("probe", **options)


@pytest.mark.parametrize(
    "given", [{"rate": "5"}, {"rate": True}, {"concurrency": 2.5}, {"rate": 1, "burst": "1"}], ids=named
)
def test_a_limit_takes_numbers(given: dict[str, Any]) -> None:
    with pytest.raises(StreamsError, match=r"must be a .*number"):
        Limit(**given)


@pytest.mark.parametrize(
    "event", [Noted(n=1), Event, int, "Noted", None, one, [Noted]], ids=lambda each: type(each).__name__
)
def test_only_event_classes_are_handled(event: Any) -> None:
    with pytest.raises(StreamsError, match=r"@probe.on\(...\) takes an Event class, not "):
        Processor("probe").on(event)


def test_there_is_one_handler_for_an_event() -> None:
    processor = Processor("probe")
    on = processor.on(Noted)
    on(one)
    for again in (lambda: on(one), lambda: processor.on(Noted)):
        with pytest.raises(StreamsError, match="already handles Noted"):
            again()


async def takes_slot(slot: Slot) -> None: ...
async def takes_keyword(*, slot: Slot) -> None: ...
async def takes_position(slot: Slot, /) -> None: ...
async def takes_default(slot: Slot, more: int = 5) -> None: ...


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (an_int, "takes int, but is given the slot"),
        (yields, "yields"),
        (5, "is no function"),
        (wrong_factory, "cannot be made"),
        (lambda slot, other: None, "takes the slot and dependencies, not slot, other"),
        (text, "takes Noted, but is given the slot"),
    ],
    ids=named,
)
def test_a_schedule_that_cannot_work_is_refused(function: Any, expected: str) -> None:
    with pytest.raises(StreamsError, match=expected):
        Processor("probe").every(60, name="s")(function)


@pytest.mark.parametrize("function", [takes_slot, takes_keyword, takes_position, takes_default, no_argument], ids=named)
async def test_a_schedule_takes_its_slot_as_it_likes(function: Any) -> None:
    seen: list[Any] = []

    @functools.wraps(function)
    async def spy(*args: Any, **kwargs: Any) -> Noted:
        await function(*args, **kwargs)
        seen.append((*args, *kwargs.values()))
        return Noted(n=1)

    probe = Processor("probe")
    probe.every(60, name="s")(spy)
    async with Harness(probe) as streams:
        await streams.advance(seconds=60)
        assert streams.published(Noted) == [Noted(n=1)]
    assert [len(each) for each in seen] == [0 if function is no_argument else 1]


@pytest.mark.parametrize(
    ("processors", "expected"),
    [
        ((), r"run\(\) takes processors, and was given none: run\(billing\)"),
        (("billing",), r"run\(\) takes processors, not 'billing'"),
        ((Processor,), r"run\(\) takes processors, not Processor"),
        ((Processor("empty"),), "processor empty has no handlers and no schedules"),
    ],
    ids=named,
)
def test_running_nothing_is_refused(processors: Any, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(*processors, arguments=[])
    assert ended.value.code == 2
    captured = capsys.readouterr().err
    assert captured.count("\n") == 1
    assert re.search(expected, captured)


async def test_a_harness_takes_processors() -> None:
    with pytest.raises(StreamsError, match="takes processors, not 'billing'"):
        async with Harness("billing"):  # type: ignore[arg-type]
            pass
