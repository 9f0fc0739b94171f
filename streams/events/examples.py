"""Examples: messages of an event, made from its JSON Schema, to be read again by the code of years to come.

They go to the edges: every choice, every alternative, minimum and maximum of what is bounded, with and without what is
optional. They are the same at every run, because they are committed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import to_json

from streams.events.definition import SchemaError

if TYPE_CHECKING:
    from streams.events.event import Event

_MOST: Final = 8  # examples of an event
_LONGEST: Final = 64  # characters of a text: longer ones show no more, and are not read
_DEEPEST: Final = 4  # levels of a model that has itself as a part
_FORMATS: Final[Mapping[str, Sequence[str]]] = {
    "date": ("2026-11-24",),
    "date-time": ("2026-11-24T09:00:00Z", "2026-11-24T09:00:00.123456+01:00"),
    "duration": ("PT90S", "P1D"),
    "email": ("ada@example.com",),
    "idn-email": ("ada@example.com",),
    "ipv4": ("192.0.2.1",),
    "ipv6": ("2001:db8::1",),
    "time": ("09:00:00",),
    "uri": ("https://example.com/1",),
    "uuid": ("01a20c3a-65dd-7203-8765-451f4bc2f23e",),
}
_WORDS: Final = (
    "a", "A", "1", "0", "a1", "A1", "A-1", "a-1", "Ada", "ab", "AB", "abc", "ABC", "12", "123", "1.5", "+491", "1-a",
    "00000000", "a.b", "a@b.cd", "/a", "a/b", "a/b.cd", "#aaaaaa", "sha256:00",
)  # fmt: skip


def examples_of(event: type[Event]) -> list[dict[str, Any]]:
    """Makes messages that `event` can read. What `Field(examples=...)` gives comes first.

    Raises `SchemaError` when none of them can be read, as when a rule of the class is not in its schema.
    """
    schema = event.json_schema()
    made, problem = [], ""
    for data in [*schema.pop("examples", ()), *_objects(schema, schema.get("$defs", {}), 0)]:
        try:
            event.decode(to_json(data), event.version)
        except Exception as error:  # noqa: BLE001 - a validator is user code, and may raise anything
            problem = " ".join(str(error).split())
        else:
            made.append(data)
    unique = [data for at, data in enumerate(made) if data not in made[:at]]
    if not unique:
        raise SchemaError(
            f"{event.type}: no example of it can be made ({problem[:200] or 'no value fits'}); give its fields "
            "examples: Field(examples=[...])"
        )
    return unique[:_MOST]


def _values(schema: Mapping[str, Any], definitions: Mapping[str, Any], depth: int) -> list[Any]:
    """Values that the schema allows; none when it cannot be seen which."""
    if "examples" in schema:
        return list(schema["examples"])
    if "$ref" in schema:
        if depth >= _DEEPEST:
            return []
        return _values(definitions[schema["$ref"].rpartition("/")[2]], definitions, depth + 1)
    if ways := schema.get("anyOf") or schema.get("oneOf"):
        return [value for way in ways for value in _values(way, definitions, depth)]
    if "const" in schema or "enum" in schema:
        return [schema["const"]] if "const" in schema else list(schema["enum"])
    match schema.get("type"):
        case "object" if "properties" in schema:
            return list(_objects(schema, definitions, depth))
        case "object":
            inner = schema.get("additionalProperties")
            values = _values(inner, definitions, depth) if isinstance(inner, Mapping) else []
            return [{}, *({"key": value} for value in values[:1])]
        case "array":
            return list(_arrays(schema, definitions, depth))
        case "integer" | "number":
            return list(_numbers(schema))
        case "boolean":
            return [True, False]
        case "null":
            return [None]
        case "string":
            return list(_texts(schema))
    return ["anything"]


def _objects(schema: Mapping[str, Any], definitions: Mapping[str, Any], depth: int) -> Iterator[dict[str, Any]]:
    values = {name: _values(part, definitions, depth) for name, part in schema.get("properties", {}).items()}
    needed = schema.get("required", ())
    if any(not values[name] for name in needed):
        return
    yield {name: values[name][0] for name in needed}
    for at in range(min(_MOST, max(map(len, values.values()), default=0))):
        yield {name: choices[at % len(choices)] for name, choices in values.items() if choices}


def _arrays(schema: Mapping[str, Any], definitions: Mapping[str, Any], depth: int) -> Iterator[list[Any]]:
    if "prefixItems" in schema:
        firsts = [_values(part, definitions, depth) for part in schema["prefixItems"]]
        if all(firsts):
            yield [values[0] for values in firsts]
        return
    least, most = schema.get("minItems", 0), min(schema.get("maxItems", 3), 3)
    inner = schema.get("items")
    values = _values(inner, definitions, depth) if isinstance(inner, Mapping) else ["anything"]
    for length in sorted({least, max(least, 1), max(least, most)}):
        if values or length == 0:
            yield [values[at % len(values)] for at in range(length)]


def _numbers(schema: Mapping[str, Any]) -> Iterator[float]:
    step = schema.get("multipleOf", 1 if schema["type"] == "integer" else 0.5)
    least = schema.get("minimum", schema["exclusiveMinimum"] + step if "exclusiveMinimum" in schema else None)
    most = schema.get("maximum", schema["exclusiveMaximum"] - step if "exclusiveMaximum" in schema else None)
    for value in dict.fromkeys((least, most, 0, step, -step)):
        if value is not None and (least is None or value >= least) and (most is None or value <= most):
            yield value


def _texts(schema: Mapping[str, Any]) -> Iterator[str]:
    if schema.get("format") in _FORMATS:
        yield from _FORMATS[schema["format"]]
        return
    least, most = schema.get("minLength", 0), schema.get("maxLength", 2 * _LONGEST)
    pattern = schema.get("pattern")
    if pattern is None:
        limit = _LONGEST if "maxLength" in schema else 8
        yield from dict.fromkeys(("text"[:most].ljust(least, "t"), "t" * least, "ü" * max(least, min(most, limit))))
        return
    long_enough = (word * max(1, -(-least // len(word))) for word in _WORDS)
    yield from islice((word for word in long_enough if len(word) <= most and re.search(pattern, word)), 3)
