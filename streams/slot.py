"""Slot: one place where handlers run, one after the other, in one long-lived task; and how one is interrupted."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Final, Literal

from streams.executor import HandlerCancelled, HandlerTimeout
from streams.failure import passes
from streams.outcome import RELEASED, Cancelled

if TYPE_CHECKING:
    from streams.collector import Bundle
    from streams.delivery import Delivery
    from streams.outcome import Outcome

Interrupt = Literal["timeout", "lost", "stop", "cancel"]
_TICK: Final = 0.05  # seconds: how late a timeout may be noticed


class Slot:
    """What runs here now, and whether somebody has cancelled it."""

    __slots__ = ("delivery", "interruption", "task")

    def __init__(self) -> None:
        self.delivery: Delivery | Bundle | None = None
        self.interruption: Interrupt | None = None
        self.task: asyncio.Task[None] | None = None

    def interrupted(self) -> bool:
        """Whether somebody has cancelled the handler."""
        return self.interruption is not None

    def interrupt(self, why: Interrupt) -> None:
        """Cancels the handler that runs here, once."""
        if self.interruption is None and self.task is not None:
            self.interruption = why
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

        Raises `CancelledError` when it is this slot that is being ended.
        """
        if self.interruption is None:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise asyncio.CancelledError
            # Something the handler waited for was cancelled, not the handler: its failure, not this slot's end.
            return HandlerCancelled("what the handler waited for was cancelled")
        _absorb_cancel()
        match self.interruption:
            case "timeout":
                return HandlerTimeout(f"the handler took longer than {limit:g} s")
            case "stop":
                return RELEASED
            case "cancel":
                return Cancelled()
            case "lost":
                return None

    async def interrupted_late(self, outcome: Outcome | None) -> Outcome | None:
        """The cancel came as the handler returned: takes it, or it would end this slot at its next await."""
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
        _absorb_cancel()
        return None if self.interruption == "lost" else outcome


def _absorb_cancel() -> None:
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()


async def until_sure(sure_until: Callable[[Delivery], float], delivery: Delivery) -> None:
    """Waits until it is known whose a delivery is that is about to begin. This process was stopped, or Redis was away,
    for longer than a lease: another may have it by now, and this one is told so, or that it may begin.
    """
    while sure_until(delivery) < monotonic():  # noqa: ASYNC110 - the lease thread says so, a moment later
        await asyncio.sleep(_TICK)


async def until(done: Callable[[], bool], *, timeout: float) -> None:
    """Waits until it is so, at most `timeout` seconds: for the end of a consumer, once in its life."""
    give_up = monotonic() + timeout
    while not done() and monotonic() < give_up:  # noqa: ASYNC110 - nobody tells of it
        await asyncio.sleep(0.01)


async def watch_deadlines(slots: Sequence[Slot]) -> None:
    """Interrupts what runs longer than it may, for ever."""
    while True:
        await asyncio.sleep(_TICK)
        now = monotonic()
        for slot in slots:
            if slot.delivery is not None and 0 < slot.delivery.deadline < now:
                slot.interrupt("timeout")
