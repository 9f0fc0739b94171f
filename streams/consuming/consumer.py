"""Consumer: one process incarnation's membership of a group, from its first heartbeat to its retirement.

It has a part in each partition, which brings deliveries and makes their outcomes durable, and one pool of slots, which
run the deliveries of all partitions.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from mode import Service
from uncalled_for import SharedContext

from streams.consuming.maintenance import Maintenance
from streams.consuming.membership import new_consumer_name
from streams.consuming.partition_consumer import PartitionConsumer
from streams.errors import LoginRefused, Refused, StreamsError, Unreachable
from streams.executing.batch_executor import BatchExecutor
from streams.executing.calls import ScheduleCalls
from streams.executing.circuit_breaker import Breaker
from streams.executing.executor import Executor
from streams.executing.handler_pool import HandlerPool
from streams.executing.priority_queue import PriorityQueue
from streams.handlers.dependencies import current_app
from streams.logs import get_logger
from streams.messages.error_text import Failure
from streams.redis.keys import partition_of
from streams.scheduling.scheduler import Scheduler

if TYPE_CHECKING:
    from random import Random

    from streams.client.client import Streams
    from streams.consuming.watchdog import Watchdog
    from streams.handlers.processor import Processor
    from streams.messages.middleware import Middleware
    from streams.scheduling.schedule import Schedule

log = get_logger("streams.consumer")

silent: Final = logging.getLogger("streams.mode")
silent.propagate = False
silent.addHandler(logging.NullHandler())


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

    logger = silent  # mode's lines repeat the engine's, and show errors with the values in them

    def __init__(
        self,
        processor: Processor,
        client: Streams,
        *,
        middleware: Sequence[Middleware] = (),
        watchdog: Watchdog | None = None,
        rng: Random | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.processor = processor
        self.name = new_consumer_name()
        self._client = client
        self._group, self._settings = processor.name, client.settings
        concurrency = processor.concurrency or client.settings.concurrency
        if processor.reserved >= concurrency:
            raise StreamsError(
                f"processor {self._group}: reserved={processor.reserved} of {concurrency} leaves no handler for what "
                "is not high; raise the concurrency, or reserve fewer"
            )
        limit = processor.deliveries or client.settings.deliveries
        queue = PriorityQueue()
        self._breaker = Breaker(self._group, queue, rng)
        self._executor = Executor(processor, client, self._breaker, middleware, watchdog=watchdog, rng=rng)
        batches = BatchExecutor.of(self._executor, middleware, queue)
        self._pool = HandlerPool(processor, self._executor, queue, batches, self, concurrency=concurrency, limit=limit)
        self._parts = [
            PartitionConsumer(self, client, partition.number, self._pool, middleware, watchdog)
            for partition in client.partitions
        ]
        self._maintenance = Maintenance(client, processor)
        self._schedulers = [
            Scheduler(
                processor.name,
                client,
                partition,
                schedules,
                ScheduleCalls(processor, client),
                part.member.reconnect,
                middleware,
            )
            for partition, part in zip(client.partitions, self._parts, strict=True)
            if (schedules := _schedules_in(part.number, len(self._parts), processor))
        ]
        self._sharing: asyncio.Task[None] | None = None
        self._shared_ready, self._shared_done = asyncio.Event(), asyncio.Event()
        self._loops: list[asyncio.Task[None]] = []
        self._draining = self._crashing = False
        self._paused_in: set[int] = set()

    async def on_start(self) -> None:
        """Waits for a Redis that is away, refuses one that is unsafe, then begins to consume."""
        reconnect = self._parts[0].member.reconnect
        while not self.should_stop:
            try:
                await self._client.check()
                break
            except (Unreachable, LoginRefused) as error:
                await self.wait(reconnect.failed(error.__cause__ or error))
        if self.should_stop:
            return
        reconnect.succeeded()
        await asyncio.gather(*(part.begin() for part in self._parts))
        self._sharing = asyncio.get_running_loop().create_task(self._share(), name="what handlers share")
        self._sharing.add_done_callback(self.on_task_ended)
        await self._shared_ready.wait()
        for part in self._parts:
            part.run(self._spawn)
        _ = self._spawn(self._maintenance.run())
        log.info(
            "consumer.started",
            group=self._group, consumer=self.name, redis=self._client.connections.place, partitions=len(self._parts),
            events=sorted(self.processor.subscriptions),
        )  # fmt: skip

    async def _share(self) -> None:
        """Keeps what handlers share open; a task of its own, as it must be opened and closed in one context, and the
        slots inherit that context.
        """
        async with SharedContext():
            current_app.set(self._client)
            await self._begin_to_share()
            self._shared_ready.set()
            await self._shared_done.wait()

    async def _begin_to_share(self) -> None:
        self._pool.start()
        for scheduler in self._schedulers:
            _ = self._spawn(scheduler.run())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=getattr(work, "__qualname__", None))
        task.add_done_callback(self.on_task_ended)
        self._loops.append(task)
        return task

    def on_task_ended(self, task: asyncio.Task[None]) -> None:
        """Ends the consumer, which would stand still in silence. The crash first: a line may never be written."""
        if self._draining or self._crashing:
            return
        self._crashing, name = True, task.get_name()
        how = "was cancelled by other code of this process" if task.cancelled() else "came to its end"
        ended = StreamsError(f"the consumer of {self._group} cannot go on: its task {name} {how}")
        error = ended if task.cancelled() else task.exception() or ended
        self._loops.append(asyncio.get_running_loop().create_task(self.crash(error)))
        if not isinstance(error, Refused):
            log.error("consumer.crashed", group=self._group, task=name, exception=Failure(error).traceback)

    def pause(self, partition: int, on: bool) -> None:
        """Notes whether the group is paused in one partition."""
        # Paused while one partition says so: each is told by itself, and one that is away is told later.
        (self._paused_in.add if on else self._paused_in.discard)(partition)
        on = bool(self._paused_in)
        if on is self._pool.paused:
            return
        log.warning("group.paused" if on else "group.resumed", group=self._group)
        self._pool.paused = on
        for part in self._parts:
            part.pause(on)
        self._pool.wake()

    async def flush(self) -> None:
        """Returns when every outcome so far is durable, in all partitions."""
        for part in self._parts:
            await part.settlement.flush()

    async def on_stop(self) -> None:
        """Stops reading, finishes what runs, hands back what did not start, and leaves the group."""
        self._draining = True
        if any(part.settles for part in self._parts):
            await asyncio.gather(*(part.stop_reading(self._settings.block + 5) for part in self._parts))
            await asyncio.gather(*(part.limiter.close(5.0) for part in self._parts if part.limiter is not None))
            await self._pool.drain(self._settings.grace)
            try:
                async with asyncio.timeout(5.0):
                    await asyncio.gather(*(part.settlement.flush() for part in self._parts if part.settles))
            except TimeoutError:
                log.warning("consumer.not_settled", group=self._group, count=self._held())
            about = {"group": self._group, "consumer": self.name}
            if left := self._pool.in_handlers():
                log.warning("consumer.left_running", **about, count=left)
            log.info("consumer.drained", **about, handed_back=sum(part.handed_back for part in self._parts))
        await self._end()

    @property
    def longest(self) -> float:
        """The longest timeout of its handlers, in seconds."""
        return self._executor.longest

    def running(self) -> list[float]:
        """The deadlines of the handlers that run (monotonic). May be called by any thread."""
        return [deadline for part in self._parts for deadline in part.leases.running()]

    def forked(self) -> None:
        """In a child of this process: what comes back from the handler that forked it ends the child."""
        self._pool.forked()

    def _held(self) -> int:
        return sum(len(part.leases.held) for part in self._parts)

    async def _end(self) -> None:
        if self._loops:
            await end_tasks(self._loops)
            await self._pool.stop()
        self._breaker.stop()
        await asyncio.gather(*(part.leave() for part in self._parts))
        if self._sharing is not None:
            self._shared_done.set()
            await asyncio.wait([self._sharing], timeout=10.0)
        for part in self._parts:
            await part.aclose()
        await self._client.aclose()


def _schedules_in(number: int, partitions: int, processor: Processor) -> dict[str, Schedule]:
    """The schedules that live in one partition: where events with their key are, else by their name."""
    return {
        name: schedule
        for name, schedule in processor.schedules.items()
        if partition_of(schedule.key or name, partitions) == number
    }
