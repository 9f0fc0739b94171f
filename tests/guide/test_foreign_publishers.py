"""Publish without this library: whatever can XADD can publish."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from streams import CurrentDelivery, Delivery, Processor, Receipt, Streams
from streams.redis.entries import milliseconds
from tests.guide.shop import OrderPlaced, becomes, dead
from tests.streams.conftest import StartConsumer
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until


class Desk:
    """A processor that keeps what it is handed."""

    def __init__(self) -> None:
        self.seen: list[tuple[OrderPlaced, Delivery]] = []
        self.processor = Processor("billing")
        self.processor.on(OrderPlaced)(self.take)

    async def take(self, event: OrderPlaced, delivery: Delivery = CurrentDelivery()) -> None:
        """Keeps one."""
        self.seen.append((event, delivery))


def xadd(server: RedisServer, key: str, *fields: str) -> str:
    """Adds an entry with the real `redis-cli` where there is one; returns the entry id."""
    cli = shutil.which("redis-cli")
    if cli is None:
        return str(server.cli("XADD", key, "*", *fields).decode())
    command = [cli, "-s", str(server.socket), "XADD", key, "*", *fields]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()


async def test_type_and_data_are_enough(redis_server: RedisServer, streams: Streams, start: StartConsumer) -> None:
    """What is missing is filled in: the id is the entry id, the time its time, the version 1."""
    desk = Desk()
    await start(desk.processor)
    entry_id = xadd(redis_server, streams.keys.stream("orders"), "type", "OrderPlaced", "data", '{"order_id": 7}')

    await wait_until(lambda: desk.seen)
    event, delivery = desk.seen[0]
    assert event == OrderPlaced(order_id=7)
    assert delivery.message.id == entry_id
    assert delivery.message.version == 1
    assert delivery.message.time.startswith("20")
    await becomes(streams, Receipt(entry_id, "orders"), "billing", "acked")


async def test_an_envelope_is_honoured(redis_server: RedisServer, streams: Streams, start: StartConsumer) -> None:
    """An id, a source, a conversation and a trace context of its own, in any order, with fields nobody knows."""
    desk = Desk()
    await start(desk.processor)
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    xadd(
        redis_server, streams.keys.stream("orders"),
        "data", '{"order_id": 7}', "traceparent", trace, "colour", "blue", "correlationid", "chat-1",
        "source", "/shop/php", "id", "order-7", "type", "OrderPlaced",
    )  # fmt: skip

    await wait_until(lambda: desk.seen)
    message = desk.seen[0][1].message
    assert (message.id, message.source, message.correlation_id) == ("order-7", "/shop/php", "chat-1")
    assert message.traceparent == trace
    assert message.sampled


@pytest.mark.parametrize(
    ("type", "data", "reason"),
    [
        ("OrderPlaced", '{"order_id": ', "invalid"),
        ("OrderPlaced", '{"order_id": "seven"}', "invalid"),
        ("OrderPlaced", "{}", "invalid"),
        ("OrderLost", '{"order_id": 7}', "unknown_type"),
    ],
)
async def test_what_cannot_be_read_is_a_dead_letter(
    type: str, data: str, reason: str, redis_server: RedisServer, streams: Streams, start: StartConsumer
) -> None:
    """Nobody checked it before it was in the stream. It says what is wrong, and the next event is handled."""
    desk = Desk()
    await start(desk.processor)
    key = streams.keys.stream("orders")
    wrong = xadd(redis_server, key, "type", type, "data", data)
    right = xadd(redis_server, key, "type", "OrderPlaced", "data", '{"order_id": 8}')

    (letter,) = await dead(streams, "billing", 1)
    assert (letter.event_id, letter.reason) == (wrong, reason)
    assert milliseconds(letter.id) >= milliseconds(wrong)
    await becomes(streams, Receipt(right, "orders"), "billing", "acked")
