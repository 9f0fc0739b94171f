"""Handler task: one long-lived task that runs handlers one after the other, and how a handler is interrupted."""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from streams.executing.batch_collector import RunningBatch
from streams.executing.executor import HandlerCancelled, HandlerTimeout
from streams.logs import get_logger
from streams.messages.error_text import passes
from streams.messages.outcome import RELEASED, Acked, Cancelled

if TYPE_CHECKING:
    from streams.messages.delivery import Delivery
    from streams.messages.outcome import Outcome

log = get_logger("streams.handlers")

Interrupt = Literal["timeout", "lost", "stop", "cancel"]
UNINTERRUPTED: Interrupt | None = None  # in a variable, or mypy believes that it stays so
_TICK: Final = 0.05  # seconds: how late a timeout may be noticed


class Supervisor(Protocol):
    """What is to know of a task of the engine that ends by itself, which none may do."""

    def on_task_ended(self, task: asyncio.Task[None], /) -> None:
        """Notes that it has ended."""


class HandlerTask:
    """What runs here now, and what has interrupted it.

    Its task is replaced as soon as a handler has left anything behind that could cancel it (see `HandlerPool`).
    """

    __slots__ = ("_supervisor", "cancelled", "delivery", "ending", "interruption", "overran", "task")

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self.delivery: Delivery | RunningBatch | None = None
        self.interruption: Interrupt | None = None
        self.cancelled = False  # the engine has cancelled the task
        self.ending = False  # the consumer ends
        self.overran: Delivery | RunningBatch | None = None  # what was last reported to be over its timeout in a thread
        self.task: asyncio.Task[None] | None = None

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Gives it a new task, which does `work`."""
        self.cancelled = False
        # Not by the event loop's factory of tasks: an eager one would run it within the task that it replaces.
        self.task = asyncio.Task(work, loop=asyncio.get_running_loop(), name="slot")
        self.task.add_done_callback(self._on_task_ended)

    def _on_task_ended(self, task: asyncio.Task[None]) -> None:
        if not self.ending and task is self.task:
            self._supervisor.on_task_ended(task)

    @property
    def deliveries(self) -> Sequence[Delivery]:
        """What its handler has."""
        if self.delivery is None:
            return ()
        return self.delivery.deliveries if isinstance(self.delivery, RunningBatch) else (self.delivery,)

    def lose(self, deliveries: set[Delivery]) -> None:
        """Others have these now: the handler is cancelled, unless something of its batch is left."""
        if isinstance(self.delivery, RunningBatch):
            self.delivery.lost.update(deliveries.intersection(self.delivery.deliveries))
            if len(self.delivery.lost) == len(self.delivery.deliveries):
                self.interrupt("lost")
        elif self.delivery in deliveries:
            self.interrupt("lost")

    def cancel(self, delivery: Delivery) -> bool:
        """Cancels the handler if it has this delivery, or notes it in its batch; returns whether it was here."""
        if delivery not in self.deliveries:
            return False
        if isinstance(self.delivery, RunningBatch):
            self.delivery.cancelled.add(delivery)
        else:
            self.interrupt("cancel")
        return True

    def interrupt(self, why: Interrupt) -> None:
        """Cancels the handler that runs here, once. One in a thread goes on: the interruption is noted, and holds when
        the thread has ended.
        """
        if self.delivery is None or self.task is None:
            return
        self.interruption = self.interruption or why
        if not self.cancelled and not self.delivery.thread:
            self.cancelled = True
            self.task.cancel()

    def may_take(self, error: BaseException) -> bool:
        """Whether an exception is a failure of what runs here. The end of this slot's coroutine is not, and goes by the
        same name as an exception that code raises.
        """
        if type(error) is not GeneratorExit:
            return passes(error) is None
        try:
            return self.task is not None and asyncio.current_task() is self.task
        except RuntimeError:  # no event loop runs any more
            return False

    def ended(self, limit: float) -> Outcome | Exception | None:
        """What the cancel of the handler means: how it failed, or its outcome; None when nothing may be settled.

        Raises `CancelledError` when the consumer ends.
        """
        if self.ending:
            raise asyncio.CancelledError
        match self.interruption:
            case None:
                # By the handler, by something it left behind or began, or by other code of this process: no reason to
                # end the slot, and as it may have been cut off anywhere, it has failed.
                task = asyncio.current_task()
                own = task is not None and task.cancelling()
                return HandlerCancelled(
                    "the task of the handler was cancelled, by the handler or by other code of this process"
                    if own
                    else "what the handler waited for was cancelled"
                )
            case "timeout":
                return HandlerTimeout(f"the handler took longer than {limit:g} s")
            case "stop":
                return RELEASED
            case "cancel":
                return Cancelled()
            case "lost":
                return None

    def late(self, outcome: Outcome | None) -> Outcome | None:
        """The interruption came when the handler had returned, or while it was in a thread: what becomes of its
        outcome.
        """
        match self.interruption:
            case "lost":
                return None
            case "cancel":
                return outcome if isinstance(outcome, Acked) else Cancelled()
            case _:
                return outcome


async def wait_for_lease(deliveries: Iterable[Delivery], lost: Collection[Delivery] = ()) -> None:
    """Waits until it is known whose deliveries are that are about to begin. This process was stopped or had no
    processor, or Redis was away, for half a lease: another may have them before they are through, or has them already.
    The next renewal says that they may begin, or they are lost, which interrupts the slot.
    """
    while any(each.begin_by < monotonic() for each in deliveries if each not in lost):  # noqa: ASYNC110 - see above
        await asyncio.sleep(_TICK)


async def finish(slots: Sequence[HandlerTask], grace: float) -> None:
    """Lets handlers finish for `grace` seconds, then cancels them. One that swallows its cancel keeps its lease until
    it runs out; one in a thread keeps it for as long as this process lives.
    """
    await _until(lambda: all(slot.delivery is None for slot in slots), timeout=grace)
    for slot in slots:
        slot.interrupt("stop")
    await _until(lambda: all(slot.delivery is None or slot.delivery.thread for slot in slots), timeout=1.0)


async def _until(done: Callable[[], bool], *, timeout: float) -> None:
    give_up = monotonic() + timeout
    while not done() and monotonic() < give_up:  # noqa: ASYNC110 - once in the life of a consumer
        await asyncio.sleep(0.01)


async def watch_deadlines(slots: Sequence[HandlerTask]) -> None:
    """Interrupts what runs longer than it may, for ever. What is in a thread cannot be: it is reported once."""
    while True:
        await asyncio.sleep(_TICK)
        now = monotonic()
        for slot in slots:
            work = slot.delivery
            if work is None or not 0 < work.deadline < now:
                continue
            if not work.thread:
                slot.interrupt("timeout")
            elif slot.overran is not work:
                slot.overran = work
                _report_overrun(slot, work.thread)


def _report_overrun(slot: HandlerTask, thread: int) -> None:
    deliveries = slot.deliveries
    route = deliveries[0].route
    frame = sys._current_frames().get(thread)  # noqa: SLF001 - there is no public way to see where a thread is
    where = [f"{each.filename}:{each.lineno} {each.name}" for each in traceback.extract_stack(frame, limit=8)]
    log.warning(
        "handler.overran",
        group=deliveries[0].group, ids=[delivery.message.id for delivery in deliveries][:5],
        type=deliveries[0].message.type, timeout=route.timeout if route is not None else None, where=where,
    )  # fmt: skip
