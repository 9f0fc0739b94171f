"""Reconnect: the back-off that all loops of a consumer share while Redis is away, one log line per step."""

from __future__ import annotations

import asyncio
import random
from typing import Final

import structlog

from streams.connection import refusal
from streams.errors import Refused

log = structlog.get_logger("streams.reconnect")

_FIRST: Final = 0.05  # seconds
_MOST: Final = 5.0


class Reconnect:
    """Counts the steps; whoever fails while a step is being waited for waits along without a line of its own."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._step = 0
        self._until = 0.0
        self._away_since = 0.0

    async def failed(self, error: BaseException) -> None:
        """Waits out the back-off after a lost connection; raises `Refused` when waiting cannot help."""
        problem = refusal(error, self._place)
        if isinstance(problem, Refused):
            raise problem from error
        now = asyncio.get_running_loop().time()
        if now >= self._until:
            if not self._step:
                self._away_since = now
            delay = min(_MOST, _FIRST * 2**self._step) * random.uniform(0.5, 1.5)
            self._step = min(self._step + 1, 20)
            self._until = now + delay
            log.warning("redis.away", redis=self._place, error=error.__class__.__name__, retry_in=round(delay, 2))
        await asyncio.sleep(max(0.0, self._until - now))

    def succeeded(self) -> None:
        """Notes that Redis answered."""
        if self._step:
            away = asyncio.get_running_loop().time() - self._away_since
            log.warning("redis.back", redis=self._place, away_for=round(away, 2))
            self._step, self._until = 0, 0.0
