"""Handler pool: runs the handlers of a consumer in long-lived tasks, and watches their deadlines.

A task per message would cost as much as all other steps together; a handler task takes the next message when it has
finished one. Handlers that wait for nothing are all run by a single task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from sys import getrefcount
from time import monotonic
from typing import TYPE_CHECKING, Final

from streams.executing.batch_collector import RunningBatch
from streams.executing.dead_letter_call import DeadLetterCalls
from streams.executing.executor import Executor
from streams.executing.handler_task import UNINTERRUPTED, HandlerTask, finish, wait_for_lease, watch_deadlines
from streams.executing.suspects import Suspects
from streams.executing.threads import Contexts, go_on_in, run_in
from streams.handlers.child_processes import end_child
from streams.messages.delivery import Delivery
from streams.messages.middleware import NoOutcome
from streams.messages.outcome import ACKED, OUTCOMES, RELEASED, Cancelled, DeadLettered, Outcome

if TYPE_CHECKING:
    from streams.executing.batch_executor import BatchExecutor
    from streams.executing.handler_task import Supervisor
    from streams.executing.priority_queue import PriorityQueue
    from streams.handlers.processor import Processor

_TURN: Final = 0.02  # seconds after which handlers that never wait give way to reading, settling and signals


class HandlerPool:
    """Runs deliveries, at most `concurrency` at once, and gives each outcome to the delivery's holder. What is not of
    the high lane begins only while more than `reserved` slots of its processor are free.

    Suspects run alone: every other handler has finished and settled before one starts, so that if it kills the process
    again, nothing else is hit.
    """

    def __init__(
        self,
        processor: Processor,
        executor: Executor,
        queue: PriorityQueue,
        batches: BatchExecutor | None,
        supervisor: Supervisor,
        *,
        concurrency: int,
        limit: int,
    ) -> None:
        self.batches = batches
        self._collector = batches.collector if batches is not None else None
        self.executor = executor
        self._breaker = executor.breaker
        self._limited = processor.limited
        self._supervisor = supervisor
        self.concurrency = concurrency
        self._tasks = [HandlerTask(supervisor) for _ in range(concurrency)]
        self._shared = concurrency - processor.reserved
        self.ready = queue
        self._dead_letter_calls = DeadLetterCalls(executor, limit=limit)
        self._suspects = Suspects(executor, limit)
        self._alone = self.paused = False
        self._taking = True
        self.running = 0
        self.moved = monotonic()  # when something last began, or ended with its batch
        self._watch: asyncio.Task[None] | None = None
        self.suspect_from = self._suspects.threshold

    def start(self) -> None:
        """Starts the tasks. Each delivery has a context like the one in which this is called."""
        self._contexts = Contexts()
        for slot in self._tasks:
            slot.start(self._run(slot))
        self._watch = asyncio.get_running_loop().create_task(watch_deadlines(self._tasks), name="deadlines")
        self._watch.add_done_callback(self._supervisor.on_task_ended)

    def feed(self, deliveries: Sequence[Delivery]) -> None:
        """Hands over what was read from one lane, in order."""
        if self._collector is not None:
            deliveries = self._collector.collect(deliveries, self.suspect_from)
        fresh = [d for d in deliveries if d.count == 1 and d.message.carried is None and d.counted]
        if len(fresh) != len(deliveries):
            for delivery in deliveries:
                if delivery.suspected(self.suspect_from):
                    if not self._limited or not delivery.holder.needs_permit(delivery):
                        self._suspects.put(delivery)
                else:
                    self.ready.put(delivery)
        elif fresh:
            self.ready.put_all(fresh)
        self.wake()

    def admit(self, deliveries: Sequence[Delivery]) -> None:
        """Hands over what has asked and may start: it is next."""
        for delivery in deliveries:
            if not self._taking:
                delivery.holder.settle(delivery, RELEASED)
            elif delivery.suspected(self.suspect_from):
                self._suspects.put(delivery)
            else:
                self.ready.put_first(delivery)
        self.wake()

    def wake(self) -> None:
        """Lets one idle slot look for work."""
        self.ready.wake()

    def _next(self) -> Delivery | RunningBatch | None:
        if not self._taking or self._alone or self.paused:
            return end_child() if self.executor.forked else None
        if self._suspects.waiting:
            if self.running or not self._breaker.admits():
                return None
            self._alone = True
            return self._suspects.take()
        if self.running >= self._shared:
            return self.ready.take_high() if self._breaker.closed else None
        if self._collector is not None and self._collector.is_next(others_wait=bool(self.ready)):
            return self._collector.take() if self._breaker.closed or self._breaker.admits() else None
        if self._breaker.closed or (self.ready and self._breaker.admits()):
            return self.ready.take()
        return None

    async def _run(self, slot: HandlerTask) -> None:
        executor, breaker, queue, task = self.executor, self._breaker, self.ready, slot.task
        assert task is not None
        references, new_context = getrefcount(task), self._contexts.new
        turn_began = monotonic()
        while True:
            if slot.cancelled or task.cancelling() or getrefcount(task) > references:
                # It was cancelled, or something that a handler left behind has it and may cancel it yet: a timer,
                # another task. That must not hit the next delivery, or end this slot.
                slot.start(self._run(slot))
                return
            now = monotonic()
            if now - turn_began > _TURN:
                await asyncio.sleep(0)
                turn_began = now = monotonic()
            if (delivery := self._next()) is None:
                await queue.wait()
                turn_began = monotonic()
                continue
            if queue.idle and not queue.waking and self._has_more(self.running + 1):
                queue.wake()
            if isinstance(delivery, RunningBatch):
                assert self.batches is not None
                self.running += 1
                await self._run_bundle(self.batches, slot, delivery)
                continue
            if self._limited and not self._alone and delivery.holder.needs_permit(delivery):
                if not breaker.closed:
                    breaker.concluded(None)  # it was let through to try, and does not
                continue
            self.running += 1
            self.moved = now
            slot.delivery, slot.interruption = delivery, UNINTERRUPTED
            limit = executor.assign_route(delivery)
            outcome: Outcome | None = None
            try:
                if delivery.begin_by < now:
                    await wait_for_lease((delivery,))
                    now = monotonic()
                delivery.deadline = now + limit
                work = self._suspects.run(delivery) if self._alone else executor.execute(delivery)
                context = new_context()
                try:
                    awaited = context.run(work.send, None)
                except StopIteration as returned:  # as most do: without a generator around it, it costs half as much
                    outcome = returned.value
                else:
                    outcome = await go_on_in(context, work, awaited)
            except asyncio.CancelledError:
                ended = slot.ended(limit)
                outcome = executor.failed(delivery, ended) if isinstance(ended, Exception) else ended
            except BaseException as error:  # a middleware: handlers' errors are outcomes already
                if not slot.may_take(error):
                    raise
                outcome = executor.failed_around(delivery, error)
            else:
                if outcome is not ACKED and not self._is_outcome(outcome):
                    outcome = executor.failed_around(delivery, NoOutcome(outcome))
                if slot.interruption is not None:
                    outcome = slot.late(outcome)
            if outcome.__class__ is DeadLettered:
                outcome = await self._dead_letter_calls.run(slot, delivery, outcome, new_context)
            slot.delivery = None
            self.running -= 1
            if not breaker.closed:
                breaker.concluded(outcome)
            if outcome is not None:
                delivery.holder.settle(delivery, outcome)
            if self._alone:
                self._alone = False
                self.wake()
            elif self._suspects.waiting and not self.running:
                self.wake()

    def _is_outcome(self, outcome: object) -> bool:
        """Whether it is one, and no mistake of a middleware; of what runs alone, None is that its lease was lost."""
        return outcome.__class__ in OUTCOMES or (outcome is None and self._alone)

    async def _run_bundle(self, batches: BatchExecutor, slot: HandlerTask, bundle: RunningBatch) -> None:
        slot.delivery, slot.interruption = bundle, None
        outcomes = await run_in(self._contexts.new(), batches.run(slot, bundle))
        slot.delivery, self.moved = None, monotonic()
        self.running -= 1
        if not self._breaker.closed:
            for outcome in outcomes or (None,):
                self._breaker.concluded(outcome)
        if outcomes:
            batches.settle(bundle, outcomes)
        elif not self._taking:
            self._release(batches.collector.take_all())
        self.wake()

    def _release(self, deliveries: Iterable[Delivery]) -> None:
        for delivery in deliveries:
            delivery.holder.settle(delivery, RELEASED)

    def abandon(self, deliveries: set[Delivery]) -> None:
        """Stops working on deliveries whose lease is lost: waiting ones are dropped, running ones are cancelled. A
        batch goes on while one of it is left: the fence keeps what is lost from being settled.
        """
        for slot in self._tasks:
            slot.lose(deliveries)
        if self._collector is not None:
            self._collector.drop(deliveries)
        self.ready.drop(deliveries)
        self._suspects.drop(deliveries)

    def cancel(self, delivery: Delivery) -> None:
        """Cancels one delivery, unless its handler is done. A batch that runs goes on for the others of it."""
        if any(slot.cancel(delivery) for slot in self._tasks):
            return
        before = self._waiting()
        self.abandon({delivery})
        if self._waiting() < before:
            delivery.holder.settle(delivery, Cancelled())

    def _has_more(self, running: int) -> bool:
        """Whether something here may begin beside as many as are `running`."""
        if running >= self._shared:
            return self.ready.has_high
        return bool(self.ready) or (self._collector is not None and self._collector.is_ready())

    @property
    def collected(self) -> int:
        """How many deliveries wait for a batch to fill."""
        return len(self._collector) if self._collector is not None else 0

    def _waiting(self) -> int:
        return len(self.ready) + len(self._suspects.waiting) + self.collected

    def is_idle(self) -> bool:
        """Whether nothing runs, and nothing of what is here can begin now."""
        begins = self._taking and not self.paused and not self._breaker.is_open
        may_begin = begins and (self._suspects.waiting or self._has_more(self.running))
        return not (self.running or self.ready.waking or may_begin)

    def in_handlers(self) -> int:
        """How many deliveries handlers have."""
        return sum(len(slot.deliveries) for slot in self._tasks)

    def forked(self) -> None:
        """In a child that a handler has forked: nothing more begins, and what comes back from the handler ends it."""
        self._taking, self.executor.forked = False, True

    async def drain(self, grace: float) -> None:
        """Hands back what has not started, lets the running handlers finish for `grace` seconds, then cancels them
        and hands them back too.
        """
        self._taking = False
        collected = self._collector.take_all() if self._collector is not None else ()
        self._release((*self.ready.take_all(), *self._suspects.take_all(), *collected))
        await finish(self._tasks, grace)

    async def stop(self) -> None:
        """Ends the tasks."""
        for slot in self._tasks:
            slot.ending = True
        if self._watch is not None:
            self._watch.remove_done_callback(self._supervisor.on_task_ended)
        self.executor.threads.close()
        tasks = [task for task in (self._watch, *(slot.task for slot in self._tasks)) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=1.0)  # a handler that swallows its cancel is left behind
