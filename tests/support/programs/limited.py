"""Limited: a processor with limits for whole-process tests."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from streams import Backoff, CurrentDelivery, CurrentStreams, Delivery, Event, Limit, Processor, Streams, run
from tests.faults.soak.journal import Journal

RATE = 50
AT_ONCE = 4


class Called(Event, stream="calls", version=1):
    """A supplier was called, who allows so many calls a second."""

    n: int


class Held(Event, stream="calls", version=1):
    """Something was done that only so many may do at once, for one tenant."""

    n: int
    tenant: str


journal = Journal(Path(os.environ.get("STEP_LOG", os.devnull)))
limited = Processor("limited", concurrency=16, retry=Backoff(attempts=6, first=0.02))


@limited.on(Called, limit=Limit(rate=RATE))
async def call(event: Called, client: Streams = CurrentStreams()) -> None:
    """Writes down when, by Redis' clock."""
    seconds, microseconds = await client.redis.time()
    journal.write("called", n=event.n, redis=seconds + microseconds / 1e6)


@limited.on(Held, limit=Limit(concurrency=AT_ONCE, by=lambda event: event.tenant))
async def hold(event: Held, delivery: Delivery = CurrentDelivery()) -> None:
    """Writes down when it began and ended; one in five first tries fails."""
    about = {"n": event.n, "tenant": event.tenant, "pid": os.getpid()}
    journal.write("start", **about)
    try:
        await asyncio.sleep(0.01)
        if delivery.attempt == 1 and event.n % 5 == 0:
            raise ValueError("not yet")
    finally:
        journal.write("end", **about)
    journal.write("done", **about)


if __name__ == "__main__":
    sys.modules["tests.support.programs.limited"] = sys.modules["__main__"]
    run(limited)
