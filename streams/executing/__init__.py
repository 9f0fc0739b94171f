"""Executing: one delivery to its outcome: the pool of handler tasks, priorities, batches, limits, the breaker.

May import `handlers`, `settling`, `publishing`, `scheduling`, `messages`, `redis` and `events`. It reads no
stream itself.
"""

from typing import TYPE_CHECKING, Final

from streams import exports

if TYPE_CHECKING:
    from streams.executing.executor import Executor
    from streams.executing.handler_pool import HandlerPool

__all__ = [
    "Executor",
    "HandlerPool",
]

_HOMES: Final = {
    "streams.executing.executor": ("Executor",),
    "streams.executing.handler_pool": ("HandlerPool",),
}
__getattr__, __dir__ = exports(__name__, _HOMES)
