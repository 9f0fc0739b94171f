"""Partition: one self-contained set of keys in one cluster slot, and how to reach it.

Every script touches the keys of one partition, so what holds for one holds whatever the number of partitions is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streams.redis.keys import Keys
from streams.redis.reconnect import Reconnect

if TYPE_CHECKING:
    import redis.asyncio

    from streams.redis.connection import Connections
    from streams.settings import Settings


class Partition:
    """One of the `STREAMS_PARTITIONS` of an app, by its number from 0. Making one connects to nothing."""

    def __init__(self, number: int, settings: Settings, connections: Connections) -> None:
        self.number = number
        self.settings = settings
        self.keys = Keys(settings.app, number)
        self.connections = connections.at(self.keys.tag)

    @property
    def mark(self) -> str:
        """What an entry id begins with where people see it: nothing while there is one partition, else `3:`."""
        return "" if self.settings.partitions == 1 else f"{self.number}:"

    @property
    def redis(self) -> redis.asyncio.Redis:
        """The client of the server that has this partition's keys."""
        return self.connections.client

    async def aclose(self) -> None:
        """Closes the connections."""
        await self.connections.aclose()


@dataclass(frozen=True, slots=True)
class Member:
    """One consumer of one group in one partition: what each of its parts needs to reach Redis in its name."""

    connections: Connections
    keys: Keys
    group: str
    consumer: str
    reconnect: Reconnect

    @classmethod
    def of(cls, partition: Partition, group: str, consumer: str) -> Member:
        """The consumer's membership in a partition; all its parts wait together while Redis is away."""
        return cls(partition.connections, partition.keys, group, consumer, Reconnect(partition.connections.place))

    @property
    def settings(self) -> Settings:
        """The settings of the app."""
        return self.connections.settings
