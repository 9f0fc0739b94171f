"""Worker: a consumer of one processor, which handles one delivery at a time and never waits."""

from __future__ import annotations

import asyncio
import random
from contextvars import Context
from typing import TYPE_CHECKING, Final

from streams.breaker import Breaker
from streams.delivery import Delivery
from streams.errors import StreamsError
from streams.executor import Executor, HandlerCancelled, HandlerTimeout
from streams.lanes import Lanes
from streams.message import Message
from streams.outcome import Cancelled, DeadLettered, Outcome
from streams.testing.settling import Settling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streams.client import Streams
    from streams.middleware import Middleware
    from streams.processor import Processor
    from streams.testing.clock import VirtualClock
    from streams.testing.memory import Memory

_CONSUMER: Final = "harness"


class _Executor(Executor):
    """The engine's, with the dice of the harness: only the decisions are seeded, not the handlers."""

    dice: random.Random

    def failed(self, delivery: Delivery, error: BaseException) -> Outcome:
        before = random.getstate()
        random.setstate(self.dice.getstate())
        try:
            return super().failed(delivery, error)
        finally:
            self.dice.setstate(random.getstate())
            random.setstate(before)


class Worker:
    """Reads what is new to its group and handles it; a turn is one delivery."""

    def __init__(
        self,
        processor: Processor,
        client: Streams,
        memory: Memory,
        clock: VirtualClock,
        dice: random.Random,
        middleware: Sequence[Middleware],
    ) -> None:
        for type, subscription in processor.subscriptions.items():
            for option in ("batch", "limit"):
                if getattr(subscription, option) is not None:
                    raise StreamsError(
                        f"processor {processor.name}, {type}: {option}= is not modelled by the harness; "
                        "test it against a Redis (docs/testing.md)"
                    )
        self.group = processor.name
        self._memory = memory
        self._limit = processor.deliveries or client.settings.deliveries
        self._breaker = Breaker(self.group, lambda: None, clock)
        self._executor = _Executor(processor, client, self._breaker, middleware)
        self._executor.dice = dice
        self._settling = Settling(client, memory, self.group, _CONSUMER, middleware)
        self._lanes = Lanes()
        self._running: tuple[Delivery, asyncio.Task[Outcome]] | None = None
        self._called_off = False
        self._crashes: list[bool] = []
        self._calls: set[tuple[str, bytes]] = set()
        keys = memory.keys
        lanes = [key for stream in processor.streams for key in keys.lanes(stream)]
        memory.groups[self.group] = [*lanes, keys.inbox(self.group)]
        if processor.ordered:
            memory.ordered.add(self.group)

    def crash(self, times: int, *, after: bool) -> None:
        """The process dies during its next deliveries: before their handler begins, or after it has ended."""
        self._crashes += [after] * times

    async def turn(self, context: Context) -> bool:
        """Handles one delivery; says whether there was one."""
        if self.group in self._memory.paused or self._running is not None:
            return False
        for source, (entry_id, fields) in self._memory.read(self.group):
            self._lanes.put(self._delivery(source, entry_id, fields, 1))
        if not self._lanes or not self._breaker.admits():
            return False
        delivery = self._lanes.take()
        assert delivery is not None
        if (delivery.source, delivery.entry_id) in self._calls:
            self._calls.discard((delivery.source, delivery.entry_id))
            await self._settling.settle([(delivery, Cancelled())])
            return True
        await self._handle(delivery, context)
        return True

    async def _handle(self, delivery: Delivery, context: Context) -> None:
        outcome: Outcome
        if delivery.crashes >= self._limit:
            outcome = DeadLettered("crashed", f"its process died {delivery.crashes} times while it was being handled")
        else:
            dies = self._crashes.pop(0) if self._crashes else None
            if dies is not False:
                outcome = await self._execute(delivery, context)
            if dies is not None:
                self._die(delivery)
                return
        if not self._breaker.closed:
            self._breaker.concluded(outcome)
        await self._settling.settle([(delivery, outcome)])

    async def _execute(self, delivery: Delivery, context: Context) -> Outcome:
        self._called_off = False
        task = asyncio.get_running_loop().create_task(self._deliver(delivery), context=context.copy())
        self._running = delivery, task
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.done():  # the test is being ended, not the handler
                task.cancel()
                await asyncio.wait([task])
                raise
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise
            if self._called_off:
                return Cancelled()
            return self._executor.failed(delivery, HandlerCancelled("what the handler waited for was cancelled"))
        except Exception as error:  # noqa: BLE001 - a middleware: handlers' errors are outcomes already
            return self._executor.failed(delivery, error)
        finally:
            self._running = None

    async def _deliver(self, delivery: Delivery) -> Outcome:
        limit = self._executor.route(delivery)
        try:
            async with asyncio.timeout(limit):
                return await self._executor.execute(delivery)
        except TimeoutError:
            return self._executor.failed(delivery, HandlerTimeout(f"the handler took longer than {limit:g} s"))

    def _die(self, delivery: Delivery) -> None:
        """What ran is delivered again and counted; what the process held beside it is not blamed for its death."""
        count = self._memory.begin(self.group, delivery.source, delivery.entry_id)
        again = Message.decode(delivery.entry_id, delivery.message.encode())
        again.carried = delivery.message.carried
        self._lanes.put(
            Delivery(
                again, group=self.group, consumer=_CONSUMER, source=delivery.source, entry_id=delivery.entry_id,
                count=count,
            )
        )  # fmt: skip

    def _delivery(self, source: str, entry_id: bytes, fields: list[bytes], count: int) -> Delivery:
        return Delivery(
            Message.decode(entry_id, fields),
            group=self.group, consumer=_CONSUMER, source=source, entry_id=entry_id, count=count,
        )  # fmt: skip

    async def call_off(self, source: str, entry_id: bytes) -> None:
        """Stops what this consumer holds, whether its handler runs or not."""
        if self._running is not None:
            delivery, task = self._running
            if (delivery.source, delivery.entry_id) == (source, entry_id):
                self._called_off = True
                task.cancel()
                return
        for delivery in self._lanes.take_all():
            if (delivery.source, delivery.entry_id) == (source, entry_id):
                await self._settling.settle([(delivery, Cancelled())])
            else:
                self._lanes.put(delivery)

    def call_off_unread(self, source: str, entry_id: bytes) -> None:
        """Notes an entry that it must not begin when it comes to it: another group still runs it."""
        self._calls.add((source, entry_id))

    def stop(self) -> None:
        """Ends the breaker's timer."""
        self._breaker.stop()

    async def aclose(self) -> None:
        """Closes what the settlement never opened."""
        self.stop()
        await self._settling.aclose()
