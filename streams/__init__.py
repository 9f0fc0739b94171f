"""The engine: event processing on Redis Streams. This is its public API; each package is one step in the way of an
event, and its docstring says what it is.

Names are imported when they are asked for: a command that publishes one event does not wait for the consumer's parts.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from streams.admin.cancel import Cancellation
    from streams.client.client import CurrentStreams, Streams
    from streams.client.sync_client import SyncStreams
    from streams.consuming.consumer import Consumer
    from streams.consuming.runner import run
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
    from streams.handlers.backoff import Backoff
    from streams.handlers.batch import Batch, BatchFailed
    from streams.handlers.dependencies import CurrentBatch, CurrentDelivery, Depends, Shared
    from streams.handlers.limit import Limit
    from streams.handlers.processor import Processor
    from streams.handlers.progress import CurrentProgress, Progress
    from streams.inspecting.follow import Update
    from streams.messages.delivery import Delivery
    from streams.messages.middleware import Middleware
    from streams.messages.outcome import DeadLetter, DeadLettered, Retry, Snooze, Unavailable
    from streams.receipt import Receipt
    from streams.scheduling.schedule import Slot
    from streams.settings import Settings

__all__ = [  # noqa: RUF022 - in the order of sorted()
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
    "PII",
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
    "Streams",
    "StreamsError",
    "SyncStreams",
    "TooLarge",
    "Unavailable",
    "Unpublishable",
    "Unreachable",
    "Update",
    "run",
]


def exports(package: str, homes: Mapping[str, tuple[str, ...]]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of a package whose names are imported from their modules when they are asked for:
    importing one module of it never loads its neighbours.
    """
    home_of = {name: home for home, names in homes.items() for name in names}

    def get(name: str) -> Any:
        home = home_of.get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = getattr(import_module(home), name)
        setattr(import_module(package), name, found)
        return found

    return get, lambda: sorted(home_of)


_HOMES: Final = {
    "streams.admin.cancel": ("Cancellation",),
    "streams.client.client": ("CurrentStreams", "Streams"),
    "streams.client.sync_client": ("SyncStreams",),
    "streams.consuming.consumer": ("Consumer",),
    "streams.consuming.runner": ("run",),
    "streams.errors": (
        "NotFound",
        "NotReplicated",
        "PublishUncertain",
        "Refused",
        "StreamsError",
        "TooLarge",
        "Unpublishable",
        "Unreachable",
    ),
    "streams.events": ("Event", "PII", "SchemaError", "Secret"),
    "streams.handlers.backoff": ("Backoff",),
    "streams.handlers.batch": ("Batch", "BatchFailed"),
    "streams.handlers.dependencies": ("CurrentBatch", "CurrentDelivery", "Depends", "Shared"),
    "streams.handlers.limit": ("Limit",),
    "streams.handlers.processor": ("Processor",),
    "streams.handlers.progress": ("CurrentProgress", "Progress"),
    "streams.inspecting.follow": ("Update",),
    "streams.messages.delivery": ("Delivery",),
    "streams.messages.middleware": ("Middleware",),
    "streams.messages.outcome": ("DeadLetter", "DeadLettered", "Retry", "Snooze", "Unavailable"),
    "streams.receipt": ("Receipt",),
    "streams.scheduling.schedule": ("Slot",),
    "streams.settings": ("Settings",),
}
__getattr__, __dir__ = exports(__name__, _HOMES)
