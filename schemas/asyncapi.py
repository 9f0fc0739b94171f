"""AsyncAPI: a description of all streams, events and consumer groups as an AsyncAPI 3 document, for other tools."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from schemas.event import Event

_HEADERS: Final[dict[str, tuple[str, bool]]] = {
    "specversion": ("CloudEvents version, 1.0", False),
    "id": ("unique; the entry id when it is missing", False),
    "type": ("the event's type", True),
    "source": ("URI reference of the publisher", False),
    "time": ("RFC 3339; the time of the entry when it is missing", False),
    "dataversion": ("version of the type; 1 when it is missing", False),
    "partitionkey": ("ordering key", False),
    "correlationid": ("id of the event that began the conversation", False),
    "causationid": ("id of the event whose handling published this one", False),
    "traceparent": ("W3C trace context", False),
    "tracestate": ("W3C trace context", False),
    "expirytime": ("RFC 3339; not handled from then on", False),
}
"""The fields of a stream entry beside `data`, and whether they must be there (docs/wire-format.md)."""

_SCHEMA_FORMAT: Final = "application/schema+json;version=draft-2020-12"


def document(
    title: str, version: str, events: Iterable[type[Event]], groups: Mapping[str, Iterable[str]]
) -> dict[str, Any]:
    """Describes events and who receives them; `groups` names the types that each consumer group handles.

    A channel is a stream. Its address is the stream's name; the Redis keys of its three lanes in the first partition
    are named in `x-redis-keys`, with `APP` for the prefix. What a group handles that no event here is, is left out.
    """
    by_stream: dict[str, list[type[Event]]] = {}
    for event in sorted(events, key=lambda event: event.type):
        by_stream.setdefault(event.stream, []).append(event)
    streams = sorted(by_stream)
    operations: dict[str, Any] = {
        f"publish-{stream}": _operation("send", stream, by_stream[stream]) for stream in streams
    }
    for group, types in sorted(groups.items()):
        handled = set(types)
        for stream in streams:
            received = [event for event in by_stream[stream] if event.type in handled]
            if received:
                operations[f"{group}-{stream}"] = {
                    **_operation("receive", stream, received),
                    "x-consumer-group": group,
                }
    return {
        "asyncapi": "3.0.0",
        "info": {"title": title, "version": version},
        "defaultContentType": "application/json",
        "channels": {stream: _channel(stream, by_stream[stream]) for stream in streams},
        "operations": operations,
        "components": {
            "messages": {event.type: _message(event) for stream in streams for event in by_stream[stream]},
        },
    }


def _channel(stream: str, events: list[type[Event]]) -> dict[str, Any]:
    return {
        "address": stream,
        "messages": {event.type: {"$ref": f"#/components/messages/{event.type}"} for event in events},
        "x-redis-keys": [f"{{APP:0}}:stream:{stream}{lane}" for lane in (":high", "", ":low")],
    }


def _operation(action: str, stream: str, events: list[type[Event]]) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{stream}"},
        "messages": [{"$ref": f"#/channels/{stream}/messages/{event.type}"} for event in events],
    }


def _message(event: type[Event]) -> dict[str, Any]:
    return {
        "name": event.type,
        "title": f"{event.type}, version {event.version}",
        "summary": (event.__doc__ or "").strip().partition("\n")[0],
        "contentType": "application/json",
        "headers": {
            "type": "object",
            "properties": {name: {"type": "string", "description": text} for name, (text, _) in _HEADERS.items()},
            "required": [name for name, (_, required) in _HEADERS.items() if required],
        },
        "payload": {"schemaFormat": _SCHEMA_FORMAT, "schema": event.json_schema()},
    }
