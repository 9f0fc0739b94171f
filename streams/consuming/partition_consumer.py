"""Partition consumer: the part of one consumer in one partition, from its first read to its retirement from the group.

Readers and reclaimer bring deliveries, leases keep them, the settlement makes their outcomes durable, the mover brings
back what waited. The handler tasks, for all partitions together, belong to the consumer.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol

from streams.consuming.control_listener import ControlListener
from streams.consuming.leases import Leases
from streams.consuming.membership import Membership
from streams.consuming.reader import Reader
from streams.consuming.reclaimer import Reclaimer
from streams.consuming.status_reporter import StatusReporter
from streams.executing.limiter import Limiter
from streams.logs import get_logger
from streams.messages.outcome import ACKED, RELEASED, Cancelled, Outcome, Retried, Snoozed
from streams.redis.keys import PRIORITIES
from streams.redis.partition import Member
from streams.settling.due import Mover
from streams.settling.ordering import Ordering
from streams.settling.settlement import Settlement

if TYPE_CHECKING:
    from streams.app import App
    from streams.consuming.watchdog import Watchdog
    from streams.executing.handler_pool import HandlerPool
    from streams.handlers.processor import Processor
    from streams.messages.delivery import Delivery
    from streams.messages.middleware import Middleware

log = get_logger("streams.consumer")

_SOURCE: Final = attrgetter("source")


class Owner(Protocol):
    """The consumer that this is a part of."""

    processor: Processor
    name: str

    def pause(self, partition: int, on: bool, /) -> None:
        """Notes whether the group is paused in one partition."""

    async def flush(self) -> None:
        """Returns when every outcome so far is durable, in all partitions."""


class PartitionConsumer:
    """The part of one consumer in one partition: the holder of what is delivered to it."""

    def __init__(
        self,
        owner: Owner,
        app: App,
        number: int,
        pool: HandlerPool,
        middleware: Sequence[Middleware] = (),
        watchdog: Watchdog | None = None,
    ) -> None:
        processor, partition = owner.processor, app.partitions[number]
        self.member = member = Member.of(partition, processor.name, owner.name)
        self.group, self.consumer, self.settings = member.group, member.consumer, member.settings
        self.pool, self.number = pool, number
        self._owner = owner
        self.handed_back = 0  # deliveries that were given back to the group, durably
        self.ordering = Ordering(member.keys, member.group) if processor.ordered else None
        self.leases = Leases(member, self, watchdog)
        self.settlement = Settlement(member, self, middleware, ordered=processor.ordered, limited=processor.limited)
        self.readers: dict[str, Reader] = {}  # by source
        for position, lane in enumerate(PRIORITIES):
            sources = [member.keys.stream(stream, lane) for stream in processor.streams]
            if lane == "normal":
                sources.insert(0, member.keys.inbox(member.group))
            elif not sources:
                continue  # a processor of schedules alone
            reader = Reader(member, self, pool, lane=position, sources=sources, ordering=self.ordering)
            self.readers |= dict.fromkeys(sources, reader)
        self.sources = list(self.readers)
        self.membership = Membership(member, self.sources)
        self.reclaimer = Reclaimer(
            member, self, self.leases, self.readers, suspect=pool.suspect_from, ordering=self.ordering
        )
        self._mover = Mover(member)
        self.control = ControlListener(
            member, self, StatusReporter(processor, partition, member.consumer, self, pool.executor.breaker)
        )
        self.limiter = (
            Limiter(member, self, processor, pool.executor, partition=number, partitions=len(app.partitions))
            if processor.limited
            else None
        )
        self.moved = monotonic()  # when something was last settled
        self._watched: list[tuple[str, set[bytes]]] = []
        self._reading: list[asyncio.Task[None]] = []
        self._settling: asyncio.Task[None] | None = None

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
        for work in (self.leases.run(), self.reclaimer.run(), self._mover.run(), self.control.run()):
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

    def settle(self, delivery: Delivery, outcome: Outcome) -> None:
        """Queues the outcome of a delivery, to be made durable."""
        self.settlement.add(delivery, outcome)

    def settle_batch(self, settled: list[tuple[Delivery, Outcome]]) -> None:
        """Queues the outcomes of a batch, which are made durable in one call."""
        self.settlement.add_together(settled)

    def needs_permit(self, delivery: Delivery) -> bool:
        """Whether a limit lets it not start now. Then a permit has been asked for, and it comes back with one."""
        return self.limiter is not None and self.limiter.needs_permit(delivery)

    def batch_began(self) -> None:
        """Notes that a batch runs: as many more may be read meanwhile."""
        for reader in dict.fromkeys(self.readers.values()):
            reader.batch_began()

    async def ensure_groups(self) -> None:
        """Makes the group wherever it is missing."""
        await self.membership.ensure_groups()

    def pause_asked(self, on: bool) -> None:
        """Notes whether the group is paused in this partition."""
        self._owner.pause(self.number, on)

    def admit(self, deliveries: list[Delivery]) -> None:
        """Lets the pool run those that have a permit."""
        self.pool.admit(deliveries)
        self._cancel_requested(deliveries)

    def _cancel_requested(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in self.control.cancelled(deliveries):
            self.cancel(delivery.source, delivery.entry_id)

    def cancel(self, source: str, entry_id: bytes) -> None:
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
    def watch(self, source: str) -> Iterator[set[bytes]]:
        """The entries of a source that are in hand, and all that come into hand while it is watched."""
        watched = source, {delivery.entry_id for delivery in self.leases.held if delivery.source == source}
        self._watched.append(watched)
        try:
            yield watched[1]
        finally:
            self._watched = [other for other in self._watched if other is not watched]

    async def count_suspect(self, delivery: Delivery) -> bool:
        """Waits until all else is settled, then makes its delivery count; False when it is not ours any more."""
        await self._owner.flush()
        return delivery.counted or await self.membership.begin(delivery)

    def lost(self, deliveries: set[Delivery]) -> None:
        """Leases that somebody else has now: stop working on them, settle nothing of them."""
        # What has just been settled is not pending any more either, and its settlement may not be back yet.
        lost = {delivery for delivery in deliveries & self.leases.held if not delivery.settling}
        if lost:
            log.warning("delivery.lease_lost", group=self.group, count=len(lost), ids=[d.message.id for d in lost][:5])
            self.leases.drop(lost)
            self.pool.abandon(lost)
            if self.limiter is not None:
                self.limiter.drop(lost)
            self._count(lost, Reader.settled)

    def on_refused(self, deliveries: Sequence[Delivery], on: bool) -> None:
        """Notes those whose outcome Redis refuses, or no longer refuses: others are read beside them."""
        self._count(deliveries, lambda reader, count: reader.put_aside(count if on else -count))

    def on_settled(self, settled: Sequence[tuple[Delivery, Outcome]], lost: set[Delivery]) -> None:
        """Ends the holding of those whose outcome is durable, or of which it turned out that they were `lost`."""
        self.moved = monotonic()
        # Those that were lost meanwhile have been dropped, and counted, already.
        self.queued([delivery for delivery, _ in settled])
        for delivery, outcome in settled:
            if outcome is ACKED:
                continue
            if isinstance(outcome, Retried | Snoozed):
                self._mover.wake_within(outcome.after)
            elif outcome is RELEASED and delivery not in lost:
                self.handed_back += 1
        if lost:
            log.warning("delivery.fenced", group=self.group, count=len(lost), ids=[d.message.id for d in lost][:5])

    def queued(self, deliveries: Sequence[Delivery]) -> None:
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
        for part in (self.reclaimer, self._mover, self.settlement, self.membership, self.limiter):
            if part is not None:
                await part.aclose()
