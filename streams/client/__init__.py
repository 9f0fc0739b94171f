"""Client: `Streams` and `SyncStreams`, the facade: every operation of the engine is one of their methods.

May import `dead_letters`, `admin`, `inspecting`, `handlers`, `scheduling`, `publishing`, `settling`, `messages`,
`redis` and `events`. Nothing below imports it, in annotations either: what is below is given an `App`.
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
