"""Partition: one self-contained set of keys in one cluster slot, how to reach it, and its publisher.

Every script touches the keys of one partition, so what holds for one holds whatever the number of partitions is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from streams.keys import Keys
from streams.publisher import Publisher

if TYPE_CHECKING:
    import redis.asyncio

    from streams.connection import Connections
    from streams.middleware import Middleware
    from streams.settings import Settings


class Partition:
    """One of the `STREAMS_PARTITIONS` of an app, by its number from 0. Making one connects to nothing."""

    def __init__(
        self, number: int, settings: Settings, connections: Connections, middleware: Sequence[Middleware] = ()
    ) -> None:
        self.number = number
        self.settings = settings
        self.keys = Keys(settings.app, number)
        self.connections = connections.at(self.keys.tag)
        self.publisher = Publisher(self.connections, self.keys, middleware)

    @property
    def mark(self) -> str:
        """What an entry id begins with where people see it: nothing while there is one partition, else `3:`."""
        return "" if self.settings.partitions == 1 else f"{self.number}:"

    @property
    def redis(self) -> redis.asyncio.Redis:
        """The client of the server that has this partition's keys."""
        return self.connections.client

    async def aclose(self) -> None:
        """Waits for publishes on their way and closes the connections."""
        await self.publisher.aclose()
        await self.connections.aclose()
