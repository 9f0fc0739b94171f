"""Consuming: one consumer process: it reads, renews leases, reclaims, listens to operators, cleans up and drains.

May import `client`, `executing`, `dead_letters`, `admin`, `inspecting`, `handlers`, `scheduling`, `publishing`,
`settling`, `messages`, `redis` and `events`.
"""

from typing import TYPE_CHECKING, Final

from streams import exports

if TYPE_CHECKING:
    from streams.consuming.consumer import Consumer
    from streams.consuming.exits import EXIT_CRASHED
    from streams.consuming.runner import run

__all__ = [
    "EXIT_CRASHED",
    "Consumer",
    "run",
]

_HOMES: Final = {
    "streams.consuming.consumer": ("Consumer",),
    "streams.consuming.exits": ("EXIT_CRASHED",),
    "streams.consuming.runner": ("run",),
}
__getattr__, __dir__ = exports(__name__, _HOMES)
