"""Publishable: what may be published, and the words for what may not: no event, a wrong key, a wrong name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from streams.errors import Unpublishable
from streams.events.definition import SchemaError
from streams.events.event import Event

MOST_KEY: Final = 200  # bytes
MOST_ONCE: Final = 1_000  # bytes


def checked_event(event: object) -> type[Event]:
    """The class of an event; raises `Unpublishable` for anything else."""
    if isinstance(event, Event):
        kind = type(event)
        if "stream" not in vars(kind) or not kind.stream:
            raise Unpublishable(
                f"{kind.__name__} has no stream of its own; write class {kind.__name__}(Event, stream=...), and call "
                "super() in its __pydantic_init_subclass__"
            )
        return kind
    raise Unpublishable(f"{_named(event)} is no event; publish an instance of a class that is derived from Event")


def checked_events(events: Any) -> Iterable[Event]:
    """What `publish_many` may go through: of a list or a tuple, each is looked at before anything is published."""
    if isinstance(events, Event):
        raise Unpublishable(f"publish_many() takes many events, not one {type(events).__name__}; use publish()")
    if isinstance(events, str | bytes | dict | type) or not isinstance(events, Iterable):
        raise Unpublishable(f"publish_many() takes a list or an iterator of events, not {_named(events)}")
    if isinstance(events, list | tuple):
        for event in events:
            checked_event(event)
    return events


def encoded(event: Event) -> bytes:
    """The JSON of an event; raises `Unpublishable` when it would not be read as it is."""
    try:
        return event.encode()
    except SchemaError as error:
        raise Unpublishable(str(error)) from None


def checked_key(key: Any) -> str:
    """An ordering key, empty for none; raises `Unpublishable` for one that is no text or too long."""
    return _text("key", key, MOST_KEY)


def checked_once(once: Any) -> str:
    """The name under which one event is published, empty for none; raises `Unpublishable`."""
    return _text("once", once, MOST_ONCE)


def _text(name: str, value: Any, max_bytes: int) -> str:
    if not isinstance(value, str):
        raise Unpublishable(f"{name}={shown(value)} must be text, as {name}=str(order_id); leave it out for none")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise Unpublishable(f"{name}= has a lone surrogate, which is not UTF-8; use an id or a hash") from None
    if size > max_bytes:
        what = "the ordering key" if name == "key" else f"{name}="
        raise Unpublishable(f"{what} is longer than {max_bytes} bytes; use an id or a hash")
    return value


def shown(value: Any) -> str:
    """An argument in a message, cut; only the class of what is no plain value."""
    plain = value is None or isinstance(value, bool | int | float | str)
    try:
        return ascii(value)[:60] if plain else type(value).__name__
    except ValueError:  # an int with too many digits
        return type(value).__name__


def _named(value: Any) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__} itself (call it: {value.__name__}(...))"
    return "None" if value is None else f"a {type(value).__name__}"
