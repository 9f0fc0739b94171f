"""Failures that are tried again, and those that are not."""

from __future__ import annotations

import random

from streams import Backoff, CurrentDelivery, Delivery, Processor, Retry, Streams
from tests.guide.shop import OrderPlaced, becomes, dead
from tests.streams.conftest import StartConsumer


async def test_a_failure_is_tried_again(streams: Streams, start: StartConsumer) -> None:
    """Whatever a handler raises: three attempts by default, the third one succeeds here."""
    billing = Processor("billing", retry=Backoff(attempts=3, first=0.05))
    attempts: list[int] = []

    @billing.on(OrderPlaced)
    async def write_invoice(event: OrderPlaced, delivery: Delivery = CurrentDelivery()) -> None:
        attempts.append(delivery.attempt)
        if delivery.attempt < 3:
            raise ConnectionResetError("the printer is gone")

    await start(billing)
    receipt = await streams.publish(OrderPlaced(order_id=1))

    trail = await becomes(streams, receipt, "billing", "acked")
    assert attempts == [1, 2, 3]
    assert [line["outcome"] for line in trail.history] == ["retried", "retried", "acked"]


def test_the_delays_double_and_are_spread() -> None:
    """About 2 s, then 4 s, up to a cap. The spread keeps failures that began together from coming back together."""
    policy, error = Backoff(attempts=20, first=2.0, most=600.0), OSError()
    chance = random.Random(7).random

    assert [policy.next_delay(n, error, lambda: 0.5) for n in (1, 2, 3, 15)] == [2.0, 4.0, 8.0, 600.0]
    assert policy.next_delay(20, error) is None

    delays = [policy.next_delay(1, error, chance) or 0.0 for _ in range(1_000)]
    assert 1.0 <= min(delays) < 1.1
    assert 2.9 < max(delays) <= 3.0


async def test_a_handler_says_when_to_come_back(streams: Streams, start: StartConsumer) -> None:
    """`Retry(after=...)` overrides the policy's delay; it counts as an attempt."""
    billing = Processor("billing", retry=Backoff(attempts=2, first=3600))
    attempts: list[int] = []

    @billing.on(OrderPlaced)
    async def write_invoice(event: OrderPlaced, delivery: Delivery = CurrentDelivery()) -> None:
        attempts.append(delivery.attempt)
        if delivery.attempt == 1:
            raise Retry("too many requests", after=0.05)

    await start(billing)
    receipt = await streams.publish(OrderPlaced(order_id=1))

    await becomes(streams, receipt, "billing", "acked")
    assert attempts == [1, 2]


async def test_some_errors_are_hopeless(streams: Streams, start: StartConsumer) -> None:
    """What `give_up_on` names is not tried again: one attempt, then a dead letter."""
    billing = Processor("billing", retry=Backoff(attempts=5, first=0.05, give_up_on=(PermissionError, TypeError)))

    @billing.on(OrderPlaced)
    async def write_invoice(event: OrderPlaced) -> None:
        if event.order_id == 1:
            raise PermissionError("not our customer")
        sum(event.note)  # type: ignore[arg-type]

    await start(billing)
    await streams.publish_many([OrderPlaced(order_id=1), OrderPlaced(order_id=2, note="2")])

    letters = await dead(streams, "billing", 2)
    assert {letter.attempts for letter in letters} == {1}
    assert {letter.error.partition(":")[0] for letter in letters} == {"PermissionError", "TypeError"}


async def test_a_retry_is_nobody_elses_business(streams: Streams, start: StartConsumer) -> None:
    """The group that failed gets the event again; the other one has handled it, and is left alone."""
    billing, shipping = Processor("billing", retry=Backoff(attempts=3, first=0.05)), Processor("shipping")
    shipped: list[int] = []

    @billing.on(OrderPlaced)
    async def write_invoice(event: OrderPlaced) -> None:
        raise OSError("no paper")

    @shipping.on(OrderPlaced)
    async def ship(event: OrderPlaced) -> None:
        shipped.append(event.order_id)

    await start(billing)
    await start(shipping)
    receipt = await streams.publish(OrderPlaced(order_id=1))

    await becomes(streams, receipt, "billing", "dead")
    await becomes(streams, receipt, "shipping", "acked")
    assert shipped == [1]


async def test_the_environment_sets_the_default_policy(streams: Streams, start: StartConsumer) -> None:
    """`QUEUE_DEFAULT_ATTEMPTS` and `QUEUE_DEFAULT_BACKOFF` hold where neither processor nor handler says otherwise."""
    billing = Processor("billing")

    @billing.on(OrderPlaced)
    async def write_invoice(event: OrderPlaced) -> None:
        raise OSError("no paper")

    await start(billing, attempts=2, backoff=10)
    await streams.publish(OrderPlaced(order_id=1))

    (letter,) = await dead(streams, "billing", 1)
    assert letter.attempts == 2
