"""Schedule calls: run the function of a schedule for one slot, so that nothing it does outlives the call."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from uncalled_for import FailedDependency, get_dependency_parameters, resolved_dependencies

from streams.executing.threads import Contexts, Threads
from streams.handlers.callables import is_coroutine_function, parameters_of, takes_position

if TYPE_CHECKING:
    from streams.app import App
    from streams.handlers.processor import Processor
    from streams.scheduling.schedule import Schedule, Slot


class ScheduleCalls:
    """The calls of one processor's schedules, and the threads of those that are plain functions."""

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
