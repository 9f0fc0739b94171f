"""Client: `Streams` and `SyncStreams`, the doors of all of it.

Imports everything below `executing` and `consuming`. Nothing below imports it, in annotations either.
"""

from typing import TYPE_CHECKING, Final

from streams import exports

if TYPE_CHECKING:
    from streams.client.client import Streams
    from streams.client.sync_client import SyncStreams

__all__ = [
    "Streams",
    "SyncStreams",
]

_HOMES: Final = {
    "streams.client.client": ("Streams",),
    "streams.client.sync_client": ("SyncStreams",),
}
__getattr__, __dir__ = exports(__name__, _HOMES)
