"""Routing: which partition an event belongs to, and how a batch gets to the partitions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from streams.errors import StreamsError
from streams.keys import partition_of
from streams.message import Message
from streams.receipt import Receipt

if TYPE_CHECKING:
    from streams.middleware import Publish
    from streams.partition import Partition

_MANY: Final = 500


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

    async def add_many(
        self, messages: Iterable[tuple[str, Message]], publish: Publish, *, replicated: bool = False
    ) -> list[Receipt]:
        """Publishes (stream, message) in order, 500 to a round trip; raises with those that are in in `published`."""
        receipts: list[Receipt] = []
        batches: dict[int, list[Message]] = {}
        sent: set[str] = set()
        try:
            for stream, message in messages:
                number = self.number(message.target)
                message.replicated = replicated
                receipts.append(Receipt(message.id, stream, number))
                batch = batches.setdefault(number, [])
                batch.append(message)
                if len(batch) == _MANY:
                    await publish(batches.pop(number))
                    sent.update(done.id for done in batch)
            for batch in batches.values():
                await publish(batch)
                sent.update(done.id for done in batch)
        except StreamsError as error:
            error.published += tuple(receipt for receipt in receipts if receipt.id in sent)
            raise
        return receipts

    async def _add(self, messages: Sequence[Message]) -> None:
        """Adds each partition's messages in their order; those of one partition are all or nothing."""
        batches: dict[int, list[Message]] = {}
        for message in messages:
            batches.setdefault(self.number(message.target), []).append(message)
        for number, batch in batches.items():
            await self._partitions[number].publisher.publish(batch)
