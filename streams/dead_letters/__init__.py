"""Dead letters: the messages that a group could not handle: find, edit, replay, discard.

May import `admin` (the stored data of what is discarded), `settling`, `messages`, `redis` and `events`.
"""

from typing import TYPE_CHECKING, Final

from streams import exports

if TYPE_CHECKING:
    from streams.dead_letters.dead_letters import DeadLetters
    from streams.dead_letters.search import Filter

__all__ = [
    "DeadLetters",
    "Filter",
]

_HOMES: Final = {
    "streams.dead_letters.dead_letters": ("DeadLetters",),
    "streams.dead_letters.search": ("Filter",),
}
__getattr__, __dir__ = exports(__name__, _HOMES)
