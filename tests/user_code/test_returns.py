"""What a handler returns by mistake: its work is done, so it is acked, and one line of the log says what to return."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel
from structlog.testing import capture_logs

from streams import Backoff, Batch, Processor
from streams.testing import Harness
from tests.conformance import conftest
from tests.conformance.engine import Engine, becomes, dead
from tests.support.events import Followed, Noted

engine, make_engine, redis_binary = conftest.engine, conftest.make_engine, conftest.redis_binary
pytest_generate_tests = conftest.pytest_generate_tests

QUICK = Backoff(attempts=3, first=0.02)


class Out(BaseModel):
    """A model, and no event."""

    n: int = 1


class Pair(NamedTuple):
    """Two events."""

    one: Followed
    other: Followed


class Broken:
    """Nothing of it can be shown."""

    def __repr__(self) -> str:
        raise RuntimeError

    __str__ = __eq__ = __bool__ = __len__ = __iter__ = __hash__ = __repr__  # type: ignore[assignment]


MISTAKES: dict[str, tuple[Any, str]] = {
    "dict": ({"success": True}, "dict"),
    "text": ("done", "str"),
    "bytes": (b"done", "bytes"),
    "true": (True, "bool"),
    "false": (False, "bool"),
    "number": (7, "int"),
    "model": (Out(), "Out"),
    "object": (Broken(), "Broken"),
    "class": (Followed, "the class Followed"),
    "list of text": (["done"], "list with str"),
    "list of lists": ([[Followed(n=1)]], "list with list"),
    "list of classes": ([Followed], "list with the class Followed"),
    "ids": ((1, 2), "tuple with int"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("plain", [False, True], ids=["async", "def"])
async def test_it_is_done_and_said_once(engine: Engine, mistake: str, plain: bool) -> None:
    result, expected = MISTAKES[mistake]
    probe, effects = Processor("probe", retry=QUICK), list[int]()

    async def handle(event: Noted) -> Any:
        effects.append(event.n)
        return result

    def handle_plainly(event: Noted) -> Any:
        effects.append(event.n)
        return result

    probe.on(Noted)(handle_plainly if plain else handle)
    with capture_logs() as logs:
        await engine.start(probe)
        receipts = await engine.streams.publish_many(Noted(n=n) for n in range(3))
        for receipt in receipts:
            trail = await becomes(engine, receipt.id, "acked")
            assert (trail.attempts, trail.history) == (1, ())
    assert sorted(effects) == [0, 1, 2]
    assert await dead(engine, "probe") == []
    (line,) = [line for line in logs if line["event"] == "handler.returned_ignored"]
    assert (line["log_level"], line["group"], line["returned"]) == ("warning", "probe", expected)
    assert line["remedy"] == "return None, an event, or a list of events"
    assert line["handler"].endswith("handle_plainly" if plain else "handle")


async def _later(*events: Any) -> Any:
    await asyncio.sleep(0)
    return events[0] if len(events) == 1 else list(events)


def _each(*events: Any) -> Iterator[Any]:
    yield from events


async def _each_later(*events: Any) -> AsyncIterator[Any]:
    for event in events:
        await asyncio.sleep(0)
        yield event


A, B = Followed(n=1), Followed(n=2)


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (lambda: A, 1),
        (lambda: [A, B], 2),
        (lambda: (A, B), 2),
        (list, 0),
        (lambda: [A, None, B], 2),
        (lambda: [A, "done", B], 2),
        (lambda: {A, B}, 2),
        (lambda: deque([A, B]), 2),
        (lambda: Pair(A, B), 2),
        (lambda: _each(A, B), 2),
        (lambda: (event for event in (A, B)), 2),
        (lambda: _each_later(A, B), 2),
        (lambda: _later(A), 1),
        (lambda: _later(A, B), 2),
        (lambda: _later(_later(A)), 1),
        (lambda: [_later(A), B], 2),
        (lambda: asyncio.ensure_future(_later(A)), 1),
    ],
    ids=[
        "event", "list", "tuple", "empty", "with none", "with text", "set", "deque", "named tuple", "generator",
        "expression", "async generator", "coroutine", "coroutine of many", "nested coroutine", "list of coroutines",
        "task",
    ],
)  # fmt: skip
async def test_the_events_in_it_are_published(engine: Engine, make: Any, count: int) -> None:
    """Nothing of them is lost, whatever they are returned in; what was not awaited is awaited."""
    probe = Processor("probe", retry=QUICK)

    @probe.on(Noted)
    async def handle(event: Noted) -> Any:
        return make()

    await engine.start(probe)
    receipt = await engine.streams.publish(Noted(n=1))
    await becomes(engine, receipt.id, "acked")
    follow_ups = (await engine.streams.event(receipt.id)).follow_ups
    assert [found.type for found in follow_ups] == ["Followed"] * count


async def test_an_effect_that_was_not_awaited_happens(engine: Engine) -> None:
    """`return send(...)` without an await, the commonest slip of all."""
    probe, sent = Processor("probe", retry=QUICK), list[int]()

    async def send(n: int) -> dict[str, bool]:
        await asyncio.sleep(0)
        sent.append(n)
        return {"success": True}

    @probe.on(Noted)
    async def handle(event: Noted) -> Any:
        return send(event.n)

    await engine.start(probe)
    receipt = await engine.streams.publish(Noted(n=7))
    await becomes(engine, receipt.id, "acked")
    assert sent == [7]


async def test_what_was_not_awaited_may_fail(engine: Engine) -> None:
    probe = Processor("probe", retry=Backoff(attempts=1))

    async def send() -> None:
        raise ValueError("no")

    @probe.on(Noted)
    async def handle(event: Noted) -> Any:
        return send()

    await engine.start(probe)
    receipt = await engine.streams.publish(Noted(n=7))
    await becomes(engine, receipt.id, "dead")
    assert (await dead(engine, "probe"))[0].error == "ValueError: no"


async def test_a_generator_without_an_end_fails() -> None:
    probe = Processor("probe", retry=Backoff(attempts=1))

    def endless() -> Iterator[Followed]:
        while True:
            yield A

    @probe.on(Noted)
    async def handle(event: Noted) -> Any:
        return endless()

    async with Harness(probe) as streams:
        await streams.publish(Noted(n=1))
        await streams.run()
        assert "does not end after 10,000 events" in streams.dead_letters("probe")[0].error


@pytest.mark.parametrize("result", [{"success": True}, "done", ["done"], {0: "done"}, {0: {"ok": 1}}], ids=str)
async def test_a_batch_that_returns_a_mistake_is_done(engine: Engine, result: Any) -> None:
    probe, effects = Processor("probe", retry=QUICK), list[int]()

    @probe.on(Noted, batch=Batch(size=3, within=0.1))
    async def handle(events: list[Noted]) -> Any:
        effects.extend(event.n for event in events)
        return result

    with capture_logs() as logs:
        await engine.start(probe)
        receipts = await engine.streams.publish_many(Noted(n=n) for n in range(3))
        for receipt in receipts:
            await becomes(engine, receipt.id, "acked")
    assert sorted(effects) == [0, 1, 2]
    assert len([line for line in logs if line["event"] == "handler.returned_ignored"]) == 1


@pytest.mark.parametrize("big", [True, False], ids=["too large", "not encodable"])
async def test_a_follow_up_that_cannot_be_published_is_no_reason_to_do_the_work_again(
    engine: Engine, big: bool
) -> None:
    """A dead letter at once: the same event would come out again. The other follow-ups are not published either."""
    probe, effects = Processor("probe", retry=QUICK), list[int]()

    @probe.on(Noted)
    async def handle(event: Noted) -> Any:
        effects.append(event.n)
        return [A, Noted(n=2, text="x" * 10_000 if big else "caf\udce9")]

    await engine.start(probe)
    receipt = await engine.streams.publish(Noted(n=7))
    await becomes(engine, receipt.id, "dead")
    assert effects == [7]
    assert (await dead(engine, "probe"))[0].error.startswith(
        "TooLarge" if big else "Unpublishable: the follow-up Noted"
    )
    assert (await engine.streams.event(receipt.id)).follow_ups == ()
