"""Publish: `python -m tests.faults.peers.publish ADAPTER` publishes at an even rate, and goes on slowly until SIGTERM.

It goes on because events never stop coming: a system that looks for forgotten work only when there is new work shall
have some. What comes after the last numbered event is judged by nobody. When it is started again, it begins where the
journal says that it stopped.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from tests.faults.peers import load
from tests.faults.soak.journal import read

LANES: Final = 20  # at once, as the soak's publisher
PATIENCE: Final = 15.0  # seconds a caller waits for one publication before it gives up, as a web request would
AFTERWARDS: Final = 0.5  # seconds between the events after the last


def _times(first: int, began: float) -> Iterator[tuple[int, float]]:
    """Each event's number, and when it is due."""
    events, seconds = int(os.environ["PEER_EVENTS"]), float(os.environ["PEER_SECONDS"])
    n = first
    while True:
        yield n, began + min(n, events) * seconds / events + max(0, n - events) * AFTERWARDS
        n += 1


async def main(name: str) -> None:
    """Publishes until SIGTERM."""
    adapter = importlib.import_module(f"tests.faults.peers.adapters.{name}")
    lines = read(load.JOURNAL.path)
    first = max((line["n"] + 1 for line in lines if line["what"] == "publish"), default=0)
    began = next((line["at"] for line in lines if line["what"] == "publishing"), time.monotonic())
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with adapter.publishing() as prepare:
        load.JOURNAL.write("publishing", first=first)
        times = _times(first, began)

        async def lane() -> None:
            for n, due in times:
                await asyncio.sleep(due - time.monotonic())
                await _publish(n, prepare, again=adapter.AGAIN and load.TUNED)

        lanes = asyncio.gather(*(lane() for _ in range(LANES)))
        waiting = asyncio.create_task(stopped.wait())
        await asyncio.wait((lanes, waiting), return_when=asyncio.FIRST_COMPLETED)
        if lanes.done():
            lanes.result()
    load.JOURNAL.write("published")


async def _publish(n: int, prepare: Callable[[str], Callable[[], Awaitable[str]]], *, again: bool) -> None:
    """Publishes one, and says what its caller was told."""
    attempt = prepare(load.token(n))
    load.JOURNAL.write("publish", n=n)
    give_up = time.monotonic() + PATIENCE
    while True:
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + give_up - time.monotonic()):
                identity = await attempt()
        except Exception as error:
            if again and time.monotonic() < give_up:
                await asyncio.sleep(0.2)
                continue
            load.JOURNAL.write("publish_failed", n=n, error=repr(error)[:200], cause=repr(error.__cause__)[:200])
        else:
            load.JOURNAL.write("publish_ok", n=n, id=identity)
        return


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1]))
    finally:
        sys.stdout.flush()
    os._exit(0)  # a client that does not let go of its loop is none of the publisher's business
