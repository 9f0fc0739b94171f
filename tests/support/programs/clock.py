"""Clock: a processor with a 1-second schedule, for tests that kill it.

With `CLOCK_RACE` nobody waits for who fired the last slot: that saves calls, and must not be what keeps slots single.
"""

from __future__ import annotations

import os
import sys

from streams import Event, Processor, Slot, run
from streams.scheduling import scheduler


class Struck(Event, stream="clock", version=1):
    """A second has begun; `slot` is in ms since 1970."""

    slot: int


clock = Processor("clock")


@clock.every(1)
def strike(slot: Slot) -> Struck:
    """Says which second."""
    return Struck(slot=round(slot.at.timestamp() * 1000))


if __name__ == "__main__":
    sys.modules["tests.support.programs.clock"] = sys.modules["__main__"]
    if os.environ.get("CLOCK_RACE"):
        scheduler.HEAD_START = (0.0, 0.0)  # type: ignore[misc]
    run(clock)
