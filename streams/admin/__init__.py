"""Admin: what an operator changes: cancel, pause, replay from history, trim, retire, repartition. A module each.

May import `inspecting`, `settling`, `messages`, `redis` and `events`.
"""

from typing import TYPE_CHECKING, Final

from streams import exports

if TYPE_CHECKING:
    from streams.admin.cancel import Cancellation
    from streams.admin.claim_cleanup import Swept
    from streams.admin.replay import Replays
    from streams.admin.replay_job import Replay
    from streams.admin.retire import Retired
    from streams.admin.trim import Trimmed

__all__ = [
    "Cancellation",
    "Replay",
    "Replays",
    "Retired",
    "Swept",
    "Trimmed",
]

_HOMES: Final = {
    "streams.admin.cancel": ("Cancellation",),
    "streams.admin.claim_cleanup": ("Swept",),
    "streams.admin.replay": ("Replays",),
    "streams.admin.replay_job": ("Replay",),
    "streams.admin.retire": ("Retired",),
    "streams.admin.trim": ("Trimmed",),
}
__getattr__, __dir__ = exports(__name__, _HOMES)
