"""Messages: the records of the engine, and what may wrap them.

Imports `redis` for reading entries. Starts nothing.
"""

from typing import TYPE_CHECKING, Final

from streams import exports

if TYPE_CHECKING:
    from streams.messages.delivery import Delivery
    from streams.messages.error_text import describe
    from streams.messages.letter import Letter
    from streams.messages.message import Message
    from streams.messages.middleware import Middleware
    from streams.messages.outcome import Outcome

__all__ = [
    "Delivery",
    "Letter",
    "Message",
    "Middleware",
    "Outcome",
    "describe",
]

_HOMES: Final = {
    "streams.messages.delivery": ("Delivery",),
    "streams.messages.error_text": ("describe",),
    "streams.messages.letter": ("Letter",),
    "streams.messages.message": ("Message",),
    "streams.messages.middleware": ("Middleware",),
    "streams.messages.outcome": ("Outcome",),
}
__getattr__, __dir__ = exports(__name__, _HOMES)
