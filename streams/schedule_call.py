"""Schedule call: runs the function of a schedule for one slot, so that nothing it does outlives the call."""

from __future__ import annotations

import asyncio
import inspect
from functools import partial
from typing import TYPE_CHECKING, Any

from uncalled_for import FailedDependency, resolved_dependencies

from streams.contexts import Contexts

if TYPE_CHECKING:
    from streams.schedule import Schedule, Slot
    from streams.threads import Threads


async def call_schedule(schedule: Schedule, slot: Slot, threads: Threads) -> Any:
    """Returns or raises what the function does. It has a task and a context of its own: it may cancel its task, leave
    something behind that will, or change context variables.
    """
    task = asyncio.get_running_loop().create_task(_call(schedule, slot, threads), context=Contexts().new())
    result, error = await task
    if error is not None:
        raise error
    return result


async def _call(schedule: Schedule, slot: Slot, threads: Threads) -> tuple[Any, SystemExit | None]:
    given = {schedule.argument: slot} if schedule.argument else {}
    try:
        async with resolved_dependencies(schedule.function, given) as dependencies:
            for dependency in dependencies.values():
                if isinstance(dependency, FailedDependency):
                    raise dependency.error
            call = partial(schedule.function, *((slot,) if schedule.by_position else ()))
            named = dependencies if schedule.by_position else given | dependencies
            result = await (call(**named) if schedule.is_async else threads.call(partial(call, **named)))
            return await result if inspect.isawaitable(result) else result, None
    except SystemExit as error:  # raised in a task, it would end the event loop
        return None, error
