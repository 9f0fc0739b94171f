"""Partition: one self-contained set of keys in one cluster slot, how to reach it, and what many parts read of it.

Every script touches the keys of one partition, so what holds for one holds whatever the number of partitions is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from streams.events.event import registered, registered_types
from streams.redis.keys import Keys
from streams.redis.reconnect import Reconnect
from streams.redis.refusal import refusing, unless_odd

if TYPE_CHECKING:
    from streams.redis.connection import Connections
    from streams.settings import Settings

_SCANNED: Final = 1000  # members of `due` to a round trip


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
    def redis(self) -> Any:
        """The client (`redis.asyncio.Redis`, bytes in and out) of the server that has this partition's keys."""
        # Any: redis-py's annotations are unions over both protocols, and over blocking and not.
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


class Reads:
    """What many parts read of a partition. Each call raises `Unreachable` or `Refused` when Redis does not serve it,
    and takes a key that holds something else for an empty one.
    """

    def __init__(self, partition: Partition) -> None:
        self._connections = partition.connections
        self._redis = partition.redis
        self._keys = partition.keys

    async def now_ms(self) -> int:
        """Redis' clock, in ms since 1970."""
        with refusing(self._connections):
            return clock_ms(await self._redis.time())

    async def registry(self) -> dict[str, list[str]]:
        """What each registered group reads: the keys of its sources."""
        with refusing(self._connections):
            return self._keys.registry(await unless_odd(self._redis.hgetall(self._keys.groups())) or {})

    async def waiting(self, group: str) -> AsyncIterator[list[bytes]]:
        """The ids of all that waits for a group (retries, snoozes, what is queued), a page at a time, maybe empty."""
        cursor = 0
        while True:
            with refusing(self._connections):
                page = self._redis.zscan(self._keys.due(), cursor, match=f"{group} *", count=_SCANNED)
                cursor, members = await unless_odd(page) or (0, ())
            yield [member for member, _ in members]
            if cursor == 0:
                return


def clock_ms(reply: Sequence[int]) -> int:
    """What Redis answers to TIME, in ms since 1970."""
    seconds, microseconds = reply
    return seconds * 1000 + microseconds // 1000


def known_streams(keys: Keys, registry: Mapping[str, list[str]]) -> list[str]:
    """The keys of every stream, each priority by itself, that a group of the `registry` reads or this code knows."""
    known = {key for sources in registry.values() for key in sources if keys.is_stream(key)}
    for event in filter(None, map(registered, registered_types())):
        known.update(keys.by_priority(event.stream))
    return sorted(known)
