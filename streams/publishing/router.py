"""Router: how messages get to the publishers of their partitions."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Sequence
from typing import TYPE_CHECKING, Final

from streams.errors import StreamsError
from streams.messages.message import Message
from streams.messages.middleware import Middleware
from streams.publishing.publisher import Publisher
from streams.receipt import Receipt

if TYPE_CHECKING:
    from streams.messages.middleware import Publish
    from streams.redis.partition import Partition

_MANY: Final = 500


class Router:
    """The publishers of one client. With one partition it costs nothing."""

    def __init__(self, partitions: Sequence[Partition], middleware: Sequence[Middleware] = ()) -> None:
        self._keys = partitions[0].keys
        self.publishers = tuple(Publisher(part.connections, part.keys, middleware) for part in partitions)
        self.one = len(partitions) == 1

    def add(self, messages: Sequence[Message]) -> Awaitable[None]:
        """Publishes messages in order, those of each partition by its publisher; done when they are in Redis."""
        return self.publishers[0].publish(messages) if self.one else self._add(messages)

    def _number(self, key: str) -> int:
        """The number of the partition that a Redis key belongs to."""
        return 0 if self.one else self._keys.number_in(key)

    async def add_many(
        self, messages: Iterable[tuple[str, Message]], publish: Publish, *, replicated: bool = False
    ) -> list[Receipt]:
        """Publishes (stream, message) in order, 500 to a round trip; raises with those that are in in `published`."""
        receipts: list[Receipt] = []
        batches: dict[int, list[Message]] = {}
        sent: list[Message] = []
        try:
            for stream, message in messages:
                number = self._number(message.target)
                message.replicated = replicated
                receipts.append(Receipt(message.id, stream, number))
                batch = batches.setdefault(number, [])
                batch.append(message)
                if len(batch) == _MANY:
                    await publish(batches.pop(number))
                    sent += batch
            for batch in batches.values():
                await publish(batch)
                sent += batch
        except StreamsError as error:
            ids = {message.id for message in sent}
            error.published += tuple(receipt for receipt in receipts if receipt.id in ids)
            raise
        return receipts

    async def _add(self, messages: Sequence[Message]) -> None:
        """Adds each partition's messages in their order; those of one partition are all or nothing."""
        batches: dict[int, list[Message]] = {}
        for message in messages:
            batches.setdefault(self._number(message.target), []).append(message)
        for number, batch in batches.items():
            await self.publishers[number].publish(batch)

    async def aclose(self) -> None:
        """Waits for publishes on their way."""
        for publisher in self.publishers:
            await publisher.aclose()
