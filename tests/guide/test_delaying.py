"""Publish now, deliver later."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from streams import Processor, Streams, StreamsError
from streams.redis.entries import milliseconds
from tests.guide.shop import OrderPlaced, becomes
from tests.streams.conftest import MakeSettings, StartConsumer


async def test_a_delayed_event_is_never_early(streams: Streams, start: StartConsumer) -> None:
    """It reaches its stream when it is due by Redis' clock, and not before; then it is an event like any other."""
    reminders = Processor("reminders")
    reminders.on(OrderPlaced)(_remind)
    await start(reminders)
    seconds, microseconds = await streams.redis.time()

    receipt = await streams.publish(OrderPlaced(order_id=1), delay=timedelta(seconds=1))
    await becomes(streams, receipt, "reminders", "acked")

    trail = await streams.event(receipt.id)
    assert milliseconds(trail.entry_id) >= seconds * 1000 + microseconds // 1000 + 1000


async def test_a_time_may_be_given_instead(streams: Streams) -> None:
    """`at` takes a time with its zone; until then the event waits, and says for how long."""
    receipt = await streams.publish(OrderPlaced(order_id=1), at=datetime.now(UTC) + timedelta(hours=1))

    trail = await streams.event(receipt.id)
    assert trail.due_in is not None
    assert 3590 < trail.due_in <= 3600


async def test_what_waits_outlives_its_publisher(
    streams: Streams, start: StartConsumer, make_settings: MakeSettings
) -> None:
    """No process holds a delayed event: it waits in Redis, and the next consumer that runs brings it back."""
    async with Streams(settings=make_settings()) as publisher:
        receipt = await publisher.publish(OrderPlaced(order_id=1), delay=0.05)

    reminders = Processor("reminders")
    reminders.on(OrderPlaced)(_remind)
    await start(reminders)

    await becomes(streams, receipt, "reminders", "acked")


async def test_a_time_that_cannot_be_meant_is_refused(streams: Streams) -> None:
    """A time in the past, without a zone, or both kinds at once."""
    for wrong, message in (
        ({"at": datetime.now(UTC) - timedelta(minutes=1)}, "in the past"),
        ({"at": datetime(2030, 1, 1)}, "no time zone"),  # noqa: DTZ001 - that is the mistake
        ({"delay": 1, "at": datetime.now(UTC)}, "not both"),
        ({"delay": -1}, "between 0 and ten years"),
    ):
        with pytest.raises(StreamsError, match=message):
            await streams.publish(OrderPlaced(order_id=1), **wrong)  # type: ignore[arg-type]


async def _remind(event: OrderPlaced) -> None:
    """Reminds nobody of anything."""
