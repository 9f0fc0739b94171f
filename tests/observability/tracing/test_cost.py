"""What tracing costs an event that nobody records: printed (run with -s) and not asserted, because machines differ."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import DEFAULT_OFF

from observability.tracing import TracingMiddleware
from schemas import UserRegistered
from streams.messages.delivery import Delivery
from streams.messages.message import Message
from streams.messages.middleware import deliver_chain, publish_chain, settle_chain
from streams.messages.outcome import ACKED, Outcome
from tests.support.holders import Held

EVENTS = 5_000
EVENT = UserRegistered(user_id=7, email="ada@example.com", name="Ada")


def unsampled() -> list[Message]:
    return [Message.for_event(EVENT, source="/shop", target="{app:0}:stream:users") for _ in range(EVENTS)]


async def nothing(_: Sequence[Any]) -> None: ...


async def ack(_: Delivery) -> Outcome:
    return ACKED


async def measured(what: str, calls: Sequence[Callable[[], Awaitable[object]]]) -> None:
    began = time.perf_counter()
    for call in calls:
        await call()
    print(f"{what}: {(time.perf_counter() - began) / EVENTS * 1e6:.2f} us an event")


@pytest.mark.parametrize("begins_traces", [True, False], ids=["sampler off", "no exporter, no sampler"])
async def test_cost_of_what_nobody_records(begins_traces: bool) -> None:
    middleware = TracingMiddleware(
        TracerProvider(sampler=DEFAULT_OFF, shutdown_on_exit=False), begins_traces=begins_traces
    )
    publish, messages, batched = publish_chain([middleware], nothing), unsampled(), unsampled()
    print()
    await measured("publish one by one", [lambda message=message: publish([message]) for message in messages])  # type: ignore[misc]
    batches = [batched[at : at + 500] for at in range(0, EVENTS, 500)]
    await measured("publish by 500", [lambda batch=batch: publish(batch) for batch in batches])  # type: ignore[misc]
    assert all(message.traceparent and not message.sampled for message in messages + batched)

    deliveries = [
        Delivery(message, Held("email"), source="s", entry_id=b"1-%d" % number, count=1)
        for number, message in enumerate(messages)
    ]
    began = time.perf_counter()
    wanted = [middleware.wants(delivery) for delivery in deliveries]
    print(f"wants: {(time.perf_counter() - began) / EVENTS * 1e6:.2f} us an event")
    assert not any(wanted)
    deliver, settle = deliver_chain([middleware], ack), settle_chain([middleware], nothing)
    await measured("deliver", [lambda delivery=delivery: deliver(delivery) for delivery in deliveries])  # type: ignore[misc]
    pairs = [[(delivery, ACKED) for delivery in deliveries[at : at + 500]] for at in range(0, EVENTS, 500)]
    await measured("settle by 500", [lambda batch=batch: settle(batch) for batch in pairs])  # type: ignore[misc]
