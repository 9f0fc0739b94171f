"""The stock window against a real Redis: one claim per business, SKU and window, kept across a retry of its event."""

from __future__ import annotations

import asyncio

from processors.email.alert_throttle import AlertThrottle
from streams.client.client import Streams
from tests.support.waiting import wait_until


def window(
    streams: Streams, event_id: str, *, sku: str = "OAK-1", business_id: int = 1, seconds: int = 60
) -> AlertThrottle:
    return AlertThrottle(
        streams.redis, streams.keys, business_id=business_id, sku=sku, event_id=event_id, seconds=seconds
    )


async def test_the_first_event_claims_and_may_come_back(streams: Streams) -> None:
    assert await window(streams, "a").claim()
    assert not await window(streams, "b").claim()
    assert await window(streams, "a").claim(), "a redelivery or a replay of the same event"


async def test_other_items_and_other_businesses_have_their_own(streams: Streams) -> None:
    assert await window(streams, "a").claim()
    assert await window(streams, "b", sku="OAK-2").claim()
    assert await window(streams, "c", business_id=2).claim()
    assert await window(streams, "d", business_id=11, sku="2:x").claim()
    assert await window(streams, "e", business_id=1, sku="1\x002:x").claim()


async def test_of_many_events_at_once_one_claims(streams: Streams) -> None:
    answers = await asyncio.gather(*(window(streams, f"event-{number}").claim() for number in range(50)))
    assert answers.count(True) == 1


async def test_a_released_window_is_free_and_only_its_holder_releases(streams: Streams) -> None:
    assert await window(streams, "a").claim()
    await window(streams, "b").release()
    assert not await window(streams, "b").claim()
    await window(streams, "a").release()
    assert await window(streams, "b").claim()


async def test_the_window_ends_and_holds_no_foreign_text(streams: Streams) -> None:
    hostile = "}\r\n{x}:*\0"
    assert await window(streams, hostile, sku=hostile, seconds=1).claim()
    (key,) = [key async for key in streams.redis.scan_iter(f"{{{streams.keys.app}:*")]
    assert 0 < await streams.redis.pttl(key) <= 1000
    assert key.startswith(streams.keys.own("email", "stock", "").encode())
    assert b"\r" not in key + await streams.redis.get(key)
    await wait_until(lambda: window(streams, "b", sku=hostile).claim(), message="the window has ended")
