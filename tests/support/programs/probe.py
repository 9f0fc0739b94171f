"""Probe: a processor for whole-process tests. It writes what it does to a file.

One line of JSON an event, written with one O_APPEND write each, so that lines of killed processes are whole.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import time
from typing import Literal

import orjson

from streams import Backoff, CurrentDelivery, DeadLetter, Delivery, Event, Processor, Snooze, Unavailable, run


class Probed(Event, stream="probes", version=1):
    """Something to do in a certain way."""

    n: int
    act: Literal["ok", "exit", "segv", "kill", "sleep", "block", "block_once", "fail", "raise", "reject", "later"] = (
        "ok"
    )
    seconds: float = 0.0


_LOG = os.open(os.environ.get("PROBE_LOG", os.devnull), os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def note(what: str, event: Probed, delivery: Delivery) -> None:
    """Writes one line."""
    line = {
        "what": what, "n": event.n, "pid": os.getpid(), "at": time.time(),
        "attempt": delivery.attempt, "deliveries": delivery.deliveries,
    }  # fmt: skip
    os.write(_LOG, orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))


probe = Processor("probe", retry=Backoff(attempts=3, first=0.05))


@probe.on(Probed, timeout=float(os.environ.get("PROBE_TIMEOUT", "30")))
async def act(event: Probed, delivery: Delivery = CurrentDelivery()) -> None:
    """Does what the event says."""
    note("start", event, delivery)
    match event.act:
        case "exit":
            os._exit(9)
        case "segv":
            ctypes.string_at(0)
        case "kill":  # as the kernel does it when memory is short
            os.kill(os.getpid(), signal.SIGKILL)
        case "sleep":
            await asyncio.sleep(event.seconds)
        case "block":
            time.sleep(event.seconds)  # noqa: ASYNC251 - blocking the loop is the point
        case "block_once" if delivery.deliveries < 2:
            time.sleep(event.seconds)  # noqa: ASYNC251 - as above
        case "fail":
            raise Unavailable("probe")
        case "raise":
            raise RuntimeError("no")
        case "reject":
            raise DeadLetter("never")
        case "later" if delivery.deliveries < 2 and not delivery.message.carried:
            raise Snooze(0.1)
    note("end", event, delivery)


if __name__ == "__main__":
    sys.modules["tests.support.programs.probe"] = sys.modules["__main__"]
    run(probe)
