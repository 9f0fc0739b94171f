"""Synchronous code: a view, a script or a notebook publishes without an event loop."""

from __future__ import annotations

import orjson

from schemas import Event
from streams import Settings, SyncStreams
from tests.conftest import RedisFactory


class OrderPaid(Event, stream="shop-orders", version=1):
    """Somebody has paid."""

    order_id: int


def test_publishing_from_a_view(redis_factory: RedisFactory, app: str) -> None:
    """One `SyncStreams` per process, made at import and shared by all threads; it survives the fork of a web server."""
    streams = SyncStreams(settings=Settings(redis_url=redis_factory().url, app=app))  # type: ignore[arg-type]

    def view(order_id: int) -> str:
        receipt = streams.publish(OrderPaid(order_id=order_id), once=f"order-{order_id}:paid")
        return receipt.id

    assert view(7) == view(7), "a name is published once: the second receipt is the first one's"

    trail = streams.event(view(7))
    assert trail.message is not None
    assert orjson.loads(trail.message.data) == {"order_id": 7}
    streams.close()
