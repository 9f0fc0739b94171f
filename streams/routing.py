"""Routing: which partition an event belongs to, and how a batch gets to the partitions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from streams.keys import partition_of
from streams.message import Message

if TYPE_CHECKING:
    from streams.partition import Partition


class Routing:
    """The routing of one client. With one partition it costs nothing."""

    def __init__(self, partitions: Sequence[Partition]) -> None:
        self._partitions = partitions
        self.one = len(partitions) == 1
        self.add = partitions[0].publisher.publish if self.one else self._add

    def choose(self, name: str) -> int:
        """The partition for an event, by its ordering key, `once` name or id."""
        return 0 if self.one else partition_of(name, len(self._partitions))

    def number(self, key: str) -> int:
        """The number of the partition that a Redis key belongs to."""
        return 0 if self.one else self._partitions[0].keys.number_in(key)

    async def _add(self, messages: Sequence[Message]) -> None:
        """Adds each partition's messages in their order; those of one partition are all or nothing."""
        batches: dict[int, list[Message]] = {}
        for message in messages:
            batches.setdefault(self.number(message.target), []).append(message)
        for number, batch in batches.items():
            await self._partitions[number].publisher.publish(batch)
