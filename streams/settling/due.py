"""Due: the mover that brings back what waited. Every consumer runs one; any number is right, none is a leader."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from streams.logs import get_logger
from streams.redis.refusal import LOST
from streams.settling import scripts
from streams.settling.ticker import Ticker

if TYPE_CHECKING:
    from streams.redis.partition import Member

log = get_logger("streams.due")

_MOST: Final = 500  # a script call of about 1 ms
_TICK: Final = 0.5  # seconds: the longest a message that another process put in can be late


class Mover:
    """Moves due messages to where they are delivered from, at the instant they are due or a moment later."""

    def __init__(self, member: Member) -> None:
        self._keys = member.keys
        self._reconnect = member.reconnect
        self._connection = member.connections.direct(timeout=10.0)
        self._head: list[bytes] = []  # the member that is due next, and when
        self._head_due = 0.0
        self._ticker = Ticker()

    async def run(self) -> None:
        """Moves for as long as the consumer lives."""
        await self._ticker.run(self.move)

    def wake_within(self, after: float) -> None:
        """Notes that this consumer put in something that is due in `after` seconds: be there in time for it."""
        self._ticker.wake_within(after)

    async def move(self) -> float:
        """Moves what is due, at most 500; returns the seconds until it is worth looking again.

        The script is called only when the head of the set is due or is another than before: an idle consumer costs
        one plain command a look.
        """
        now = asyncio.get_running_loop().time()
        try:
            head = await self._connection.call(b"ZRANGE", self._keys.due(), 0, 0, b"WITHSCORES")
            if not head or (head == self._head and now < self._head_due):
                self._reconnect.succeeded(by_reading=True)
                return min(_TICK, self._head_due - now) if head else _TICK
            moved, next_in, broken, self._head, shown = await scripts.release_due(
                self._connection.call, self._keys, most=_MOST
            )
        except LOST as error:
            await self._reconnect.failed(error)
            return 0.0
        except RedisError as error:
            self._reconnect.refused(log, "due.refused", error)
            return 1.0
        self._reconnect.succeeded()
        self._head_due = asyncio.get_running_loop().time() + next_in / 1000
        if broken:
            log.error("due.not_moved", count=broken, first={id[:128]: why[:200] for id, why in shown.items()})
        if moved + broken == _MOST:
            return 0.0
        return min(_TICK, next_in / 1000) if next_in >= 0 else _TICK

    async def aclose(self) -> None:
        """Closes the connection."""
        await self._connection.aclose()
