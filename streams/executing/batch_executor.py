"""Batch executor: takes many deliveries from their bytes to their outcomes by one call of a handler.

A failure of one of them is settled for that one alone. A message that cannot be given to the handler leaves the batch
before the call, and is executed as a single delivery.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from streams.executing.batch_collector import Collector
from streams.executing.executor import Executor, Undeliverable, expired
from streams.executing.failure_policy import signal
from streams.executing.handler_task import wait_for_lease
from streams.handlers.batch import BatchFailed
from streams.logs import get_logger
from streams.messages.delivery import Delivery, current_batch, current_delivery
from streams.messages.error_text import describe, leaves, passes
from streams.messages.message import DATA, EXPIRES
from streams.messages.middleware import Middleware, NoOutcome, batch_chain
from streams.messages.outcome import ACKED, OUTCOMES, Acked, Cancelled, Outcome, Retry, Snooze, Unavailable

if TYPE_CHECKING:
    from streams.events.event import Event
    from streams.executing.batch_collector import RunningBatch
    from streams.executing.handler_task import HandlerTask
    from streams.executing.priority_queue import PriorityQueue

log = get_logger("streams.batches")


class BatchExecutor:
    """Executes the bundles of one processor."""

    @classmethod
    def of(
        cls,
        executor: Executor,
        middleware: Sequence[Middleware],
        queue: PriorityQueue,
    ) -> BatchExecutor | None:
        """Those of a processor that has batch handlers; None otherwise."""
        collector = Collector(executor.routes.values(), queue)
        return cls(executor, collector, middleware, queue) if collector.sizes else None

    def __init__(
        self, executor: Executor, collector: Collector, middleware: Sequence[Middleware], queue: PriorityQueue
    ) -> None:
        self.collector = collector
        self.running = 0  # deliveries in handlers: the readers hold as many more, so that the next batches fill
        self._executor = executor
        self._middleware = middleware
        self._queue = queue

    async def run(self, slot: HandlerTask, bundle: RunningBatch) -> list[Outcome]:
        """Runs a bundle in a slot; returns the outcomes of `bundle.deliveries`, none when they are handled alone, or
        when nothing of them may be settled.
        """
        count = len(bundle.deliveries)
        self.running += count
        bundle.deliveries[0].holder.batch_began()
        try:
            await wait_for_lease(bundle.deliveries, bundle.lost)
            if bundle.lost:
                bundle.deliveries = [delivery for delivery in bundle.deliveries if delivery not in bundle.lost]
            self._executor.expect(bundle.route)
            bundle.begin(monotonic() + bundle.route.timeout)
            outcomes = await self._execute(slot, bundle)
        except asyncio.CancelledError:
            ended = slot.ended(bundle.route.timeout)
            if isinstance(ended, Exception):
                return self._failed(bundle, ended)
            return [ended] * len(bundle.deliveries) if ended is not None else []
        else:
            return outcomes
        finally:
            self.running -= count

    async def _execute(self, slot: HandlerTask, bundle: RunningBatch) -> list[Outcome]:
        events = await self._events(bundle)
        deliveries = bundle.deliveries
        if not deliveries:
            return []
        current_delivery.set(None)
        current_batch.set(tuple(deliveries))
        try:
            found = await batch_chain(self._middleware, partial(self._handle, bundle, events))(deliveries)
            outcomes = list(found or ())
            if len(outcomes) != len(deliveries) or not all(outcome.__class__ in OUTCOMES for outcome in outcomes):
                raise NoOutcome(found)
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises is an outcome: a panic, sys.exit()
            if not slot.may_take(error):
                through = passes(error)
                raise (error if through is None else through) from None
            return self._failed(bundle, error)
        else:
            return outcomes

    async def _events(self, bundle: RunningBatch) -> list[Event]:
        """The events of those that can be handled; the others leave the bundle."""
        executor, route, events, kept = self._executor, bundle.route, [], []
        claimed = (
            [delivery for delivery in bundle.deliveries if executor.is_claimed(delivery)] if executor.claims else []
        )
        fetched: dict[Delivery, Any] = {}
        if claimed:
            found = await asyncio.gather(*map(executor.fetch, claimed), return_exceptions=True)
            fetched = dict(zip(claimed, found, strict=True))
        for delivery in bundle.deliveries:
            message = delivery.message
            data = fetched.get(delivery, message.values[DATA]) if claimed else message.values[DATA]
            try:
                if (
                    isinstance(data, BaseException)
                    or len(message.values[DATA]) > executor.max_bytes
                    or (len(message.values) > EXPIRES and expired(message) is not None)
                ):
                    self.collector.set_aside(delivery)
                    continue
                events.append(executor.decode(delivery, route, data))
            except Undeliverable:
                self.collector.set_aside(delivery)
            else:
                kept.append(delivery)
        if len(kept) < len(bundle.deliveries):
            bundle.deliveries = kept
            self._queue.wake()
        return events

    async def _handle(
        self, bundle: RunningBatch, events: list[Event], deliveries: Sequence[Delivery]
    ) -> Sequence[Outcome]:
        executor, call = self._executor, bundle.route.call_batch
        assert call is not None
        outcomes: list[Outcome] = [ACKED] * len(deliveries)
        try:
            result = await call(events)
        except (Exception, BaseExceptionGroup) as error:
            decides = signal(error)
            if issubclass(type(decides), Retry | Snooze | Unavailable):  # not now: no reason to try each alone
                return [executor.failed(delivery, error) for delivery in deliveries]
            if not issubclass(type(decides), BatchFailed) or len(leaves(error)) > 1:
                raise
            failures = cast("BatchFailed", decides)
            for position, failed in failures.errors.items():
                outcomes[_checked(position, events)] = executor.failed(deliveries[position], failed)
            result = failures.follow_ups
        if result is not None and inspect.isawaitable(result):
            result = await result
        if result is not None:
            await self._follow_ups(deliveries, outcomes, result)
        return outcomes

    async def _follow_ups(self, deliveries: Sequence[Delivery], outcomes: list[Outcome], result: Any) -> None:
        """Puts follow-ups into the outcomes: of the event that has caused them if the handler says which, else of all
        that were acked, with the first of them as the cause. What failed has none. A key that is no position, as in
        `{"success": True}`, is a mistake in what is returned, and the batch is done.
        """
        if isinstance(result, Mapping):
            placed = {at: of_one for at, of_one in result.items() if _is_position(at, outcomes)}
            for position, of_one in placed.items():
                if outcomes[position] is ACKED and of_one is not None:
                    outcomes[position] = await self._acked(deliveries[position], of_one)
            if len(placed) == len(result):
                return
            result = [result, *(of_one for at, of_one in result.items() if at not in placed)]
        acked = [position for position, outcome in enumerate(outcomes) if outcome is ACKED]
        if acked and (messages := await self._executor.follow_ups(deliveries[acked[0]], result)):
            shared = Acked(messages, shared=True)
            for position in acked:
                outcomes[position] = shared

    async def _acked(self, delivery: Delivery, result: Any) -> Outcome:
        try:
            return Acked(await self._executor.follow_ups(delivery, result))
        except Exception as error:  # noqa: BLE001 - one of its follow-ups: the others of the batch are done
            return self._executor.failed(delivery, error)

    def _failed(self, bundle: RunningBatch, error: BaseException) -> list[Outcome]:
        """Decides what becomes of a bundle that failed as a whole: each of its events is handled alone."""
        deliveries = bundle.deliveries
        if len(deliveries) == 1:
            return [self._executor.failed(deliveries[0], error)]
        log.warning("batch.handled_singly", group=deliveries[0].group, count=len(deliveries), error=describe(error))
        for delivery in deliveries:
            if delivery in bundle.cancelled:
                delivery.holder.settle(delivery, Cancelled())
            elif delivery not in bundle.lost:
                self.collector.set_aside(delivery)
        bundle.deliveries = []
        return []

    def settle(self, bundle: RunningBatch, outcomes: Sequence[Outcome]) -> None:
        """Settles what is still ours. What was cancelled meanwhile and is not done will not come again."""
        settled = list(zip(bundle.deliveries, outcomes, strict=True))
        if bundle.lost:
            settled = [pair for pair in settled if pair[0] not in bundle.lost]
        if bundle.cancelled:
            settled = [
                (delivery, outcome if isinstance(outcome, Acked) or delivery not in bundle.cancelled else Cancelled())
                for delivery, outcome in settled
            ]
        if settled:  # all of one partition
            settled[0][0].holder.settle_batch(settled)


def _is_position(position: Any, of: Sequence[object]) -> bool:
    return isinstance(position, int) and not isinstance(position, bool) and 0 <= position < len(of)


def _checked(position: Any, of: Sequence[object]) -> int:
    if not _is_position(position, of):
        raise TypeError(f"{str(position)[:100]!r} is no position in a batch of {len(of)}")
    return int(position)
