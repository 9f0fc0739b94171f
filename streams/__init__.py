"""The engine: event processing on Redis Streams. This is its public face; the modules read as the way of an event."""

from schemas.event import Event
from streams.client import Receipt, Streams
from streams.consumer import Consumer
from streams.delivery import Delivery
from streams.dependencies import CurrentDelivery, CurrentStreams, Depends, Shared
from streams.errors import NotFound, PublishUncertain, Refused, StreamsError, TooLarge, UnknownEvent, Unreachable
from streams.middleware import Middleware
from streams.outcome import DeadLetter, Retry, Snooze, Unavailable
from streams.processor import Processor
from streams.retry import Backoff
from streams.runner import run
from streams.settings import Settings

__all__ = [
    "Backoff",
    "Consumer",
    "CurrentDelivery",
    "CurrentStreams",
    "DeadLetter",
    "Delivery",
    "Depends",
    "Event",
    "Middleware",
    "NotFound",
    "Processor",
    "PublishUncertain",
    "Receipt",
    "Refused",
    "Retry",
    "Settings",
    "Shared",
    "Snooze",
    "Streams",
    "StreamsError",
    "TooLarge",
    "Unavailable",
    "UnknownEvent",
    "Unreachable",
    "run",
]
