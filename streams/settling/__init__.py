"""Settling: from an outcome to Redis in one fenced step; the due set and its mover; the order of a key, and limits.

May import `messages` and `redis`.
"""

from typing import TYPE_CHECKING, Final

from streams import exports

if TYPE_CHECKING:
    from streams.settling.due import Mover
    from streams.settling.settlement import Settlement

__all__ = [
    "Mover",
    "Settlement",
]

_HOMES: Final = {
    "streams.settling.due": ("Mover",),
    "streams.settling.settlement": ("Settlement",),
}
__getattr__, __dir__ = exports(__name__, _HOMES)
