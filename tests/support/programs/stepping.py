"""Stepping: an ordered processor for whole-process tests."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from streams import Backoff, CurrentDelivery, Delivery, Event, Processor, run
from tests.faults.soak.journal import Journal


class Stepped(Event, stream="steps", version=1):
    """Step `n` of one key."""

    of: int
    n: int


journal = Journal(Path(os.environ.get("STEP_LOG", os.devnull)))
stepping = Processor("stepping", ordered=True, concurrency=16, retry=Backoff(attempts=4, first=0.02))


@stepping.on(Stepped)
async def step(event: Stepped, delivery: Delivery = CurrentDelivery()) -> None:
    """Writes it down; one in ten first tries fails."""
    about = {"of": event.of, "n": event.n, "pid": os.getpid(), "attempt": delivery.attempt}
    journal.write("start", **about)
    await asyncio.sleep(0.003)
    if delivery.attempt == 1 and (event.of * 7 + event.n * 13) % 10 == 0:
        raise ValueError("not yet")
    journal.write("end", **about)


if __name__ == "__main__":
    sys.modules["tests.support.programs.stepping"] = sys.modules["__main__"]
    run(stepping)
