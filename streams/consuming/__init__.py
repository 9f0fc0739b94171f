"""Consuming: one consumer process: reads, leases, reclaims, listens, maintains, drains.

Imports all of it.
"""

from typing import TYPE_CHECKING, Final

from streams import exports

if TYPE_CHECKING:
    from streams.consuming.consumer import Consumer
    from streams.consuming.runner import run

__all__ = [
    "Consumer",
    "run",
]

_HOMES: Final = {
    "streams.consuming.consumer": ("Consumer",),
    "streams.consuming.runner": ("run",),
}
__getattr__, __dir__ = exports(__name__, _HOMES)
