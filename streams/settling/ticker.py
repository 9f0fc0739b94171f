"""Ticker: calls a function again and again, each time after the delay that it returned last, or sooner when woken."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable


class Ticker:
    """When something is worth doing again."""

    def __init__(self) -> None:
        self._at = 0.0
        self._nudged = asyncio.Event()

    async def run(self, work: Callable[[], Awaitable[float]]) -> None:
        """Calls `work` for ever; it returns the seconds until it is worth doing again."""
        loop = asyncio.get_running_loop()
        while True:
            self._at = math.inf  # what is noted while it works counts for the next time
            delay = await work()
            self._at = min(self._at, loop.time() + delay)
            while loop.time() < self._at:
                self._nudged.clear()
                try:
                    async with asyncio.timeout_at(self._at):
                        await self._nudged.wait()
                except TimeoutError:
                    break

    def wake_within(self, after: float) -> None:
        """Notes that there is something to do in `after` seconds: be there in time for it."""
        at = asyncio.get_running_loop().time() + after
        if at < self._at:
            self._at = at
            self._nudged.set()
