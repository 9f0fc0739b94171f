"""Publishing: from an event to its entry: the envelope, the partition, one script call for a batch, each batch once.

May import `messages`, `redis` and `events`.
"""

from typing import TYPE_CHECKING, Final

from streams import exports

if TYPE_CHECKING:
    from streams.publishing.envelope import Envelope
    from streams.publishing.router import Router

__all__ = [
    "Envelope",
    "Router",
]

_HOMES: Final = {
    "streams.publishing.envelope": ("Envelope",),
    "streams.publishing.router": ("Router",),
}
__getattr__, __dir__ = exports(__name__, _HOMES)
