"""Calls: how the functions of handlers and of schedules are called: their dependencies, threads and contexts."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from uncalled_for import FailedDependency, get_dependency_parameters, resolved_dependencies

from streams.executing.threads import Contexts, Threads
from streams.handlers.batch import BatchFailed
from streams.handlers.callables import is_coroutine_function, parameters_of, takes_position
from streams.handlers.child_processes import in_parent
from streams.messages.delivery import Delivery, current_batch, current_delivery

if TYPE_CHECKING:
    from streams.app import App
    from streams.events.event import Event
    from streams.handlers.backoff import Backoff
    from streams.handlers.processor import DeadLetterFunction, Processor, Subscription
    from streams.scheduling.schedule import Schedule, Slot


Call = Callable[[Any], Awaitable[Any]]


class Route:
    """A subscription with its policy filled in, ready for the hot path."""

    __slots__ = (
        "call", "call_batch", "decode", "newer", "on_dead_letter", "retry", "returned", "subscription", "timeout",
        "transaction", "version",
    )  # fmt: skip

    def __init__(self, subscription: Subscription, retry: Backoff, timeout: float, threads: Threads) -> None:
        self.subscription = subscription
        self.retry = retry
        self.timeout = timeout
        self.transaction = subscription.transaction
        self.version = b"%d" % subscription.event.version
        self.newer: dict[int, int] = {}  # versions that this code does not know, and how many messages had them
        self.returned = False  # something that is no event, and it was logged
        self.decode = subscription.event.decode
        self.on_dead_letter: DeadLetterFunction | None = None
        self.call = _call_of(subscription, timeout, threads)
        self.call_batch: Call | None = None
        if subscription.batch is not None:
            self.call, self.call_batch = _alone(self.call), self.call


def _call_of(subscription: Subscription, timeout: float, threads: Threads) -> Call:
    handler = subscription.handler
    held = _one if subscription.batch is None else current_batch.get
    if subscription.is_async and not subscription.has_dependencies:
        return handler
    first = next(iter(inspect.signature(handler).parameters)) if subscription.has_dependencies else ""

    async def call(event: Any) -> Any:
        async with resolved_dependencies(handler, {first: event}) as dependencies:
            for dependency in dependencies.values():
                if isinstance(dependency, FailedDependency):
                    raise dependency.error
            if subscription.is_async:
                result = await handler(event, **dependencies)
            else:
                called = partial(in_parent, partial(handler, event, **dependencies))
                result = await threads.handle(held(), timeout, called)
            # A plain wrapper around a coroutine function returns a coroutine, as does a forgotten `await`.
            return await result if result is not None and inspect.isawaitable(result) else result

    async def call_plain(event: Any) -> Any:
        result = await threads.handle(held(), timeout, partial(in_parent, partial(handler, event)))
        return await result if result is not None and inspect.isawaitable(result) else result

    return call if subscription.has_dependencies else call_plain


def _one() -> Sequence[Delivery]:
    delivery = current_delivery.get()
    assert delivery is not None
    return (delivery,)


def _alone(call_batch: Call) -> Call:
    """Calls a batch handler with a list of one: what crashed before, or was in a batch that failed as a whole."""

    async def call(event: Event) -> Any:
        delivery = current_delivery.get()
        current_batch.set((delivery,) if delivery is not None else ())
        try:
            result = await call_batch([event])
        except BatchFailed as failed:
            if 0 in failed.errors:
                raise failed.errors[0] from failed
            result = failed.follow_ups
        return result[0] if isinstance(result, Mapping) and 0 in result else result

    return call


class ScheduleCalls:
    """Calls the functions of one processor's schedules, so that nothing they do outlives the call; the threads of those
    that are plain functions.
    """

    def __init__(self, processor: Processor, app: App) -> None:
        self._threads = Threads(f"{processor.name}-schedules")
        self._timeout = processor.timeout or app.settings.timeout

    async def call(self, schedule: Schedule, slot: Slot) -> Any:
        """Returns or raises what the function does. It has a task and a context of its own: it may cancel its task,
        leave something behind that will, or change context variables.
        """
        context = Contexts().new()
        task = asyncio.get_running_loop().create_task(self._call(schedule.function, slot), context=context)
        async with asyncio.timeout(self._timeout):
            result, error = await task
        if error is not None:
            raise error
        return result

    async def _call(self, function: Callable[..., Any], slot: Slot) -> tuple[Any, SystemExit | None]:
        own = slot_parameter(function)
        by_position = own is not None and takes_position(own)
        given = {own.name: slot} if own is not None else {}
        try:
            async with resolved_dependencies(function, given) as dependencies:
                for dependency in dependencies.values():
                    if isinstance(dependency, FailedDependency):
                        raise dependency.error
                call = partial(function, *((slot,) if by_position else ()))
                named = dependencies if by_position else given | dependencies
                is_async = is_coroutine_function(function)
                result = await (call(**named) if is_async else self._threads.call(partial(call, **named)))
                return await result if inspect.isawaitable(result) else result, None
        except SystemExit as error:  # raised in a task, it would end the event loop
            return None, error

    def close(self) -> None:
        """Ends the threads of plain functions."""
        self._threads.close()


def slot_parameter(function: Callable[..., Any]) -> inspect.Parameter | None:
    """The parameter that takes the `Slot`; None when the function wants none."""
    parameters = parameters_of(function) or ()
    given = get_dependency_parameters(function) if parameters else ()
    own = [each for each in parameters if each.name not in given and each.kind is not each.VAR_KEYWORD]
    return own[0] if own else None
