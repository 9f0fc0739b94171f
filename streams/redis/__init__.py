"""Redis: how Redis is reached and asked: one server, sentinels or a cluster; every key name; every script by its hash.

May import `events` (what is private), and single modules: `settings`, `logs`, `errors`. It knows no handler.
"""

from typing import TYPE_CHECKING, Final

from streams import exports

if TYPE_CHECKING:
    from streams.redis.connection import Connections
    from streams.redis.entries import Entries
    from streams.redis.keys import Keys
    from streams.redis.partition import Partition
    from streams.redis.script import Script

__all__ = [
    "Connections",
    "Entries",
    "Keys",
    "Partition",
    "Script",
]

_HOMES: Final = {
    "streams.redis.connection": ("Connections",),
    "streams.redis.entries": ("Entries",),
    "streams.redis.keys": ("Keys",),
    "streams.redis.partition": ("Partition",),
    "streams.redis.script": ("Script",),
}
__getattr__, __dir__ = exports(__name__, _HOMES)
