"""`@processor.on_dead_letter`: what follows when an event is given up, whatever it was given up for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from observability.tracing import TracingMiddleware
from streams import (
    Backoff,
    Batch,
    CurrentDelivery,
    DeadLetter,
    DeadLettered,
    Delivery,
    Depends,
    Event,
    Processor,
    Shared,
    Snooze,
    Streams,
    StreamsError,
    Unavailable,
)
from streams.executing import dead_letter_call as module
from streams.testing import Crash, Harness
from tests.streams.conftest import StartConsumer
from tests.support.waiting import wait_until


class Asked(Event, stream="asked", version=1):
    """Somebody wants something."""

    n: int = 1


class Refused(Event, stream="asked", version=1):
    """And hears why not."""

    n: int
    reason: str
    error: str = ""


def answering(handler: Callable[..., Any], **options: Any) -> Processor:
    """A processor whose dead letters are answered."""
    asks = Processor("asks", retry=Backoff(attempts=2, first=0.05), **options)
    asks.on(Asked, timeout=0.3)(handler)

    @asks.on_dead_letter(Asked)
    async def refuse(event: Asked, letter: DeadLettered, delivery: Delivery = CurrentDelivery()) -> Refused:
        assert delivery.message.type == "Asked"
        return Refused(n=event.n, reason=letter.reason, error=letter.error)

    return asks


async def answers(streams: Streams) -> list[Refused]:
    """What was answered."""
    found: Any = await streams.redis.xrange(streams.keys.stream("asked"))
    return [Refused.decode(fields[b"data"], 1) for _, fields in found if fields[b"type"] == b"Refused"]


async def letters(streams: Streams, group: str = "asks") -> int:
    """How many dead letters there are."""
    return int(await streams.redis.xlen(streams.keys.dead(group)))


async def fail(_: Asked) -> None:
    """At each try."""
    raise ValueError("no")


async def reject(_: Asked) -> None:
    """At once."""
    raise DeadLetter("not with us")


async def hang(_: Asked) -> None:
    """Until it is too late."""
    await asyncio.sleep(60)


async def cancel_itself(_: Asked) -> None:
    """And go on being cancelled: what it leaves behind must not hit the function for the dead letter."""
    task = asyncio.current_task()
    assert task is not None
    for after in (0.01, 0.02, 0.05, 0.1):
        asyncio.get_running_loop().call_later(after, task.cancel)
    await asyncio.sleep(5)


async def leave(_: Asked) -> None:
    """With an exception that is none of Exception."""
    raise SystemExit(3)


def plain(_: Asked) -> None:
    """In a thread."""
    raise KeyError("no")


async def unset() -> str:
    """A dependency that cannot be made: the handler itself never begins."""
    raise RuntimeError("it is not set")


async def depends(_: Asked, __: str = Depends(unset)) -> None:
    """Never called."""


@pytest.mark.parametrize(
    ("handler", "reason", "error"),
    [
        (fail, "failed", "ValueError: no"),
        (reject, "rejected", "DeadLetter: not with us"),
        (hang, "failed", "HandlerTimeout: the handler took longer than 0.3 s"),
        (cancel_itself, "failed", "HandlerCancelled: "),
        (leave, "failed", "SystemExit: 3"),
        (plain, "failed", "KeyError: "),
        (depends, "failed", "RuntimeError: it is not set"),
    ],
)
async def test_every_end_is_answered(
    handler: Callable[..., Any], reason: str, error: str, streams: Streams, start: StartConsumer
) -> None:
    """Once, together with the dead letter; and the consumer goes on."""
    await start(answering(handler))
    for n in range(3):
        await streams.publish(Asked(n=n))

    async def answered() -> list[Refused]:
        return found if len(found := await answers(streams)) == 3 else []

    found = await wait_until(answered, 20, "answers")
    assert sorted(each.n for each in found) == [0, 1, 2]
    assert {each.reason for each in found} == {reason}
    assert all(each.error.startswith(error) for each in found), found
    assert await letters(streams) == 3
    assert len(await answers(streams)) == 3


async def test_an_event_whose_processes_are_killed_is_answered() -> None:
    """By a process that never ran its handler."""
    begun = 0

    async def crash(_: Asked) -> None:
        nonlocal begun
        begun += 1
        raise Crash

    async with Harness(answering(crash, deliveries=4)) as streams:
        await streams.publish(Asked(n=7))
        await streams.run()
        (answer,) = streams.published(Refused)
        assert (answer.n, answer.reason, begun) == (7, "crashed", 4)
        (letter,) = streams.dead_letters("asks")
        assert (letter.reason, letter.deliveries) == ("crashed", 4)


async def test_a_function_that_kills_its_process_does_so_three_times() -> None:
    """Then the dead letter is there without it: nothing goes round for ever."""
    begun = 0
    asks = Processor("asks", deliveries=2)

    @asks.on(Asked)
    async def crash(_: Asked) -> None:
        raise Crash

    @asks.on_dead_letter(Asked)
    async def crash_again(event: Asked, letter: DeadLettered) -> None:
        nonlocal begun
        begun += 1
        raise Crash

    async with Harness(asks) as streams:
        await streams.publish(Asked())
        await streams.run()
        assert begun == 3
        (letter,) = streams.dead_letters("asks")
        assert letter.reason == "crashed"


async def test_a_function_that_kills_its_process_after_failures_ends_too() -> None:
    """A handler that has failed at its last try, and then a function that takes the process with it."""
    asks = Processor("asks", deliveries=2, retry=Backoff(attempts=1))
    asks.on(Asked)(fail)

    @asks.on_dead_letter(Asked)
    async def crash(event: Asked, letter: DeadLettered) -> None:
        raise Crash

    async with Harness(asks) as streams:
        await streams.publish(Asked())
        await streams.run()
        assert len(streams.dead_letters("asks")) == 1


async def test_a_function_that_fails_costs_no_dead_letter(
    streams: Streams, start: StartConsumer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it does: it raises, hangs, cancels itself, ends the process, returns what cannot be published."""
    monkeypatch.setattr(module, "TIMEOUT", 0.2)
    asks = Processor("asks", retry=Backoff(attempts=1))
    asks.on(Asked)(fail)

    @asks.on_dead_letter(Asked)
    async def refuse(event: Asked, letter: DeadLettered) -> Any:
        task = asyncio.current_task()
        assert task is not None
        match event.n:
            case 0:
                raise ZeroDivisionError
            case 1:
                await asyncio.sleep(60)
            case 2:
                task.cancel()
                await asyncio.sleep(1)
            case 3:
                raise SystemExit(1)
            case 4:
                return {"success": True}
            case 5:
                raise DeadLetter("twice")
            case 6:
                raise Snooze(60)
            case 7:
                return Refused(n=1, reason="x" * 2_000_000)
            case _:
                return Refused(n=event.n, reason=letter.reason)
        return None

    await start(asks)
    for n in range(9):
        await streams.publish(Asked(n=n))

    async def there() -> bool:
        return await letters(streams) == 9

    await wait_until(there, 20, "dead letters")
    assert [each.n for each in await answers(streams)] == [8]
    assert capsys.readouterr().out.count("delivery.dead_letter_call_failed") == 7


