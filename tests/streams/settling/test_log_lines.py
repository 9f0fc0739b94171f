"""What is logged of deliveries: a line for each that was no plain success, and none for what another has by now."""

from __future__ import annotations

import asyncio

from structlog.testing import capture_logs

from streams import Backoff, Processor, Snooze, Streams
from tests.streams.conftest import StartConsumer
from tests.streams.consuming.test_consumer import settled
from tests.support.events import Noted
from tests.support.waiting import wait_until


async def test_each_that_was_no_plain_success_is_one_line(streams: Streams, start: StartConsumer) -> None:
    probe = Processor("probe", retry=Backoff(attempts=2, first=0.01))

    @probe.on(Noted)
    async def note(event: Noted) -> None:
        if event.n == 1:
            raise RuntimeError("no")
        if event.n == 2:
            raise Snooze(60, "not before noon")

    await start(probe)
    with capture_logs() as logs:
        receipts = await streams.publish_many([Noted(n=n) for n in (0, 0, 1, 2, 0)])
        await wait_until(lambda: streams.redis.xlen(streams.keys.dead("probe")))
        await wait_until(lambda: streams.redis.zcard(streams.keys.due()))
        await wait_until(lambda: len([line for line in logs if line["event"].startswith("delivery.")]) >= 3)
    lines = [(line["event"], line["id"]) for line in logs if line["event"].startswith("delivery.")]
    assert sorted(lines) == [
        ("delivery.dead_lettered", receipts[2].id), ("delivery.retried", receipts[2].id),
        ("delivery.snoozed", receipts[3].id),
    ]  # fmt: skip
    await streams.cancel(receipts[3].id)


async def test_what_another_has_by_now_is_not_said(streams: Streams, start: StartConsumer) -> None:
    """Its outcome here means nothing: the line would be wrong."""
    probe, gate, begun = Processor("probe"), asyncio.Event(), list[int]()

    @probe.on(Noted)
    async def note(event: Noted) -> None:
        begun.append(event.n)
        await gate.wait()
        raise RuntimeError("no")

    consumer = await start(probe, lease=60.0)
    await streams.publish(Noted(n=1))
    await wait_until(lambda: begun)
    key = streams.keys.stream("notes")
    ((entry_id, _),) = await streams.redis.xrange(key)
    await streams.redis.xclaim(key, "probe", "thief", 0, [entry_id])
    with capture_logs() as logs:
        gate.set()
        await consumer.stop()
    said = [line["event"] for line in logs if line["event"].startswith("delivery.")]
    assert said == ["delivery.fenced"]
    await streams.redis.xack(key, "probe", entry_id)
    await wait_until(lambda: settled(streams))
