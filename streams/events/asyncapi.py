"""AsyncAPI: a description of all streams, events and consumer groups as an AsyncAPI 3 document, for other tools."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from streams.events.contract import binding
from streams.events.definition import SchemaError
from streams.events.event import Event
from streams.events.examples import examples_of

_SUFFIXES: Final = {"high": ":high", "normal": "", "low": ":low"}
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
"""The fields of a stream entry beside `data`, and whether they must be there (docs/reference/wire-format.md)."""


def document(
    title: str, version: str, events: Iterable[type[Event]], groups: Mapping[str, Iterable[str]]
) -> dict[str, Any]:
    """Describes events and the groups that receive them; `groups` names the types that each consumer group handles.

    A channel is a stream. Its address is the stream's name; the Redis keys of its three priorities in the first
    partition are named in `x-redis-keys`, with `APP` for the prefix. Types that no event here has are left out.
    Messages have `x-version` and `x-reads-versions`, those that their upcasts lead from, personal fields `x-pii`.
    """
    schemas: dict[str, Any] = {"Headers": _headers()}
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
                operations[f"receive-{group}-{stream}"] = {
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
            "messages": {event.type: _message(event, schemas) for stream in streams for event in by_stream[stream]},
            "schemas": schemas,
        },
    }


def _channel(stream: str, events: list[type[Event]]) -> dict[str, Any]:
    return {
        "address": stream,
        "messages": {event.type: {"$ref": f"#/components/messages/{event.type}"} for event in events},
        "x-lanes": list(_SUFFIXES),
        "x-redis-keys": [f"{{APP:0}}:stream:{stream}{suffix}" for suffix in _SUFFIXES.values()],
    }


def _operation(action: str, stream: str, events: list[type[Event]]) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{stream}"},
        "messages": [{"$ref": f"#/channels/{stream}/messages/{event.type}"} for event in events],
    }


def _message(event: type[Event], schemas: dict[str, Any]) -> dict[str, Any]:
    """The message; its payload and the parts of it go to `schemas`, where references of the document lead to."""
    payload = binding(event.json_schema(f"#/components/schemas/{event.type}.{{model}}"))
    schemas |= {f"{event.type}.{name}": part for name, part in payload.pop("$defs", {}).items()}
    for said_elsewhere in ("$schema", "$id", "x-stream", "x-version"):
        del payload[said_elsewhere]
    payload.pop("x-priority", None)
    schemas[event.type] = payload
    own = {"type": {"const": event.type}, "dataversion": {"const": str(event.version)}}
    try:
        examples = [{"payload": example} for example in examples_of(event)[:1]]
    except SchemaError:  # a document without one is still right
        examples = []
    return {
        "name": event.type,
        "title": f"{event.type}, version {event.version}",
        "summary": (event.__doc__ or "").strip().partition("\n")[0],
        "contentType": "application/json",
        "headers": {"allOf": [{"$ref": "#/components/schemas/Headers"}, {"type": "object", "properties": own}]},
        "payload": {"$ref": f"#/components/schemas/{event.type}"},
        "examples": examples,
        "x-priority": event.usual_priority,
        "x-version": event.version,
        "x-reads-versions": [old for old in range(1, event.version) if _leads_here(event, old)] + [event.version],
    }


def _headers() -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: {"type": "string", "description": text} for name, (text, _) in _HEADERS.items()},
        "required": [name for name, (_, required) in _HEADERS.items() if required],
    }


def _leads_here(event: type[Event], old: int) -> bool:
    return all(step in event.upcasters for step in range(old, event.version))
