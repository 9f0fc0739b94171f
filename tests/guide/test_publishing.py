"""Publish an event; what is refused, and where."""

from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import ValidationError

from streams import Event, SchemaError, Secret, Streams, TooLarge
from tests.guide.shop import OrderPlaced


async def test_a_receipt_says_where_the_event_is(streams: Streams) -> None:
    """`publish` returns when the event is in Redis; the receipt has its id and its stream."""
    receipt = await streams.publish(OrderPlaced(order_id=1))

    trail = await streams.event(receipt.id)
    assert (receipt.stream, trail.stream) == ("orders", "orders")
    assert trail.message is not None
    assert OrderPlaced.decode(trail.message.data, version=1) == OrderPlaced(order_id=1)


async def test_many_events_are_published_in_order(streams: Streams) -> None:
    """`publish_many` takes any number and keeps their order."""
    receipts = await streams.publish_many(OrderPlaced(order_id=n) for n in range(1_200))

    entries = await streams.redis.xrange(streams.keys.stream("orders"))
    assert [fields[b"id"].decode() for _, fields in entries] == [receipt.id for receipt in receipts]


async def test_a_name_is_published_under_once(streams: Streams) -> None:
    """`once` is a name of the business. A second event under it is not published; its receipt is the first one's."""
    first = await streams.publish(OrderPlaced(order_id=7), once="order-7")
    again = await streams.publish(OrderPlaced(order_id=7), once="order-7")
    other = await streams.publish(OrderPlaced(order_id=8), once="order-8")

    assert again == first
    entries = await streams.redis.xrange(streams.keys.stream("orders"))
    assert [fields[b"id"].decode() for _, fields in entries] == [first.id, other.id]


async def test_a_priority_is_a_lane(streams: Streams) -> None:
    """Each stream has three lanes, and each lane is a stream in Redis."""
    await streams.publish(OrderPlaced(order_id=1), priority="high")
    await streams.publish(OrderPlaced(order_id=2), priority="low")

    assert await streams.redis.xlen(streams.keys.stream("orders", "high")) == 1
    assert await streams.redis.xlen(streams.keys.stream("orders", "low")) == 1
    assert await streams.redis.xlen(streams.keys.stream("orders")) == 0


def test_a_wrong_event_fails_at_its_publisher() -> None:
    """An event is validated where it is made, so no consumer ever sees this one."""
    with pytest.raises(ValidationError, match="order_id"):
        OrderPlaced(order_id="seven")  # type: ignore[arg-type]


def test_an_event_cannot_be_changed() -> None:
    """It is a fact: frozen."""
    event = OrderPlaced(order_id=1)
    with pytest.raises(ValidationError, match="frozen"):
        event.order_id = 2  # type: ignore[misc]


async def test_a_large_event_is_refused(streams: Streams) -> None:
    """256 KiB is the cap; store what is larger elsewhere, and publish a reference."""
    with pytest.raises(TooLarge, match="publish a reference"):
        await streams.publish(OrderPlaced(order_id=1, note="x" * 300_000))


def test_a_secret_cannot_be_published() -> None:
    """A class with a secret field cannot even be defined: a stream is a log that nobody can unread."""
    with pytest.raises(SchemaError, match="carry a reference"):

        class PasswordChosen(Event, stream="customers", version=1):
            password: Annotated[str, Secret]
