"""A consumer that stops while a schedule's function runs."""

from __future__ import annotations

import asyncio

import pytest

from streams import Consumer, Processor, Slot, Streams
from tests.streams.conftest import MakeSettings
from tests.streams.scheduling.test_scheduler import published, registered
from tests.support.events import Noted
from tests.support.waiting import wait_until

pytestmark = pytest.mark.newest_redis


async def test_a_consumer_that_stops_waits_for_what_its_schedules_still_do(
    streams: Streams, make_settings: MakeSettings
) -> None:
    """A function that is cancelled has put its things away when the consumer is gone, and nothing is published."""
    processor, said = Processor("slow"), list[str]()

    @processor.every(3600, name="work")
    async def work(slot: Slot) -> Noted:
        said.append("begun")
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.3)
            said.append("put away")
        return Noted(n=1)

    consumer = Consumer(processor, Streams(settings=make_settings()))
    await consumer.start()
    await registered(streams, "slow.work")
    running = asyncio.create_task(streams.schedules.run("slow.work", timeout=5.0))
    await wait_until(lambda: said)
    await consumer.stop()
    assert said == ["begun", "put away"]
    running.cancel()
    assert await published(streams) == []
