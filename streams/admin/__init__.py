"""Admin: what an operator does: cancel, pause, replay history, trim, retire, repartition. A module each.

Imports `inspecting`.
"""

from typing import TYPE_CHECKING, Final

from streams import exports

if TYPE_CHECKING:
    from streams.admin.cancel import cancel
    from streams.admin.pause import pause
    from streams.admin.repartition import repartition
    from streams.admin.replay import Replays
    from streams.admin.retire import retire
    from streams.admin.scripts import trim

__all__ = [
    "Replays",
    "cancel",
    "pause",
    "repartition",
    "retire",
    "trim",
]

_HOMES: Final = {
    "streams.admin.cancel": ("cancel",),
    "streams.admin.pause": ("pause",),
    "streams.admin.repartition": ("repartition",),
    "streams.admin.replay": ("Replays",),
    "streams.admin.retire": ("retire",),
    "streams.admin.scripts": ("trim",),
}
__getattr__, __dir__ = exports(__name__, _HOMES)
