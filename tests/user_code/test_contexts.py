"""Handlers that change what belongs to their context: variables, what is bound to their logs, decimal arithmetic."""

from __future__ import annotations

import asyncio
import contextlib
import decimal
from collections.abc import AsyncGenerator, Callable
from contextvars import ContextVar, copy_context
from decimal import Decimal
from typing import Any

import pytest
import structlog

from streams import (
    Backoff,
    Batch,
    CurrentDelivery,
    CurrentStreams,
    Delivery,
    Depends,
    Event,
    Middleware,
    Processor,
    Shared,
    Streams,
)
from streams.messages.middleware import Deliver
from streams.messages.outcome import Outcome
from streams.testing import Harness
from tests.streams.conftest import StartConsumer
from tests.support.waiting import wait_until


class Charged(Event, stream="charges", version=1):
    """A customer has been charged."""

    n: int


tenant: ContextVar[str] = ContextVar("tenant", default="nobody")
of_a_middleware: ContextVar[str] = ContextVar("of_a_middleware", default="nothing")
Seen = tuple[str, dict[str, Any], int, bool]


def look() -> Seen:
    """What a delivery finds in its context."""
    context = decimal.getcontext()
    return (
        tenant.get(),
        dict(structlog.contextvars.get_contextvars()),
        context.prec,
        bool(context.flags[decimal.Inexact]),
    )


def spoil() -> None:
    """What a handler for one tenant does."""
    tenant.set("acme")
    structlog.contextvars.bind_contextvars(user_id=7, email="ada@example.com")
    decimal.getcontext().prec = 3
    assert str(Decimal(1) / Decimal(7)) == "0.143"


CLEAN: Seen = ("nobody", {}, 28, False)


@pytest.mark.parametrize("kind", ["async", "awaiting", "def", "batch", "def batch", "dependency", "failing"])
@pytest.mark.parametrize("concurrency", [1, 4])
async def test_no_delivery_sees_the_context_of_another(
    streams: Streams, start: StartConsumer, kind: str, concurrency: int
) -> None:
    """Every event is handled by what changes all it can; each finds the context that the process began with."""
    seen: list[Seen] = []
    before = look()  # decimal flags are those of the whole process: tests before this one may have raised them
    await start(spoiling(kind, concurrency, seen))
    await streams.publish_many(Charged(n=n) for n in range(20))
    await wait_until(lambda: len(seen) >= 20)
    assert seen == [CLEAN] * len(seen)
    assert look() == before


@pytest.mark.parametrize("kind", ["async", "awaiting", "def", "batch", "def batch", "dependency", "failing"])
async def test_the_harness_is_no_different(kind: str) -> None:
    """The same in a unit test."""
    seen: list[Seen] = []
    async with Harness(spoiling(kind, 2, seen)) as streams:
        for n in range(10):
            await streams.publish(Charged(n=n))
        await streams.run()
        await streams.advance(minutes=1)
    assert len(seen) >= 10
    assert seen == [CLEAN] * len(seen)


def spoiling(kind: str, concurrency: int, seen: list[Seen]) -> Processor:
    """A processor whose handlers note what they find, and spoil it."""
    probe = Processor("probe", concurrency=concurrency, retry=Backoff(attempts=1))

    def work() -> None:
        seen.append(look())
        spoil()

    @contextlib.asynccontextmanager
    async def session() -> AsyncGenerator[str]:
        work()
        yield tenant.get()
        tenant.set("gone")

    handlers: dict[str, Callable[..., Any]] = {}

    async def plain(event: Charged) -> None:
        work()

    async def awaiting(event: Charged) -> None:
        await asyncio.sleep(0.001 * (event.n % 3))
        work()
        await asyncio.sleep(0.001)
        assert tenant.get() == "acme"

    def sync(event: Charged) -> None:
        work()
        assert tenant.get() == "acme"

    async def batch(events: list[Charged]) -> None:
        seen.extend(look() for _ in events)
        spoil()

    def sync_batch(events: list[Charged]) -> None:
        seen.extend(look() for _ in events)
        spoil()

    async def dependency(event: Charged, value: str = Depends(session)) -> None:
        assert value == tenant.get() == "acme"

    async def failing(event: Charged) -> None:
        work()
        raise ValueError

    handlers |= {
        "async": plain, "awaiting": awaiting, "def": sync, "batch": batch, "def batch": sync_batch,
        "dependency": dependency, "failing": failing,
    }  # fmt: skip
    options = {"batch": Batch(size=4, within=0.02)} if "batch" in kind else {}
    probe.on(Charged, **options)(handlers[kind])  # type: ignore[arg-type]
    return probe