async def test_it_waits_for_what_is_away(streams: Streams, start: StartConsumer) -> None:
    """A database that is away when the event is given up: the row in it must be written too."""
    tries = 0
    asks = Processor("asks", retry=Backoff(attempts=1))
    asks.on(Asked)(reject)

    @asks.on_dead_letter(Asked)
    async def refuse(event: Asked, letter: DeadLettered) -> Refused:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise Unavailable("database")
        return Refused(n=event.n, reason=letter.reason)

    await start(asks)
    await streams.publish(Asked(n=4))

    async def answered() -> list[Refused]:
        return await answers(streams)

    (answer,) = await wait_until(answered, 25, "an answer")
    assert (answer.n, answer.reason, tries) == (4, "rejected", 3)
    assert await letters(streams) == 1


async def test_a_replay_that_fails_is_answered_again() -> None:
    """Each time that it is given up is an end of its own."""
    async with Harness(answering(reject)) as streams:
        await streams.publish(Asked())
        await streams.run()
        (letter,) = streams.dead_letters("asks")
        await streams.dead_letters("asks").replay([letter.id])
        await streams.run()
        assert len(streams.published(Refused)) == 2


async def test_what_cannot_be_read_has_no_function(streams: Streams, start: StartConsumer) -> None:
    """There is no event to give to it."""
    await start(answering(reject))
    await streams.redis.xadd(streams.keys.stream("asked"), {"type": "Asked", "data": '{"n": "many"}'})

    async def there() -> bool:
        return await letters(streams) == 1

    await wait_until(there, 20, "a dead letter")
    assert await answers(streams) == []


