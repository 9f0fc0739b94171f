"""Serialization: messages as JSON text in a table, and back, without a change of a single byte."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable
from typing import Any

import orjson

from streams.messages.message import EXPIRY, FIELDS, Message


def dump_follow_ups(messages: Iterable[Message]) -> str:
    """Writes outgoing messages with where and when they go."""
    rows = [
        {"target": message.target, "when": message.when, "once": message.once, "values": _dump_values(message)}
        for message in messages
    ]
    return orjson.dumps(rows).decode()


def load_follow_ups(text: str) -> tuple[Message, ...]:
    """Reads what `dump_follow_ups` wrote."""
    messages = []
    for row in orjson.loads(text):
        message = Message(_load_values(row["values"]), target=row["target"], when=row["when"])
        message.once = row["once"]
        messages.append(message)
    return tuple(messages)


def dump_message(message: Message) -> str:
    """Writes one message as an object of its fields."""
    return orjson.dumps(_dump_values(message)).decode()


def load_message(text: str) -> Message:
    """Reads one message. Raises `ValueError` when the text is not one: no JSON object, no id, no type, no data."""
    values = orjson.loads(text)
    if not isinstance(values, dict) or not all(values.get(name) for name in ("id", "type", "data")):
        raise ValueError("the row's message has no id, type or data")
    return Message(_load_values(values))


def _dump_values(message: Message) -> dict[str, Any]:
    named = zip([*FIELDS, EXPIRY], message.values, strict=False)  # only some expire
    return {name.decode(): _dump(value) for name, value in named}


def _load_values(values: dict[str, Any]) -> list[bytes]:
    loaded = [_load(values.get(name.decode(), "")) for name in FIELDS]
    if expiry := values.get(EXPIRY.decode()):
        loaded.append(_load(expiry))
    return loaded


def _dump(value: bytes) -> str | dict[str, str]:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": b64encode(value).decode()}


def _load(value: Any) -> bytes:
    match value:
        case str():
            return value.encode()
        case {"base64": str(text)}:
            return b64decode(text, validate=True)
    raise ValueError("a field of the row's message is neither text nor base64")
