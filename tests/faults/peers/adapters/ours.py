"""This project, as `python -m tests.faults.peers.adapters.ours`: its README's processor, run by `streams.run`."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from streams import Event, Processor, Streams, run
from tests.faults.peers import load

AGAIN = True  # a name is published under once in 24 hours


class Happened(Event, stream="happened", version=1, type="peers.Happened"):
    """Something for the handler."""

    text: str


peers = Processor("peers")


@peers.on(Happened)
async def happened(event: Happened) -> None:
    """The handler."""
    await load.handle(event.text)


@asynccontextmanager
async def publishing() -> AsyncIterator[Callable[[str], Callable[[], Awaitable[str]]]]:
    """As the README has it; tuned, with a name."""
    async with Streams() as streams:

        def prepare(text: str) -> Callable[[], Awaitable[str]]:
            async def publish() -> str:
                receipt = await streams.publish(Happened(text=text), once=text if load.TUNED else "")
                return receipt.id

            return publish

        yield prepare


if __name__ == "__main__":
    sys.modules["tests.faults.peers.adapters.ours"] = sys.modules["__main__"]
    run(peers)
