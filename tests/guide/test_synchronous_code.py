"""Synchronous code: a view, a script or a notebook publishes without an event loop."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import orjson
import pytest

from streams import Event, NotFound, Settings, StreamsError, SyncStreams
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


def test_threads_and_the_operators_verbs(redis_factory: RedisFactory, app: str) -> None:
    """Any number of threads share it; what an operator does has the same names as in asynchronous code."""
    with SyncStreams(settings=Settings(redis_url=redis_factory().url, app=app)) as streams:  # type: ignore[arg-type]
        with ThreadPoolExecutor(4) as pool:
            receipts = list(pool.map(lambda n: streams.publish(OrderPaid(order_id=n)), range(20)))
        assert len({receipt.id for receipt in receipts}) == 20

        (stream,) = [stream for stream in streams.snapshot().streams if stream.name == "shop-orders"]
        assert stream.length == 20
        assert streams.schedules.ls() == []
        with pytest.raises(NotFound, match="no group billing"):
            list(streams.dead_letters("billing").ls())


async def test_not_where_a_loop_runs() -> None:
    """It would stop everything else there."""
    with pytest.raises(StreamsError, match="use Streams, and await it"):
        SyncStreams().publish(OrderPaid(order_id=1))
