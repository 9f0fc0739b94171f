"""Consumer: one process incarnation's membership of a group, from its first heartbeat to its retirement.

It owns the parts of the way of an event and wires them: reader and reclaimer bring deliveries, leases keep them,
slots run them, the settlement makes the outcomes durable, the mover brings back what waited.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import structlog
from mode import Service
from uncalled_for import SharedContext

from streams.breaker import Breaker
from streams.control import Control
from streams.dependencies import current_streams
from streams.due import Mover
from streams.errors import Refused, Unreachable
from streams.executor import Executor
from streams.keys import LANES
from streams.leases import Leases
from streams.membership import Membership
from streams.outcome import Outcome, Retried, Snoozed
from streams.reader import Reader
from streams.reclaim import Reclaimer
from streams.reconnect import Reconnect
from streams.scheduler import Scheduler
from streams.settlement import Settlement
from streams.slots import Slots
from streams.upkeep import Upkeep

if TYPE_CHECKING:
    from streams.client import Streams
    from streams.delivery import Delivery
    from streams.middleware import Middleware
    from streams.processor import Processor

log = structlog.get_logger("streams.consumer")


async def end_tasks(tasks: Iterable[asyncio.Task[Any]], within: float = 2.0) -> set[asyncio.Task[Any]]:
    """Cancels tasks, again and again for `within` seconds, and returns those that have not ended.

    Once is not enough: `asyncio.wait_for`, in which redis-py sends, loses a cancel on Python 3.11 that comes as its
    inner call is done, and the loop around it goes on for ever.
    """
    give_up = asyncio.get_running_loop().time() + within
    left = {task for task in tasks if not task.done()}
    while left and asyncio.get_running_loop().time() < give_up:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=0.1)
    return left


class Consumer(Service):
    """Consumes a processor's events until it is stopped. `client` must be this consumer's own."""

    def __init__(
        self, processor: Processor, client: Streams, *, middleware: Sequence[Middleware] = (), **options: Any
    ) -> None:
        super().__init__(**options)
        self.processor = processor
        self._client = client
        settings, keys, connections, group = client.settings, client.keys, client.connections, processor.name
        self._settings, self._keys, self._connections, self._group = settings, keys, connections, group
        self.sources = [keys.inbox(group), *(lane for stream in processor.streams for lane in keys.lanes(stream))]
        concurrency = processor.concurrency or settings.concurrency
        self._reconnect = Reconnect(connections.place)
        self._membership = Membership(connections, keys, group=group, sources=self.sources, reconnect=self._reconnect)
        self.name = self._membership.consumer
        self._breaker = Breaker(group, self._wake)
        self._executor = Executor(processor, client, self._breaker, middleware)
        self._leases = Leases(
            connections,
            consumers_key=keys.consumers(group),
            group=group,
            consumer=self.name,
            lease=settings.lease,
            lost=self._on_lost,
        )
        self._settlement = Settlement(
            connections,
            keys,
            group=group,
            consumer=self.name,
            reconnect=self._reconnect,
            middleware=middleware,
            settled=self._on_settled,
        )
        self._slots = Slots(
            self._executor,
            self._breaker,
            concurrency=concurrency,
            limit=processor.deliveries or settings.deliveries,
            done=self._settlement.add,
            begin=self._begin,
            lost=lambda delivery: self._on_lost({delivery}),
            ended=self._on_loop_ended,
        )
        self._readers: dict[str, Reader] = {}  # by source
        for lane in LANES:
            sources = [keys.stream(stream, lane) for stream in processor.streams]
            if lane == "normal":
                sources.insert(0, keys.inbox(group))
            elif not sources:
                continue  # a processor of schedules alone
            reader = Reader(
                connections,
                keys,
                group=group,
                consumer=self.name,
                sources=sources,
                concurrency=concurrency,
                reconnect=self._reconnect,
                ensure_groups=self._membership.ensure_groups,
                feed=self._feed,
                held=self._held_entries,
            )
            self._readers |= dict.fromkeys(sources, reader)
        self._reclaimer = Reclaimer(
            connections,
            keys,
            group=group,
            consumer=self.name,
            sources=self.sources,
            suspect=self._slots.suspect_from,
            reconnect=self._reconnect,
            fresh=self._leases.fresh,
            room=lambda source: self._readers[source].room_to_reclaim(),
            feed=self._feed,
        )
        self._mover = Mover(connections, keys, self._reconnect)
        self._upkeep = Upkeep(client, processor)
        self._scheduler = Scheduler(processor, client, self._reconnect, middleware) if processor.schedules else None
        self._control = Control(
            connections,
            keys,
            group=group,
            reconnect=self._reconnect,
            call_off=self._call_off,
            pause=self._pause,
        )
        self._sharing: asyncio.Task[None] | None = None
        self._shared_ready, self._shared_done = asyncio.Event(), asyncio.Event()
        self._loops: list[asyncio.Task[None]] = []
        self._draining = False

    async def on_start(self) -> None:
        """Waits for a Redis that is away, refuses one that is unsafe, then begins to consume."""
        while not self.should_stop:
            try:
                await self._client.check()
                break
            except Unreachable as error:
                await self.wait(self._reconnect.failed(error.__cause__ or error))
        if self.should_stop:
            return
        self._reconnect.succeeded()
        await self._membership.ensure_groups()
        await self._control.begin()
        self._leases.start()
        self._sharing = asyncio.get_running_loop().create_task(self._share())
        await self._shared_ready.wait()
        self._reading = [self._spawn(reader.run()) for reader in dict.fromkeys(self._readers.values())]
        self._settling = self._spawn(self._settlement.run())
        for work in (self._reclaimer.run(), self._mover.run(), self._upkeep.run(), self._control.run()):
            _ = self._spawn(work)
        log.info(
            "consumer.started",
            group=self._group,
            consumer=self.name,
            redis=self._connections.place,
            events=sorted(self.processor.subscriptions),
        )

    async def _share(self) -> None:
        """Keeps what handlers share open; a task of its own, as it must be opened and closed in one context, and the
        slots inherit that context.
        """
        async with SharedContext():
            current_streams.set(self._client)
            self._slots.start()
            if self._scheduler is not None:
                _ = self._spawn(self._scheduler.run())
            self._shared_ready.set()
            await self._shared_done.wait()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(self._on_loop_ended)
        self._loops.append(task)
        return task

    def _on_loop_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None and not self._draining:
            # Not waited out by the loop itself: a refusal or a bug. The process ends and is started again.
            if not isinstance(error, Refused):
                log.error("consumer.crashed", group=self._group, exc_info=error)
            self._loops.append(asyncio.get_running_loop().create_task(self.crash(error)))

    def _wake(self) -> None:
        self._slots.wake()

    def _feed(self, deliveries: list[Delivery]) -> None:
        self._count(deliveries, Reader.took)
        self._leases.hold(deliveries)
        self._slots.feed(deliveries)
        for delivery in self._control.called_off(deliveries):
            self._slots.call_off(delivery)

    def _call_off(self, source: str, entry_id: bytes) -> None:
        """Somebody called a delivery off: it is stopped if it is here."""
        for delivery in self._leases.held:
            if delivery.entry_id == entry_id and delivery.source == source:
                self._slots.call_off(delivery)
                return

    def _pause(self, on: bool) -> None:
        if on is self._slots.paused:
            return
        log.warning("group.paused" if on else "group.resumed", group=self._group)
        self._slots.paused = on
        for reader in dict.fromkeys(self._readers.values()):
            reader.pause(on)
        self._slots.wake()

    def _count(self, deliveries: Iterable[Delivery], tell: Callable[[Reader, int], None]) -> None:
        for source, count in Counter(delivery.source for delivery in deliveries).items():
            tell(self._readers[source], count)

    def _held_entries(self, source: str) -> set[bytes]:
        return {delivery.entry_id for delivery in self._leases.held if delivery.source == source}

    async def _begin(self, delivery: Delivery) -> bool:
        await self._settlement.flush()
        return delivery.counted or await self._membership.begin(delivery)

    def _on_lost(self, deliveries: set[Delivery]) -> None:
        """Leases that somebody else has now: stop working on them, settle nothing of them."""
        # What has just been settled is not pending any more either, and its settlement may not be back yet.
        lost = {delivery for delivery in deliveries & self._leases.held if not delivery.settling}
        if lost:
            log.warning("delivery.lease_lost", group=self._group, count=len(lost), ids=[d.message.id for d in lost][:5])
            self._leases.drop(lost)
            self._slots.abandon(lost)
            self._count(lost, Reader.settled)

    def _on_settled(self, settled: Sequence[tuple[Delivery, Outcome]], lost: set[Delivery]) -> None:
        # Those that were lost meanwhile have been dropped, and counted, already.
        held = [delivery for delivery, _ in settled if delivery in self._leases.held]
        self._leases.drop(held)
        self._count(held, Reader.settled)
        for _, outcome in settled:
            if isinstance(outcome, Retried | Snoozed):
                self._mover.nudge(outcome.after)
        if lost:
            log.warning("delivery.fenced", group=self._group, count=len(lost), ids=[d.message.id for d in lost][:5])

    async def on_stop(self) -> None:
        """Stops reading, finishes what runs, hands back what did not start, and leaves the group."""
        self._draining = True
        if self._loops and not self._settling.done():
            await asyncio.gather(*(reader.stop() for reader in dict.fromkeys(self._readers.values())))
            await asyncio.wait(self._reading, timeout=self._settings.block + 5)
            handed_back = len(self._leases.held) - self._slots.running
            await self._slots.drain(self._settings.grace)
            try:
                async with asyncio.timeout(5.0):
                    await self._settlement.flush()
            except TimeoutError:
                log.warning("consumer.not_settled", group=self._group, count=len(self._leases.held))
            log.info("consumer.drained", group=self._group, consumer=self.name, handed_back=handed_back)
        await self._end()

    async def _end(self) -> None:
        if self._loops:
            await end_tasks(self._loops)
            await self._slots.stop()
        self._breaker.stop()
        await self._leases.stop()
        if self._loops:
            await self._membership.leave()
        if self._sharing is not None:
            self._shared_done.set()
            await asyncio.wait([self._sharing], timeout=10.0)
        for reader in dict.fromkeys(self._readers.values()):
            await reader.aclose()
        for part in (self._reclaimer, self._mover, self._settlement, self._membership):
            await part.aclose()
        await self._client.aclose()