async def test_the_answer_is_in_the_trace_of_its_event(streams: Streams, start: StartConsumer) -> None:
    """Also when the handler has ended by its deadline."""
    middleware = (TracingMiddleware(TracerProvider(shutdown_on_exit=False)),)
    await start(answering(hang), middleware=middleware)
    async with Streams(settings=streams.settings, middleware=middleware) as publisher:
        receipt = await publisher.publish(Asked())

    async def both() -> list[Any]:
        found: Any = await streams.redis.xrange(streams.keys.stream("asked"))
        return list(found) if len(found) == 2 else []

    asked, refused = [fields for _, fields in await wait_until(both, 20, "an answer")]
    assert refused[b"causationid"].decode() == receipt.id
    assert refused[b"traceparent"].split(b"-")[1] == asked[b"traceparent"].split(b"-")[1]


async def test_dependencies_are_those_of_handlers(streams: Streams, start: StartConsumer) -> None:
    """What is shared is the same object."""
    opened = 0

    @asynccontextmanager
    async def open_it() -> AsyncIterator[list[int]]:
        nonlocal opened
        opened += 1
        yield []

    asks = Processor("asks", retry=Backoff(attempts=1))

    @asks.on(Asked)
    async def note(event: Asked, seen: list[int] = Shared(open_it)) -> None:
        seen.append(event.n)
        raise ValueError

    @asks.on_dead_letter(Asked)
    async def refuse(event: Asked, letter: DeadLettered, seen: list[int] = Shared(open_it)) -> Refused:
        return Refused(n=sum(seen), reason=letter.reason)

    await start(asks)
    await streams.publish(Asked(n=5))

    async def answered() -> list[Refused]:
        return await answers(streams)

    (answer,) = await wait_until(answered, 20, "an answer")
    assert (answer.n, opened) == (5, 1)


def test_what_cannot_be_meant_is_refused_where_it_is_declared() -> None:
    """In one line that says what to write."""
    asks = Processor("asks")
    with pytest.raises(StreamsError, match="needs a handler"):
        asks.on_dead_letter(Asked)
    asks.on(Asked)(fail)

    async def no_letter(event: Asked) -> None: ...
    async def more(event: Asked, letter: DeadLettered, rest: int) -> None: ...
    async def other(event: Refused, letter: DeadLettered) -> None: ...
    async def wrong(event: Asked, letter: int) -> None: ...
    async def text(event: Asked, letter: DeadLettered) -> str:
        return ""

    async def starred(*both: Any) -> None: ...
    def blocking(event: Asked, letter: DeadLettered) -> None: ...

    wrongs: tuple[tuple[Any, str], ...] = (
        (no_letter, "takes the event and its dead letter first"), (more, "nothing gives it rest"),
        (other, "takes Refused, but is given Asked"), (wrong, "takes int, but is given DeadLettered"),
        (text, "returns str"), (starred, "takes the event and its dead letter first"),
        (blocking, "must be a coroutine function"), (5, "is no function"),
    )  # fmt: skip
    for function, told in wrongs:
        with pytest.raises(StreamsError, match=told) as refused:
            asks.on_dead_letter(Asked)(function)
        assert "\n" not in str(refused.value)

    async def good(event: Asked, letter: DeadLettered) -> None: ...

    assert asks.on_dead_letter(Asked)(good) is good
    with pytest.raises(StreamsError, match="already"):
        asks.on_dead_letter(Asked)
    many = Processor("many")
    many.on(Asked, batch=Batch(size=5))(lambda events: None)
    with pytest.raises(StreamsError, match="exclude each other"):
        many.on_dead_letter(Asked)
