"""Partition consumer: the part of one consumer in one partition, from its first read to its retirement from the group.

Readers and reclaimer bring deliveries, leases keep them, the settlement makes their outcomes durable, the mover brings
back what waited. The handler tasks, for all partitions together, belong to the consumer.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from operator import attrgetter
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from streams.consuming.control_listener import ControlListener
from streams.consuming.leases import Leases
from streams.consuming.membership import Membership
from streams.consuming.reader import Reader
from streams.consuming.reclaimer import Reclaimer
from streams.consuming.status_reporter import StatusReporter
from streams.executing.limiter import Limiter
from streams.logs import get_logger
from streams.messages.outcome import ACKED, RELEASED, Cancelled, Outcome, Retried, Snoozed
from streams.redis.keys import LANES
from streams.redis.reconnect import Reconnect
from streams.settling.due import Mover
from streams.settling.ordering import Ordering
from streams.settling.settlement import Settlement

if TYPE_CHECKING:
    from streams.executing.batch_executor import BatchExecutor
    from streams.executing.circuit_breaker import Breaker
    from streams.executing.handler_pool import HandlerPool
    from streams.handlers.processor import Processor
    from streams.messages.delivery import Delivery
    from streams.messages.middleware import Middleware
    from streams.redis.partition import Partition

log = get_logger("streams.consumer")

_SOURCE: Final = attrgetter("source")


class PartitionConsumer:
    """The part of one consumer in one partition. `pool` is given to it before it begins."""

    pool: HandlerPool

    def __init__(
        self,
        processor: Processor,
        partition: Partition,
        *,
        consumer: str,
        concurrency: int,
        suspect: int,
        middleware: Sequence[Middleware],
        pause: Callable[[bool], None],
        breaker: Breaker,
        limiter: Callable[..., Limiter] | None = None,
        blocked: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> None:
        keys, connections, group = partition.keys, partition.connections, processor.name
        self._group, self.settings = group, connections.settings
        self.handed_back = 0  # deliveries that were given back to the group, durably
        self.number = partition.number
        self.sources = [keys.inbox(group), *(lane for stream in processor.streams for lane in keys.lanes(stream))]
        self.reconnect = Reconnect(connections.place)
        self.membership = Membership(
            connections, keys, group=group, consumer=consumer, sources=self.sources, reconnect=self.reconnect
        )
        self.leases = Leases(
            connections,
            consumers_key=keys.consumers(group),
            group=group,
            consumer=consumer,
            lease=connections.settings.lease,
            lost=self.on_lost,
            patience=connections.settings.timeout,
            blocked=blocked,
        )
        self.settlement = Settlement(
            connections,
            keys,
            group=group,
            consumer=consumer,
            reconnect=self.reconnect,
            middleware=middleware,
            settled=self._on_settled,
            aside=self._on_aside,
            ordered=processor.ordered,
            limited=processor.limited,
        )
        self.turns = turns = Ordering(keys, group) if processor.ordered else None
        self.readers: dict[str, Reader] = {}  # by source
        for position, lane in enumerate(LANES):
            sources = [keys.stream(stream, lane) for stream in processor.streams]
            if lane == "normal":
                sources.insert(0, keys.inbox(group))
            elif not sources:
                continue  # a processor of schedules alone
            reader = Reader(
                connections,
                keys,
                group=group,
                consumer=consumer,
                sources=sources,
                concurrency=concurrency,
                waits_below=partial(self._waits_below, position),
                reconnect=self.reconnect,
                ensure_groups=self.membership.ensure_groups,
                feed=self.feed,
                watch=self._watch,
                turns=turns,
            )
            self.readers |= dict.fromkeys(sources, reader)
        self._reclaimer = Reclaimer(
            connections,
            keys,
            group=group,
            consumer=consumer,
            sources=self.sources,
            suspect=suspect,
            reconnect=self.reconnect,
            fresh=self.leases.fresh,
            room=lambda source: self.readers[source].room_to_reclaim(),
            feed=self.feed,
            turns=turns,
        )
        self._mover = Mover(connections, keys, self.reconnect)
        self.control = ControlListener(
            connections,
            keys,
            group=group,
            reconnect=self.reconnect,
            cancel=self._cancel,
            pause=pause,
            answer=StatusReporter(processor, partition, consumer, self, breaker).answer,
        )
        self.limiter = limiter and limiter(
            partition=partition,
            connections=connections,
            consumer=consumer,
            reconnect=self.reconnect,
            admitted=self._admit,
            parked=self._drop,
            lost=self.on_lost,
            done=self.settlement.add,
        )
        self.moved = monotonic()  # when something was last settled
        self._watched: list[tuple[str, set[bytes]]] = []
        self._reading: list[asyncio.Task[None]] = []
        self._settling: asyncio.Task[None] | None = None

    def join(self, pool: HandlerPool, batches: BatchExecutor | None) -> None:
        """Gives it what runs its deliveries."""
        self.pool = pool
        if batches is not None:
            for reader in dict.fromkeys(self.readers.values()):
                reader.fill(batches)

    async def begin(self) -> None:
        """Makes sure of the group, learns what has been asked of it, and sends the first heartbeat."""
        await self.membership.ensure_groups()
        await self.membership.check_permissions()
        await self.control.begin()
        self.leases.start()

    def run(self, spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]) -> None:
        """Begins to read, and all that goes with it."""
        self._reading = [spawn(reader.run()) for reader in dict.fromkeys(self.readers.values())]
        self._settling = spawn(self.settlement.run())
        for work in (self.leases.run(), self._reclaimer.run(), self._mover.run(), self.control.run()):
            _ = spawn(work)
        if self.limiter is not None:
            for work in (self.limiter.ask(), self.limiter.serve()):
                _ = spawn(work)

    @property
    def settles(self) -> bool:
        """Whether what is added to the settlement can become durable."""
        return self._settling is not None and not self._settling.done()

    def pause(self, on: bool) -> None:
        """Stops reading, or goes on."""
        for reader in dict.fromkeys(self.readers.values()):
            reader.pause(on)

    def feed(self, deliveries: list[Delivery]) -> None:
        """Takes deliveries into hand, and hands them on."""
        for source, seen in self._watched:
            seen.update(delivery.entry_id for delivery in deliveries if delivery.source == source)
        self._count(deliveries, Reader.took)
        self.leases.hold(deliveries)
        self.pool.feed(deliveries)
        self._cancel_requested(deliveries)

    def _waits_below(self, lane: int) -> bool:
        return self.pool.ready.waits_below(lane)

    def _admit(self, deliveries: list[Delivery]) -> None:
        self.pool.admit(deliveries)
        self._cancel_requested(deliveries)

    def _cancel_requested(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in self.control.cancelled(deliveries):
            self._cancel(delivery.source, delivery.entry_id)

    def _cancel(self, source: str, entry_id: bytes) -> None:
        """Somebody called a delivery off: it is stopped if it is here."""
        for delivery in self.leases.held:
            if delivery.entry_id == entry_id and delivery.source == source:
                if self.limiter is not None and self.limiter.drop({delivery}):
                    self.settlement.add(delivery, Cancelled())
                else:
                    self.pool.cancel(delivery)
                return

    def _count(self, deliveries: Iterable[Delivery], tell: Callable[[Reader, int], None]) -> None:
        for source, count in Counter(map(_SOURCE, deliveries)).items():
            tell(self.readers[source], count)

    @contextmanager
    def _watch(self, source: str) -> Iterator[set[bytes]]:
        """The entries of a source that are in hand, and all that come into hand while it is watched."""
        watched = source, {delivery.entry_id for delivery in self.leases.held if delivery.source == source}
        self._watched.append(watched)
        try:
            yield watched[1]
        finally:
            self._watched = [other for other in self._watched if other is not watched]

    async def count(self, delivery: Delivery) -> bool:
        """Makes a suspect's delivery count; False when it is not ours any more."""
        return delivery.counted or await self.membership.begin(delivery)

    def on_lost(self, deliveries: set[Delivery]) -> None:
        """Leases that somebody else has now: stop working on them, settle nothing of them."""
        # What has just been settled is not pending any more either, and its settlement may not be back yet.
        lost = {delivery for delivery in deliveries & self.leases.held if not delivery.settling}
        if lost:
            log.warning("delivery.lease_lost", group=self._group, count=len(lost), ids=[d.message.id for d in lost][:5])
            self.leases.drop(lost)
            self.pool.abandon(lost)
            if self.limiter is not None:
                self.limiter.drop(lost)
            self._count(lost, Reader.settled)

    def _on_aside(self, deliveries: Sequence[Delivery], on: bool) -> None:
        self._count(deliveries, lambda reader, count: reader.put_aside(count if on else -count))

    def _on_settled(self, settled: Sequence[tuple[Delivery, Outcome]], lost: set[Delivery]) -> None:
        self.moved = monotonic()
        # Those that were lost meanwhile have been dropped, and counted, already.
        self._drop([delivery for delivery, _ in settled])
        for delivery, outcome in settled:
            if outcome is ACKED:
                continue
            if isinstance(outcome, Retried | Snoozed):
                self._mover.wake_within(outcome.after)
            elif outcome is RELEASED and delivery not in lost:
                self.handed_back += 1
        if lost:
            log.warning("delivery.fenced", group=self._group, count=len(lost), ids=[d.message.id for d in lost][:5])

    def _drop(self, deliveries: Sequence[Delivery]) -> None:
        """Ends the holding of what is not pending here any more."""
        in_hand = self.leases.held
        held = [delivery for delivery in deliveries if delivery in in_hand]
        self.leases.drop(held)
        self._count(held, Reader.settled)

    async def stop_reading(self, within: float) -> None:
        """Stops reading; what was read is held."""
        await asyncio.gather(*(reader.stop() for reader in dict.fromkeys(self.readers.values())))
        if self._reading:
            await asyncio.wait(self._reading, timeout=within)

    async def leave(self) -> None:
        """Ends the leases and takes the consumer out of the group."""
        await self.leases.stop()
        if self._settling is not None:
            await self.membership.leave()

    async def aclose(self) -> None:
        """Closes the connections."""
        for reader in dict.fromkeys(self.readers.values()):
            await reader.aclose()
        for part in (self._reclaimer, self._mover, self.settlement, self.membership, self.limiter):
            if part is not None:
                await part.aclose()
