"""Reconnect: the back-off that all loops of a consumer share while Redis is away, one log line per step."""

from __future__ import annotations

import asyncio
import random
from typing import Final

from streams.errors import LoginRefused, Refused
from streams.logger import get_logger
from streams.refusal import reason, refusal
from streams.route import Elsewhere

log = get_logger("streams.reconnect")

_FIRST: Final = 0.05  # seconds
_MOST: Final = 5.0
_MOST_ELSEWHERE: Final = 2.0
_PATIENCE: Final = 30.0  # seconds that a login may be refused before the process ends
_PATIENCE_AT_START: Final = 3.0


class Reconnect:
    """Counts the steps; what fails while a step is being waited for waits along without a line of its own."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._step = 0
        self._until = 0.0
        self._away_since = 0.0
        self._is_elsewhere = False  # of what answered reads and refused writes, a read is no sign that it is back
        self._has_worked = False
        self._refused_since = self._refused_at = 0.0

    async def failed(self, error: BaseException) -> None:
        """Waits out the back-off after a lost connection; raises `Refused` when waiting cannot help.

        A login that is refused is tried again for a while: while a password is changed, server and file differ. A
        consumer that has worked before waits longer than one that starts.
        """
        problem = refusal(error, self._place)
        now = asyncio.get_running_loop().time()
        if isinstance(problem, Refused) and not self._may_pass(problem, now):
            raise problem from error
        self._is_elsewhere = self._is_elsewhere or isinstance(error, Elsewhere)
        if now >= self._until:
            if not self._step:
                self._away_since = now
            # Of a server that is there and not the master, it is cheap to ask whether there is another one by now.
            most = _MOST_ELSEWHERE if self._is_elsewhere else _MOST
            delay = min(most, _FIRST * 2**self._step) * random.uniform(0.5, 1.5)
            self._step = min(self._step + 1, 20)
            self._until = now + delay
            log.warning("redis.away", redis=self._place, error=reason(error, self._place), retry_in=round(delay, 2))
        await asyncio.sleep(max(0.0, self._until - now))

    def _may_pass(self, problem: Refused, now: float) -> bool:
        if not isinstance(problem, LoginRefused):
            return False
        patience = _PATIENCE if self._has_worked else _PATIENCE_AT_START
        if not self._refused_at or now - self._refused_at > max(patience, _MOST * 2):  # longer than any step
            self._refused_since = now
        self._refused_at = now
        return now - self._refused_since <= patience

    def succeeded(self, *, by_reading: bool = False) -> None:
        """Notes that Redis answered; `by_reading`: a command that a replica answers as well."""
        self._has_worked = True
        if by_reading and self._is_elsewhere:
            return
        if self._step and (not self._refused_at or self._is_long_ago()):
            now = asyncio.get_running_loop().time()
            log.warning("redis.back", redis=self._place, away_for=round(now - self._away_since, 2))
            self._step, self._until = 0, 0.0
            self._is_elsewhere = False

    def _is_long_ago(self) -> bool:
        # Connections of before are logged in still, while new ones are refused: that is not back, and a line each time.
        if asyncio.get_running_loop().time() - self._refused_at <= _MOST * 2:
            return False
        self._refused_at = 0.0
        return True
