"""Executing: runs handlers: the pool, priorities, batches, limits, the breaker; one delivery to its outcome.

Imports `handlers`, `settling` and `publishing`. Reads no stream itself.
"""

from typing import TYPE_CHECKING, Final

from streams import exports

if TYPE_CHECKING:
    from streams.executing.executor import Executor
    from streams.executing.handler_pool import Slots

__all__ = [
    "Executor",
    "Slots",
]

_HOMES: Final = {
    "streams.executing.executor": ("Executor",),
    "streams.executing.handler_pool": ("Slots",),
}
__getattr__, __dir__ = exports(__name__, _HOMES)