async def test_what_the_application_set_before_is_there(streams: Streams, start: StartConsumer) -> None:
    """Before the consumer was started: variables, what is bound to logs, a decimal context of its own."""
    tenant.set("default")
    structlog.contextvars.bind_contextvars(service="billing")
    with decimal.localcontext(prec=50):
        seen: list[Seen] = []
        await start(spoiling("async", 2, seen))
    structlog.contextvars.clear_contextvars()
    await streams.publish_many(Charged(n=n) for n in range(10))
    await wait_until(lambda: len(seen) == 10)
    assert seen == [("default", {"service": "billing"}, 50, False)] * 10


async def test_a_middleware_and_its_handler_share_a_context(streams: Streams, start: StartConsumer) -> None:
    """What a middleware sets, its handler and what that awaits see; what the handler sets, the middleware sees."""
    seen: list[tuple[str, str]] = []

    class Tenants(Middleware):
        async def deliver(self, delivery: Delivery, call_next: Deliver) -> Outcome:
            token = of_a_middleware.set(delivery.message.id)
            outcome = await call_next(delivery)
            seen.append((of_a_middleware.get(), tenant.get()))
            of_a_middleware.reset(token)
            return outcome

    probe = Processor("probe", concurrency=2)

    @probe.on(Charged)
    async def charge(event: Charged, delivery: Delivery = CurrentDelivery()) -> None:
        assert of_a_middleware.get() == delivery.message.id
        tenant.set(f"tenant of {delivery.message.id}")
        await asyncio.sleep(0.001)
        assert await asyncio.create_task(in_a_child()) == delivery.message.id

    async def in_a_child() -> str:
        return of_a_middleware.get()

    await start(probe, middleware=(Tenants(),))
    ids = [receipt.id for receipt in await streams.publish_many(Charged(n=n) for n in range(10))]
    await wait_until(lambda: len(seen) == 10)
    assert sorted(seen) == sorted((id, f"tenant of {id}") for id in ids)


async def test_what_is_shared_and_current_is_still_there(streams: Streams, start: StartConsumer) -> None:
    """`Shared`, `CurrentStreams` and `CurrentDelivery` go by context variables too."""
    opened: list[int] = []
    seen: list[tuple[int, str]] = []

    def pool() -> list[int]:
        opened.append(1)
        return opened

    probe = Processor("probe", concurrency=3)

    @probe.on(Charged)
    async def charge(
        event: Charged,
        shared: list[int] = Shared(pool),
        client: Streams = CurrentStreams(),
        delivery: Delivery = CurrentDelivery(),
    ) -> None:
        copy_context().run(tenant.set, "elsewhere")
        seen.append((len(shared), delivery.message.id if client is not streams else ""))

    await start(probe)
    ids = [receipt.id for receipt in await streams.publish_many(Charged(n=n) for n in range(10))]
    await wait_until(lambda: len(seen) == 10)
    assert sorted(seen) == sorted((1, id) for id in ids)


async def test_the_logs_of_the_engine_carry_no_other_delivery(
    streams: Streams, start: StartConsumer, capsys: pytest.CaptureFixture[str]
) -> None:
    """A handler binds a customer to its logs; no later line of the engine has it."""
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.dev.ConsoleRenderer(colors=False)]
    )
    try:
        probe = Processor("probe", concurrency=1, retry=Backoff(attempts=1))

        @probe.on(Charged)
        async def charge(event: Charged) -> None:
            if event.n == 0:
                structlog.contextvars.bind_contextvars(email="ada@example.com")
            else:
                assert not structlog.contextvars.get_contextvars()
                raise ValueError("no money")

        await start(probe)
        await streams.publish_many(Charged(n=n) for n in range(5))
        await wait_until(lambda: streams.dead_letters("probe").count())
        await wait_until(lambda: capsys.readouterr().out.count("dead_lettered") or True)
    finally:
        structlog.reset_defaults()
    lines = capsys.readouterr().out
    assert "ada@example.com" not in lines


async def test_a_schedule_function_has_a_context_of_its_own(streams: Streams, start: StartConsumer) -> None:
    """Each call of it."""
    probe = Processor("probe")
    seen: list[Seen] = []

    @probe.every(0.1)
    async def tick() -> None:
        seen.append(look())
        spoil()

    @probe.every(0.1)
    def tock() -> None:
        seen.append(look())
        spoil()

    await start(probe)
    await wait_until(lambda: len(seen) >= 6)
    assert seen == [CLEAN] * len(seen)


async def test_a_cancel_is_delivered_inside_the_context(streams: Streams, start: StartConsumer) -> None:
    """A handler that is cut off cleans up with the variables it had set."""
    probe = Processor("probe", retry=Backoff(attempts=1), timeout=0.1)
    seen: list[str] = []

    @probe.on(Charged)
    async def charge(event: Charged) -> None:
        token = tenant.set(f"tenant {event.n}")
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.001)
            seen.append(tenant.get())
            tenant.reset(token)

    await start(probe)
    await streams.publish_many(Charged(n=n) for n in range(3))
    await wait_until(lambda: sorted(seen) == ["tenant 0", "tenant 1", "tenant 2"])
