"""Dead letter call: runs the function that a processor has for its dead letters (`@processor.on_dead_letter`).

It runs in the process that writes the dead letter, and the events that it returns are published in the same step.

So a process that waits for the event learns of its end, also when each process that handled it was killed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Final

from uncalled_for import FailedDependency, resolved_dependencies

from streams.executing.executor import HandlerTimeout, Undeliverable
from streams.executing.failure_policy import signal
from streams.executing.handler_task import UNINTERRUPTED
from streams.logs import get_logger
from streams.messages.delivery import Delivery, current_delivery
from streams.messages.error_text import Failure, passes
from streams.messages.message import DATA, TRACEPARENT, TRACESTATE
from streams.messages.outcome import DeadLettered, Outcome, Unavailable

if TYPE_CHECKING:
    from streams.executing.executor import Executor
    from streams.executing.handler_task import HandlerTask
    from streams.messages.message import Message

log = get_logger("streams.dead_letter_call")

TIMEOUT: Final = 60.0
"""Seconds that the function may take."""

_CRASHES: Final = 3  # of processes while the function runs, after which the dead letter is written without it


def has_call(delivery: Delivery, limit: int) -> bool:
    """Whether a function runs before a message with so many crashes becomes a dead letter; `limit` of them are its
    own.
    """
    route = delivery.route
    return route is not None and route.on_dead_letter is not None and delivery.crashes < limit + _CRASHES


class DeadLetterCalls:
    """Those of one processor."""

    def __init__(self, executor: Executor, *, limit: int) -> None:
        self._executor = executor
        self._limit = limit

    async def run(
        self, slot: HandlerTask, delivery: Delivery, letter: DeadLettered, context: Callable[[], Context]
    ) -> Outcome | None:
        """Returns the letter with the events that follow from it, or what else becomes of the delivery: None when its
        lease was lost, `Snoozed` while something that the function needs is away, `Released` when the process is to
        end. A function that fails, or takes too long, is logged, and keeps no dead letter from being written.
        """
        if not has_call(delivery, self._limit):
            return letter
        # A task of its own: that of the slot may have a cancel left in it, from the handler or from its deadline.
        slot.cancelled, slot.interruption = False, UNINTERRUPTED
        delivery.deadline = monotonic() + TIMEOUT
        task = asyncio.get_running_loop().create_task(self._call(delivery, letter), context=context())
        try:
            while not task.done():
                try:
                    _ = await asyncio.wait([task])
                except asyncio.CancelledError:
                    if slot.ending or slot.interruption is not None:
                        break
            if task.done():
                return task.result()
            ended = slot.ended(TIMEOUT)
            if isinstance(ended, Exception):
                return self._failed(delivery, letter, HandlerTimeout(f"it took longer than {TIMEOUT:g} s"))
        except asyncio.CancelledError as error:
            if slot.ending:
                raise
            return self._failed(delivery, letter, error)  # the function has cancelled itself
        else:
            return ended
        finally:
            _ = task.cancel()

    async def _call(self, delivery: Delivery, letter: DeadLettered) -> Outcome:
        try:
            return replace(letter, follow_ups=await self._follow_ups(delivery, letter))
        except Undeliverable:  # no event can be made of its data
            return letter
        except BaseException as error:  # noqa: BLE001 - as of a handler: sys.exit(), a panic
            if (through := passes(error)) is not None:
                raise through from None
            if issubclass(type(signal(error)), Unavailable):
                return self._executor.failed(delivery, error)
            return self._failed(delivery, letter, error)

    async def _follow_ups(self, delivery: Delivery, letter: DeadLettered) -> tuple[Message, ...]:
        route, message, executor = delivery.route, delivery.message, self._executor
        if route is None or route.on_dead_letter is None or message.problem or message.size:
            return ()
        data = await executor.fetch(delivery) if executor.is_claimed(delivery) else message.values[DATA]
        event = executor.decode(delivery, route, data)
        current_delivery.set(delivery)
        call = route.on_dead_letter
        async with resolved_dependencies(call.function, call.given(event, letter)) as dependencies:
            for dependency in dependencies.values():
                if isinstance(dependency, FailedDependency):
                    raise dependency.error
            result = await call.function(event, letter, **dependencies)
        if result is None:
            return ()
        # No span is open here: without it the follow-ups would begin traces of their own.
        carries = {TRACEPARENT: message.values[TRACEPARENT], TRACESTATE: message.values[TRACESTATE]}
        return await executor.follow_ups(delivery, result, carries)

    def _failed(self, delivery: Delivery, letter: DeadLettered, error: BaseException) -> DeadLettered:
        failure = Failure(error)
        about = {"id": delivery.message.id, "error": failure.text, "exception": failure.traceback}
        log.error("delivery.dead_letter_call_failed", group=delivery.group, **about)
        return letter
