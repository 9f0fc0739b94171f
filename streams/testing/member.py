"""Member: a consumer of one processor in a harness: the engine's executor, slots, breaker, batches, settlement and
schedules, without the loops that wait for Redis: the harness says when it reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import TYPE_CHECKING, Final

from uncalled_for import SharedContext

from streams import admission, scripts
from streams.batches import Batches
from streams.breaker import Breaker
from streams.delivery import Delivery, suspect_from
from streams.dependencies import current_streams
from streams.errors import StreamsError
from streams.executor import Executor
from streams.gate import Gate
from streams.keys import LANES
from streams.message import Message
from streams.outcome import Cancelled
from streams.reconnect import Reconnect
from streams.scheduler import Scheduler
from streams.settlement import Settlement
from streams.slots import Slots
from streams.testing.crash import Crash
from streams.testing.delivering import read_group
from streams.testing.store import Hash, Names

if TYPE_CHECKING:
    from streams.middleware import Middleware
    from streams.outcome import Outcome
    from streams.processor import Processor
    from streams.testing.harness import Harness

_SPINS: Final = 50  # turns of the event loop before it is taken for granted that a handler waits for something real
_PATIENCE: Final = 0.001  # seconds


class Member:
    """One incarnation of a processor's consumer."""

    def __init__(
        self,
        processor: Processor,
        harness: Harness,
        *,
        name: str,
        random: Callable[[], float],
        middleware: Sequence[Middleware],
    ) -> None:
        self.processor = processor
        self.group = group = processor.name
        self.name = name
        self._harness = harness
        self._keys = harness.keys
        partition = harness.partitions[0]
        settings = harness.settings
        self._call = partition.connections.direct(timeout=0).call
        self._lanes = [[self._keys.stream(stream, lane) for stream in processor.streams] for lane in LANES]
        self._lanes[LANES.index("normal")].insert(0, self._keys.inbox(group))
        self.sources = [source for lane in self._lanes for source in lane]
        self._held: dict[tuple[str, bytes], Delivery] = {}
        self._calls: set[tuple[str, bytes]] = set()
        self.taken = 0
        limit = processor.deliveries or settings.deliveries
        reconnect = Reconnect("memory")
        self._breaker = Breaker(group, self._wake, random)
        executor = Executor(processor, harness, self._breaker, middleware, random)
        self._settlement = Settlement(
            partition.connections,
            self._keys,
            group=group,
            consumer=name,
            reconnect=reconnect,
            middleware=middleware,
            settled=self._on_settled,
            ordered=processor.ordered,
            limited=processor.limited,
        )
        self._serve_at: int | None = None
        self._gate: Gate | None = None
        if processor.limited:
            self._gate = Gate(
                processor,
                partition,
                partition.connections,
                partitions=1,
                consumer=name,
                executor=executor,
                reconnect=reconnect,
                idle=lambda: not self._breaker.closed,
                admitted=self._admit,
                parked=self._drop,
                lost=lambda _: None,
                done=self._settlement.add,
            )
        self._suspect = suspect_from(limit)
        self._slots = Slots(
            executor,
            self._breaker,
            concurrency=processor.concurrency or settings.concurrency,
            limit=limit,
            done=self._settlement.add,
            begin=self._begin,
            lost=lambda _: None,
            ended=self._on_slot_ended,
            stops=self._gate.stops if self._gate is not None else None,
            batches=Batches.of(executor, middleware, wake=self._wake, done=self._settlement.add_together),
        )
        self._scheduler = Scheduler(processor, harness, partition, processor.schedules, reconnect, middleware)
        self._context = copy_context()
        self.crashed = False
        self._problem: BaseException | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._ready, self._ended = asyncio.Event(), asyncio.Event()

    async def open(self) -> None:
        """Joins the group, and takes over what an earlier incarnation held."""
        keys, memory = self._keys, self._harness.memory
        await scripts.ensure_groups(
            self._call, groups=keys.groups(), books=keys.books(), group=self.group, streams=self.sources
        )
        memory.listen(keys.control(self.group), self._hear)
        self._slots.paused = self.group.encode() in memory.store.make(keys.paused(), Names)
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._share()), loop.create_task(self._settlement.run())]
        if self._gate is not None:
            self._tasks.append(loop.create_task(self._gate.ask()))
        await self._ready.wait()
        for source in self.sources:
            _, _, taken = await scripts.reclaim(
                self._call, source,
                group=self.group, consumer=self.name, lease_ms=0, cursor=b"0-0", most=1, suspect=self._suspect,
            )  # fmt: skip
            self._feed(
                [
                    self._delivery(source, entry_id, fields, count, counted=bool(counted))
                    for entry_id, count, counted, fields in taken
                ]
            )

    async def _share(self) -> None:
        # A task of its own, as what is shared must be opened and closed in one context, which the slots inherit.
        async with SharedContext():
            current_streams.set(self._harness)
            self._context = copy_context()
            self._slots.start()
            self._ready.set()
            await self._ended.wait()

    def _hear(self, words: bytes) -> None:
        word, _, rest = words.partition(b" ")
        if word == b"cancel":
            source, _, entry_id = rest.partition(b" ")
            self._calls.add((source.decode(), entry_id))
            self._call_off(self._held.get((source.decode(), entry_id)))
        elif word in (b"pause", b"resume"):
            self._slots.paused = word == b"pause"
            self._wake()

    def beat(self) -> None:
        """Says that it is alive."""
        store = self._harness.memory.store
        store.zset(self._keys.consumers(self.group)).add(self.name.encode(), store.now())
        store.make(self._keys.books(), Hash)[b"seen " + self.group.encode()] = b"%d" % (store.now() // 1000)

    async def take(self) -> int:
        """Reads what is there for the group, high before normal before low; returns how many messages that were."""
        if self._slots.paused:
            return 0
        return sum([await self._take_lane(lane) for lane in self._lanes if lane])

    async def _take_lane(self, lane: list[str]) -> int:
        keys, most = self._keys, self._harness.settings.prefetch
        if self.processor.ordered:
            number, found, _ = await scripts.read_in_turn(
                self._call,
                due=keys.due(), waiting=keys.waiting(), turns=keys.turns(self.group), inbox=keys.inbox(self.group),
                books=keys.books(), streams=lane, group=self.group, consumer=self.name, most=most,
            )  # fmt: skip
            read = [(source.decode(), entries) for source, entries in found]
        else:
            store = self._harness.memory.store
            read = read_group(store, self.group.encode(), self.name.encode(), lane, most)
            number = sum(len(entries) for _, entries in read)
        self._feed(
            [self._delivery(source, entry_id, fields, 1) for source, entries in read for entry_id, fields in entries]
        )
        return number

    def _delivery(
        self, source: str, entry_id: bytes, fields: list[bytes], count: int, *, counted: bool = True
    ) -> Delivery:
        return Delivery(
            Message.decode(entry_id, fields),
            group=self.group, consumer=self.name, source=source, entry_id=entry_id, count=count, counted=counted,
        )  # fmt: skip

    def _feed(self, deliveries: list[Delivery]) -> None:
        if not deliveries:
            return
        self.taken += len(deliveries)
        self._held |= {(delivery.source, delivery.entry_id): delivery for delivery in deliveries}
        self._slots.feed(deliveries)
        self._call_off_some(deliveries)

    def _admit(self, deliveries: list[Delivery]) -> None:
        self._slots.admit(deliveries)
        self._call_off_some(deliveries)

    def _call_off_some(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            if (delivery.source, delivery.entry_id) in self._calls:
                self._call_off(delivery)

    def _call_off(self, delivery: Delivery | None) -> None:
        if delivery is None:
            return
        if self._gate is not None and self._gate.drop({delivery}):
            self._settlement.add(delivery, Cancelled())
        else:
            self._slots.call_off(delivery)

    async def quiet(self) -> None:
        """Returns when every handler has ended, its outcome is settled and nothing else can begin; or when it has
        crashed. No time passes but what handlers themselves wait for.
        """
        spins = 0
        while not self.crashed:
            if self._is_idle():
                await self._settlement.flush()
                if self._is_idle():
                    return
            spins += 1
            await asyncio.sleep(0 if spins < _SPINS else _PATIENCE)
        if self._problem is not None:
            raise self._problem

    def _is_idle(self) -> bool:
        return self._slots.is_idle() and (self._gate is None or self._gate.is_quiet)

    async def _begin(self, delivery: Delivery) -> bool:
        await self._settlement.flush()
        return delivery.counted or await scripts.begin(
            self._call, delivery.source,
            group=self.group, consumer=self.name, entry_id=delivery.entry_id, count=delivery.count,
        )  # fmt: skip

    def _on_settled(self, settled: Sequence[tuple[Delivery, Outcome]], lost: set[Delivery]) -> None:
        self._drop([delivery for delivery, _ in settled])
        if lost:
            self._problem = StreamsError(f"the harness has lost {lost}: that is its own mistake, please report it")
            self.crashed = True

    def _drop(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            self._held.pop((delivery.source, delivery.entry_id), None)

    def _on_slot_ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        self.crashed = True
        if not isinstance(error, Crash):
            self._problem = error

    def _wake(self) -> None:
        self._slots.wake()

    @property
    def next_due(self) -> int | None:
        """When it has something to do by itself, in ms since 1970: a slot of a schedule, or a limit that opens."""
        return min((at for at in (self._scheduler.next_slot(), self._serve_at) if at is not None), default=None)

    async def serve(self) -> None:
        """Lets in who stands in line at a limit, where enough time has passed."""
        if self._gate is not None and self._breaker.closed:
            wait = await admission.serve(self._call, self._keys, group=self.group)
            self._serve_at = self._harness.memory.store.now() + wait if wait >= 0 else None

    async def fire(self) -> None:
        """Fires the slots that have come."""
        if self.processor.schedules:
            # In the context of what is shared, as schedules may depend on it.
            await asyncio.get_running_loop().create_task(self._scheduler.fire_all(), context=self._context)

    async def aclose(self) -> None:
        """Ends it at once. What is in hand is not settled."""
        self._harness.memory.listen(self._keys.control(self.group), lambda _: None)
        await self._slots.stop()
        self._breaker.stop()
        self._ended.set()
        if self._tasks:
            await asyncio.wait(self._tasks[:1])
            for task in self._tasks[1:]:
                task.cancel()
            await asyncio.wait(self._tasks)
