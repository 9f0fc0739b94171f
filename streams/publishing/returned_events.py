"""Returned events: finds the events in what a handler or a schedule's function returned, and names anything else in it.

The effects of a handler that has returned are done, so what it returns by mistake is no failure of its delivery:
another try would repeat them.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import AsyncGenerator, Generator
from itertools import islice
from typing import Any, Final

from streams.events.event import Event
from streams.messages.error_text import name_of_class

RETURNS: Final = "return None, an event, or a list of events"
_MOST: Final = 10_000
_DEEPEST: Final = 5


async def events_in(result: Any) -> tuple[list[Event], str]:
    """The events, in their order, and the name of the class of something that is none, or an empty string.

    Takes one event, a list, tuple, set or deque of events, a generator or an asynchronous generator of them, and
    whatever of it has to be awaited; None among them is nothing. Raises what a generator or an awaited result raises,
    and `ValueError` for a generator that does not end after 10,000 events.
    """
    result = await _awaited(result)
    if result is None:
        return [], ""
    if isinstance(result, Event):
        return [result], ""
    if isinstance(result, AsyncGenerator):
        items: Any = []
        async for item in result:
            items.append(item)
            _check_end(items)
    elif isinstance(result, Generator):
        items = list(islice(result, _MOST + 1))
        _check_end(items)
    elif isinstance(result, list | tuple | set | frozenset | deque):
        items = result
    else:
        return [], _name(result)
    events, other = [], ""
    for item in items:
        item = await _awaited(item)
        if isinstance(item, Event):
            events.append(item)
        elif item is not None:
            other = other or f"{name_of_class(result)} with {_name(item)}"
    return events, other


async def _awaited(result: Any) -> Any:
    for _ in range(_DEEPEST):
        if not inspect.isawaitable(result):
            break
        result = await result
    return result


def _check_end(items: list[Any]) -> None:
    if len(items) > _MOST:
        raise ValueError(f"the generator that was returned does not end after {_MOST:,} events")


def _name(item: Any) -> str:
    return f"the class {item.__name__}" if isinstance(item, type) else name_of_class(item)
