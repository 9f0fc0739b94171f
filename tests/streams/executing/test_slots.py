"""Slots by themselves: what an exception, a cancel and the end of a task mean to one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from streams.executing.handler_task import HandlerTask
from streams.messages.delivery import Delivery
from streams.messages.message import Message
from streams.messages.outcome import ACKED, RELEASED, Cancelled, Retried
from tests.support.events import Noted
from tests.support.holders import Held
from tests.support.waiting import wait_until


def delivery(thread: int = 0) -> Delivery:
    """A delivery in hand."""
    message = Message.for_event(Noted(n=1), source="/t", target="t")
    made = Delivery(message, Held("g", "c"), source="s", entry_id=b"1-0", count=1)
    made.thread = thread
    return made


class Bench:
    """A slot whose work is to wait; `ended` has the tasks that it was told of."""

    def __init__(self) -> None:
        self.ended: list[asyncio.Task[None]] = []
        self.go_on = asyncio.Event()
        self.seen: list[Any] = []
        self.slot = HandlerTask(self)

    def start(self) -> None:
        """Gives it a task."""
        self.slot.start(self._work(self.slot))

    def on_task_ended(self, task: asyncio.Task[None], /) -> None:
        """Notes it."""
        self.ended.append(task)

    async def _work(self, slot: HandlerTask) -> None:
        self.seen.append([slot.may_take(error) for error in (GeneratorExit(), ValueError(), asyncio.CancelledError())])
        await self.go_on.wait()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """One that runs."""
    made = Bench()
    made.start()
    await asyncio.sleep(0)
    yield made
    made.slot.ending = True
    made.go_on.set()
    await asyncio.sleep(0)


async def test_what_is_a_failure_of_what_runs(bench: Bench) -> None:
    """A GeneratorExit is one where the handler raises it, and not where the coroutine of the slot is closed: by other
    code, or when no event loop runs any more.
    """
    assert bench.seen == [[True, True, False]]
    assert not bench.slot.may_take(GeneratorExit())
    assert not await asyncio.to_thread(bench.slot.may_take, GeneratorExit())
    assert bench.slot.may_take(ValueError())
    assert not bench.slot.may_take(KeyboardInterrupt())


async def test_a_task_that_ends_by_itself_is_said(bench: Bench) -> None:
    """It must not; one that ends because the consumer does, or was replaced, is not said."""
    first = bench.slot.task
    bench.start()
    second = bench.slot.task
    await asyncio.sleep(0)
    bench.go_on.set()
    await wait_until(lambda: bench.ended)
    assert first is not second
    assert bench.ended == [second]
    bench.slot.ending = True
    bench.start()
    third = bench.slot.task
    assert third is not None
    await asyncio.wait([third])
    await asyncio.sleep(0)  # what is called when a task is done is called in the next iteration
    assert bench.ended == [second]


async def test_a_handler_is_interrupted_once(bench: Bench) -> None:
    """By the first reason; without a handler nothing is, and one in a thread goes on until it ends."""
    task = bench.slot.task
    assert task is not None
    bench.slot.interrupt("stop")
    assert (bench.slot.interruption, task.cancelling()) == (None, 0)
    bench.slot.delivery = delivery(thread=7)
    bench.slot.interrupt("cancel")
    assert (bench.slot.interruption, bench.slot.cancelled, task.cancelling()) == ("cancel", False, 0)
    bench.slot.delivery = delivery()
    bench.slot.interrupt("timeout")
    bench.slot.interrupt("stop")
    assert (bench.slot.interruption, bench.slot.cancelled, task.cancelling()) == ("cancel", True, 1)


async def test_what_a_cancel_means(bench: Bench) -> None:
    """By its reason: a failure, a way back, the end of the event, or nothing at all."""
    slot = bench.slot
    for reason, means in (("stop", RELEASED), ("cancel", Cancelled()), ("lost", None)):
        slot.interruption = reason  # type: ignore[assignment]
        assert slot.ended(3.0) == means
    slot.interruption = "timeout"
    assert str(slot.ended(3.0)) == "the handler took longer than 3 s"
    slot.interruption = None
    assert str(slot.ended(3.0)) == "what the handler waited for was cancelled"
    slot.ending = True
    with pytest.raises(asyncio.CancelledError):
        slot.ended(3.0)


async def test_an_interruption_that_came_too_late(bench: Bench) -> None:
    """What is done is done; what would come again does not after a cancel; what is lost is settled by others."""
    retried = Retried(1.0, "error")
    for reason, outcome, means in (
        (None, retried, retried), ("timeout", ACKED, ACKED), ("stop", retried, retried), ("cancel", ACKED, ACKED),
        ("cancel", retried, Cancelled()), ("cancel", None, Cancelled()), ("lost", ACKED, None),
    ):  # fmt: skip
        bench.slot.interruption = reason  # type: ignore[assignment]
        assert bench.slot.late(outcome) == means
