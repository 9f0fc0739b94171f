"""Handlers: what an author declares: processors, policies and dependencies, as frozen values and decorators.

May import `scheduling`, `messages`, `redis` and `events`. It connects to nothing; only `progress` reports.
"""

from typing import TYPE_CHECKING, Final

from streams import exports

if TYPE_CHECKING:
    from streams.handlers.backoff import Backoff
    from streams.handlers.batch import Batch
    from streams.handlers.dependencies import Depends
    from streams.handlers.limit import Limit
    from streams.handlers.processor import Processor
    from streams.handlers.progress import Progress
    from streams.handlers.transaction import Handle, Transaction

__all__ = [
    "Backoff",
    "Batch",
    "Depends",
    "Handle",
    "Limit",
    "Processor",
    "Progress",
    "Transaction",
]

_HOMES: Final = {
    "streams.handlers.backoff": ("Backoff",),
    "streams.handlers.batch": ("Batch",),
    "streams.handlers.dependencies": ("Depends",),
    "streams.handlers.limit": ("Limit",),
    "streams.handlers.processor": ("Processor",),
    "streams.handlers.progress": ("Progress",),
    "streams.handlers.transaction": ("Handle", "Transaction"),
}
__getattr__, __dir__ = exports(__name__, _HOMES)
