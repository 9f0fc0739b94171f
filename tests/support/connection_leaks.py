"""Connections that a test has left open, told by its own name: else Python tells of them in whatever test it is that
collects the garbage.
"""

from __future__ import annotations

import sys
import traceback
from functools import wraps
from typing import Any, Final
from weakref import WeakKeyDictionary

from redis.asyncio.connection import AbstractConnection

_MADE: Final[WeakKeyDictionary[AbstractConnection, traceback.StackSummary]] = WeakKeyDictionary()
_DEPTH: Final = 12


def watch_connections() -> None:
    """From now on, notes of each asyncio connection to Redis who has made it."""
    original = AbstractConnection.__init__

    @wraps(original)
    def noted(self: AbstractConnection, *arguments: Any, **options: Any) -> None:
        original(self, *arguments, **options)
        callers = traceback.walk_stack(sys._getframe(1))
        _MADE[self] = traceback.StackSummary.extract(callers, limit=_DEPTH, lookup_lines=False)

    AbstractConnection.__init__ = noted  # type: ignore[method-assign]


def left_open() -> list[str]:
    """The connections that are open although their event loop is closed, each once, with who has made it."""
    found = []
    for connection, callers in list(_MADE.items()):
        writer: Any = connection._writer  # redis-py says whether it is connected, but not on which loop
        if writer is not None and writer._loop.is_closed():
            found.append(f"{connection!r}, made (innermost call first):\n{''.join(callers.format())}")
            del _MADE[connection]
    return found
