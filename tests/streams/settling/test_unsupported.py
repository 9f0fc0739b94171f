"""Messages of versions that no code knows yet: anybody can add many of them, and they cost little."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog

from streams import Processor, Streams
from tests.streams.conftest import StartConsumer
from tests.support.events import Noted
from tests.support.waiting import wait_until

pytestmark = pytest.mark.newest_redis


def noting() -> Processor:
    """A processor that knows version 1."""
    processor = Processor("noting")

    @processor.on(Noted)
    async def note(event: Noted) -> None:
        """Is not called with what is newer."""

    return processor


async def _waiting(streams: Streams, count: int) -> list[tuple[bytes, float]] | None:
    found = await streams.redis.zrange(streams.keys.due(), 0, -1, withscores=True)
    return list(found) if len(found) == count else None


@pytest.mark.parametrize(
    ("minutes", "expected"), [(None, 60), (0.5, 60), (5, 300), (20, 1200), (59, 3540), (300, 3600)], ids=str
)
async def test_the_longer_it_waits_the_rarer_it_is_looked_at(
    streams: Streams, start: StartConsumer, minutes: float | None, expected: float
) -> None:
    fields: dict[Any, Any] = {"id": "x", "type": "Noted", "dataversion": "999", "data": '{"n": 1}'}
    if minutes is not None:
        fields["origin"] = f"{streams.keys.stream('notes')} 1-0"
        fields["failures"] = "0"
        fields["firstfailed"] = (datetime.now(UTC) - timedelta(minutes=minutes)).isoformat()
    await streams.redis.xadd(streams.keys.inbox("noting"), fields)
    await start(noting())
    ((_, due),) = await wait_until(lambda: _waiting(streams, 1))
    seconds, _ = await streams.redis.time()
    assert abs(due / 1000 - seconds - expected) < 15


async def test_many_are_logged_once_and_do_not_fill_the_history(streams: Streams, start: StartConsumer) -> None:
    """The first of a version is a warning; a hundred have a line in the history, of 20 versions of a type."""
    stream = streams.keys.stream("notes")
    pipe = streams.redis.pipeline(transaction=False)
    for number in range(300):
        pipe.xadd(stream, {"type": "Noted", "dataversion": "999", "data": f'{{"n": {number}}}'})
    for number in range(60):
        pipe.xadd(stream, {"type": "Noted", "dataversion": str(1_000 + number), "data": '{"n": 1}'})
    await pipe.execute()
    with structlog.testing.capture_logs() as logs:
        await start(noting(), unsupported_every=3600)
        await wait_until(lambda: _waiting(streams, 360))
    warned = [line["version"] for line in logs if line["event"] == "delivery.newer_than_code"]
    assert warned.count(999) == 1
    assert len(warned) == len(set(warned)) == 20
    assert sum(line["event"] == "delivery.snoozed" for line in logs) <= 100 + 19
    assert await streams.redis.xlen(streams.keys.history("noting")) <= 100 + 19
