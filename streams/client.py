"""Streams: what a service holds to publish events and to ask about them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Self

from schemas.event import Event, Priority
from streams import boot
from streams.claims import ClaimStore
from streams.connection import Connections
from streams.dependencies import current_delivery
from streams.errors import StreamsError, TooLarge, Unreachable
from streams.event_ids import new_id
from streams.keys import Keys, checked_priority
from streams.message import Message
from streams.middleware import Middleware
from streams.moment import expiry, moment
from streams.outcome import Duration
from streams.partition import Partition
from streams.partitioning import agree
from streams.publishable import checked_event, checked_events, checked_key, checked_once
from streams.receipt import Receipt
from streams.refusal import refusal
from streams.routing import Routing
from streams.settings import Settings
from streams.steering import Steering

if TYPE_CHECKING:
    import redis.asyncio


class Streams(Steering):
    """The client: `async with Streams() as streams: await streams.publish(event)`.

    Where Redis is comes from the environment (`REDIS_URL`, ...; see `Settings`). Opening it connects to nothing; the
    first publish connects and checks that the server is safe for events.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        settings: Settings | None = None,
        middleware: Sequence[Middleware] = (),
        claims: ClaimStore | None = None,
    ) -> None:
        settings = settings or Settings()
        if url is not None:
            settings = settings.model_copy(update={"redis_url": type(settings)(redis_url=url).redis_url})
        self.settings = settings
        self.connections = self._connect(settings)
        self.partitions = tuple(
            Partition(number, settings, self.connections, middleware) for number in range(settings.partitions)
        )
        if claims is None and settings.storage_url is not None:
            claims = ClaimStore(settings.storage_url.get_secret_value())
        self.claims = claims  # where data over the size cap goes; None: it is refused
        self._routing = Routing(self.partitions)
        self._publish = self._routing.add if claims is None else self._check_in_and_add
        self._targets: dict[tuple[int, type[Event], Priority | None], str] = {}
        self._source = settings.source or f"/{settings.app}"
        self._checked = False
        self._checking = asyncio.Lock()

    def _connect(self, settings: Settings) -> Connections:
        return Connections(settings)

    @property
    def keys(self) -> Keys:
        """The key names of partition 0, where a processor's own keys are (`keys.own`)."""
        return self.partitions[0].keys

    @property
    def redis(self) -> redis.asyncio.Redis:
        """The client (bytes in, bytes out) for a processor's own keys, never for the engine's."""
        return self.partitions[0].redis

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Waits for publishes on their way and closes every connection; in the event loop in which it was used, or when
        that one is closed.
        """
        if not self.connections.is_over:
            self.connections.enter()
        for partition in self.partitions:
            await partition.aclose()
        await self.connections.aclose()

    async def check(self) -> None:
        """Raises `Refused` when a server is not safe for events, `Unreachable` when one does not answer."""
        self.connections.enter()
        async with self._checking:
            if not self._checked:
                for connections in dict.fromkeys(partition.connections for partition in self.partitions):
                    await boot.check(connections.client, self.settings, connections.place)
                await agree(self)
                self._checked = True

    async def _make_sure(self) -> None:
        """As `check`, and tries again for as long as a publish may take."""
        loop = asyncio.get_running_loop()
        give_up, limit, pause = loop.time() + self.settings.publish_timeout, self.settings.publish_timeout / 4, 0.02
        problem: StreamsError | None = None
        while True:
            try:
                async with asyncio.timeout_at(min(give_up, loop.time() + limit)):
                    return await self.check()
            except TimeoutError as error:
                problem = problem or refusal(error, self.connections.place)
            except Unreachable as error:
                problem = error
            if loop.time() + pause >= give_up:
                raise problem
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))
            limit, pause = limit * 2, min(1.0, pause * 2)

    async def publish(
        self,
        event: Event,
        *,
        delay: Duration | None = None,
        at: datetime | None = None,
        once: str = "",
        key: str = "",
        priority: Priority | None = None,
        expires: timedelta | datetime | None = None,
        replicated: bool | None = None,
    ) -> Receipt:
        """Appends one event to its stream and returns when it is in Redis.

        `delay` (seconds or timedelta) or `at` (an aware datetime) hold it back, never released early. `once` is a name
        of the business (`order-7:paid`, at most 1,000 bytes) under which only one event is published in 24 hours: the
        receipt of a later one is the first one's. `key` is the ordering key, at most 200 bytes; empty for none.
        `priority` is the event's own if it is not given. After `expires` (an aware datetime, or a timedelta from now)
        no handler is begun for it. Repeated by itself until `STREAMS_PUBLISH_TIMEOUT`, never added twice. `replicated`
        (or `STREAMS_REPLICATED`): returns when `STREAMS_REPLICAS` replicas have it as well.

        Raises `Unpublishable` (no event, a wrong argument, or a value that would not be read as it is), `TooLarge`,
        `Refused`, `Unreachable` (nothing happened), `PublishUncertain` (it may have), `NotReplicated` (it is in Redis,
        and no replica has confirmed it), or `StreamsError` itself when Redis is full, and in another event loop than
        that of the first use.
        """
        when = moment(delay, at)
        message = self.message(event, when=when, key=key, priority=priority, once=once, expires=expiry(expires, when))
        message.replicated = self.settings.replicated if replicated is None else replicated
        if not self._checked:
            await self._make_sure()
        await self._publish((message,))
        return Receipt(message.id, type(event).stream, self._routing.number(message.target))

    async def publish_many(
        self,
        events: Iterable[Event],
        *,
        key: str = "",
        priority: Priority | None = None,
        replicated: bool | None = None,
    ) -> list[Receipt]:
        """Appends many events in order, 500 to a round trip; the receipts are in the same order.

        Each round trip, to one partition, is all or nothing; an error has the receipts of those before it in
        `published`. Of a list or a tuple all are looked at first, so one that cannot be published leaves out all; an
        iterator is published as it goes.
        """
        made = self._wrapped(checked_events(events), key, priority)
        messages = list(made) if isinstance(events, list | tuple) else made
        if not self._checked:
            await self._make_sure()
        wait = self.settings.replicated if replicated is None else replicated
        return await self._routing.add_many(messages, self._publish, replicated=wait)

    def _wrapped(self, events: Iterable[Event], key: str, priority: Priority | None) -> Iterator[tuple[str, Message]]:
        for event in events:
            message = self.message(event, key=key, priority=priority)
            yield type(event).stream, message

    async def append(self, messages: Sequence[Message]) -> None:
        """Adds messages that were made elsewhere (a relay's) in order, all of them or none, as `publish` does.

        Each has its `target`; one whose `once` is taken is left out.
        """
        if not self._checked:
            await self._make_sure()
        await self._publish(messages)

    def address(self, message: Message, stream: str, *, priority: Priority = "normal", once: str = "") -> None:
        """Gives a message that was made elsewhere its `target`, and the key of its `once`."""
        partition = self.partitions[self._routing.choose(message.key or once or message.id)]
        message.target = partition.keys.stream(stream, priority)
        message.once = partition.keys.once(once) if once else ""

    def partition_of(self, key: str) -> int:
        """The number of the partition that a Redis key belongs to."""
        return self._routing.number(key)

    async def _check_in_and_add(self, messages: Sequence[Message]) -> None:
        assert self.claims is not None
        await self.claims.check_in(messages, self.settings.max_bytes)
        await self._routing.add(messages)

    def message(
        self,
        event: Event,
        *,
        when: str = "",
        key: str = "",
        priority: Priority | None = None,
        once: str = "",
        cause: Message | None = None,
        id: str = "",
        partition: int | None = None,
        expires: str = "",
    ) -> Message:
        """Wraps an event for its stream; inside a handler it names the handled event as its cause.

        Its partition is that of its key; of its `once` name, so that the same name always meets; or of its id.
        """
        if cause is None:
            delivery = current_delivery.get(None)  # None in a batch too: which event of it would be the cause?
            cause = delivery.message if delivery is not None else None
        if key != "":
            checked_key(key)
        if once != "":
            checked_once(once)
        if partition is None:
            id = id or new_id()
            partition = self._routing.choose(key or once or id)
        kind = type(event)
        if priority is not None:
            checked_priority(priority)
        target = self._targets.get((partition, kind, priority))
        if target is None:  # the first of its class
            checked_event(event)
            keys = self.partitions[partition].keys
            target = self._targets[partition, kind, priority] = keys.stream(
                kind.stream, priority or kind.usual_priority
            )
        message = Message.for_event(
            event, source=self._source, target=target, when=when, key=key, cause=cause, id=id, expires=expires
        )
        message.once = self.partitions[partition].keys.once(once) if once else ""
        most = self.settings.max_bytes if self.claims is None else self.claims.most
        if len(message.data) > most:
            raise TooLarge(
                f"{kind.type}: {len(message.data)} bytes are over the cap of {most}; set STORAGE_URL, or store "
                "the large part elsewhere and publish a reference (or raise STREAMS_MAX_BYTES here and at consumers)"
            )
        return message
