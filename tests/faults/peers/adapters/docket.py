"""docket (https://docket.lol): run by `docket worker --tasks`, whose options `peer` sets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from docket import Docket

from tests.faults.peers import load

AGAIN = True  # to add a key that is scheduled or running changes nothing


async def happened(text: str) -> None:
    """The handler."""
    await load.handle(text)


tasks = [happened]


@asynccontextmanager
async def publishing() -> AsyncIterator[Callable[[str], Callable[[], Awaitable[str]]]]:
    """As its front page has it; tuned, with a key."""
    async with Docket(name="docket", url=load.URL) as docket:

        def prepare(text: str) -> Callable[[], Awaitable[str]]:
            async def publish() -> str:
                execution = await docket.add(happened, key=text if load.TUNED else None)(text)
                key: str = execution.key
                return key

            return publish

        yield prepare
