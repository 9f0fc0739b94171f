"""Situations of two parties: one group that has begun and one that has not, a consumer beside a handler that hangs,
two processes that were one.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping

import pytest

from streams import CurrentDelivery, Delivery, Processor, PublishUncertain, Streams
from tests.conftest import RedisFactory
from tests.streams.admin.test_cancel_and_pause import probe_that_waits, state
from tests.streams.conftest import MakeSettings, StartConsumer
from tests.streams.consuming.test_consumer import settled
from tests.support.events import Noted
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until


async def test_cancelled_where_one_group_runs_it_and_another_has_not_read_it(
    streams: Streams, start: StartConsumer
) -> None:
    """The entry stays for the one that runs it, so the other one is told too: neither handles it to its end."""
    running, seen = list[str](), list[int]()
    other = Processor("other")

    @other.on(Noted)
    async def note(event: Noted) -> None:
        seen.append(event.n)

    reader = await start(other)
    await streams.pause("other")
    await wait_until(lambda: reader._pool.paused)
    await reader.stop()
    await start(probe_that_waits(asyncio.Event(), running))
    receipt = await streams.publish(Noted(n=1))
    await wait_until(lambda: running == ["start 1"])

    assert (await streams.cancel(receipt.id)).groups == {"probe": "running", "other": "running"}
    await wait_until(lambda: running == ["start 1", "cancelled 1"])
    await streams.publish(Noted(n=2))
    await streams.resume("other")
    await start(other)
    await wait_until(lambda: 2 in seen)
    await wait_until(lambda: settled(streams, "other"))
    assert seen == [2]
    assert [await state(streams, receipt.id, group) for group in ("probe", "other")] == ["cancelled", "cancelled"]


async def test_a_handler_that_swallows_its_timeout_does_not_keep_its_event(
    streams: Streams, start: StartConsumer
) -> None:
    """Its lease is not renewed beyond its deadline: the event is handled again while the first handler hangs."""
    probe, done, let_go = Processor("probe", concurrency=2), list[int](), asyncio.Event()

    @probe.on(Noted, timeout=0.2)
    async def handle(event: Noted, delivery: Delivery = CurrentDelivery()) -> None:
        if delivery.deliveries == 1:
            while not let_go.is_set():
                try:
                    await let_go.wait()
                except asyncio.CancelledError:
                    continue
        done.append(delivery.deliveries)

    first = await start(probe, lease=0.5)
    await streams.publish(Noted(n=1))
    await wait_until(lambda: any(part.leases.held for part in first._parts))
    await start(probe, lease=0.5)
    try:
        await wait_until(lambda: done, timeout=15)
        assert done[0] >= 2
        assert not let_go.is_set()
    finally:
        let_go.set()
    await wait_until(lambda: settled(streams))


_FORKED = """
import os
from streams import SyncStreams
from tests.support.events import Noted

streams = SyncStreams()

def publish(*numbers: int) -> None:
    for n in numbers:
        streams.publish(Noted(n=n))

publish(0)
if os.fork() == 0:
    publish(1, 2)
    os._exit(0)
assert os.wait()[1] == 0
publish(3, 4)
streams.close()
"""


@pytest.mark.newest_redis
async def test_forked_processes_publish_each_for_themselves(streams: Streams, streams_env: Mapping[str, str]) -> None:
    """A client that published before the fork: with one publisher's number in both, what the parent publishes after its
    child would be taken for repetitions.
    """
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _FORKED, env=dict(streams_env))
    assert await asyncio.wait_for(process.wait(), 20) == 0
    found = [message async for message in _published(streams)]
    assert sorted(found) == [0, 1, 2, 3, 4]


async def _published(streams: Streams) -> AsyncIterator[int]:
    for partition in streams.partitions:
        for _, fields in await partition.redis.xrange(partition.keys.stream("notes")):
            yield Noted.decode(fields[b"data"], 1).n


@pytest.mark.single("a proxy stands before one server")
async def test_sent_and_cut_and_then_away_is_uncertain(
    redis_factory: RedisFactory, make_settings: MakeSettings
) -> None:
    """That the last attempt did not get through says nothing of the first one, which did."""
    server = redis_factory()
    async with Proxy("127.0.0.1", server.port) as proxy:
        async with Streams(settings=make_settings(redis_url=proxy.url, publish_timeout=1.0)) as streams:
            await streams.publish(Noted(n=0))
            proxy.mode = "cut_reply"
            publishing = asyncio.ensure_future(streams.publish(Noted(n=1)))
            await wait_until(lambda: proxy.cuts > 0)
            proxy.mode = "refuse"
            with pytest.raises(PublishUncertain, match="not known whether"):
                await publishing
            proxy.mode = "pass"
            assert [n async for n in _published(streams)] == [0, 1]
