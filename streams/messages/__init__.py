"""Messages: the records of the engine, and the middleware that may wrap what happens to them.

May import `redis` and `events`. It starts nothing.
"""

from typing import TYPE_CHECKING, Final

from streams import exports

if TYPE_CHECKING:
    from streams.messages.claims import ClaimStore
    from streams.messages.delivery import Delivery
    from streams.messages.error_text import describe, name_of_class
    from streams.messages.letter import Letter
    from streams.messages.message import TRACEPARENT, TRACESTATE, TYPE, Message
    from streams.messages.middleware import Deliver, DeliverBatch, Middleware, Publish, Settle
    from streams.messages.object_store import open_store, store_errors
    from streams.messages.outcome import Acked, Cancelled, DeadLettered, Expired, Outcome, Released, Retried, Snoozed

__all__ = [
    "TRACEPARENT",
    "TRACESTATE",
    "TYPE",
    "Acked",
    "Cancelled",
    "ClaimStore",
    "DeadLettered",
    "Deliver",
    "DeliverBatch",
    "Delivery",
    "Expired",
    "Letter",
    "Message",
    "Middleware",
    "Outcome",
    "Publish",
    "Released",
    "Retried",
    "Settle",
    "Snoozed",
    "describe",
    "name_of_class",
    "open_store",
    "store_errors",
]

_HOMES: Final = {
    "streams.messages.claims": ("ClaimStore",),
    "streams.messages.delivery": ("Delivery",),
    "streams.messages.error_text": ("describe", "name_of_class"),
    "streams.messages.letter": ("Letter",),
    "streams.messages.message": ("TRACEPARENT", "TRACESTATE", "TYPE", "Message"),
    "streams.messages.middleware": ("Deliver", "DeliverBatch", "Middleware", "Publish", "Settle"),
    "streams.messages.object_store": ("open_store", "store_errors"),
    "streams.messages.outcome": (
        "Acked",
        "Cancelled",
        "DeadLettered",
        "Expired",
        "Outcome",
        "Released",
        "Retried",
        "Snoozed",
    ),
}
__getattr__, __dir__ = exports(__name__, _HOMES)
