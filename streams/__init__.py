"""The engine: event processing on Redis Streams. This is its public face; the modules read as the way of an event.

Names are imported when they are asked for: a command that publishes one event does not wait for the consumer's parts.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from streams.batch import Batch, BatchFailed
    from streams.cancellation import Cancellation
    from streams.client import CurrentStreams, Streams
    from streams.consumer import Consumer
    from streams.delivery import Delivery
    from streams.dependencies import CurrentBatch, CurrentDelivery, Depends, Shared
    from streams.errors import (
        NotFound,
        NotReplicated,
        PublishUncertain,
        Refused,
        StreamsError,
        TooLarge,
        Unpublishable,
        Unreachable,
    )
    from streams.events import PII, Event, SchemaError, Secret
    from streams.limit import Limit
    from streams.middleware import Middleware
    from streams.outcome import DeadLetter, DeadLettered, Retry, Snooze, Unavailable
    from streams.processor import Processor
    from streams.progress import CurrentProgress, Progress
    from streams.receipt import Receipt
    from streams.retry import Backoff
    from streams.runner import run
    from streams.schedule import Slot
    from streams.settings import Settings
    from streams.step import Step
    from streams.sync import SyncStreams

__all__ = [
    "PII",
    "Backoff",
    "Batch",
    "BatchFailed",
    "Cancellation",
    "Consumer",
    "CurrentBatch",
    "CurrentDelivery",
    "CurrentProgress",
    "CurrentStreams",
    "DeadLetter",
    "DeadLettered",
    "Delivery",
    "Depends",
    "Event",
    "Limit",
    "Middleware",
    "NotFound",
    "NotReplicated",
    "Processor",
    "Progress",
    "PublishUncertain",
    "Receipt",
    "Refused",
    "Retry",
    "SchemaError",
    "Secret",
    "Settings",
    "Shared",
    "Slot",
    "Snooze",
    "Step",
    "Streams",
    "StreamsError",
    "SyncStreams",
    "TooLarge",
    "Unavailable",
    "Unpublishable",
    "Unreachable",
    "run",
]

_HOMES: Final = {
    "streams.events": ("PII", "Event", "SchemaError", "Secret"),
    "streams.batch": ("Batch", "BatchFailed"),
    "streams.cancellation": ("Cancellation",),
    "streams.client": ("CurrentStreams", "Streams"),
    "streams.consumer": ("Consumer",),
    "streams.delivery": ("Delivery",),
    "streams.dependencies": ("CurrentBatch", "CurrentDelivery", "Depends", "Shared"),
    "streams.errors": (
        "NotFound", "NotReplicated", "PublishUncertain", "Refused", "StreamsError", "TooLarge", "Unpublishable",
        "Unreachable",
    ),
    "streams.limit": ("Limit",),
    "streams.middleware": ("Middleware",),
    "streams.outcome": ("DeadLetter", "DeadLettered", "Retry", "Snooze", "Unavailable"),
    "streams.processor": ("Processor",),
    "streams.progress": ("CurrentProgress", "Progress"),
    "streams.receipt": ("Receipt",),
    "streams.retry": ("Backoff",),
    "streams.runner": ("run",),
    "streams.schedule": ("Slot",),
    "streams.settings": ("Settings",),
    "streams.step": ("Step",),
    "streams.sync": ("SyncStreams",),
}  # fmt: skip
_HOME_OF: Final = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'streams' has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(home), name)
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
