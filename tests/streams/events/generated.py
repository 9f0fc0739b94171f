"""messages: what JSON Schema allows, generated: the half of it that pydantic writes for the fields of events."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, timedelta, timezone
from typing import Any, Final

from hypothesis import strategies as st

_ZONES: Final = (UTC, timezone(timedelta(hours=5, minutes=30)))
_FORMATS: Final[Mapping[str, st.SearchStrategy[str]]] = {
    "date": st.dates().map(lambda day: day.isoformat()),
    "email": st.from_regex(r"[a-z]{1,20}(\.[a-z]{1,20})?@[a-z]{1,20}\.(com|org|de)", fullmatch=True),
    "date-time": st.datetimes(timezones=st.sampled_from(_ZONES)).map(
        lambda moment: moment.isoformat().replace("+00:00", "Z")
    ),
    "uri": st.from_regex(r"https?://[a-z]{1,20}\.com(/[a-z0-9]{0,20})?(\?[a-z]=[0-9]{1,3})?", fullmatch=True),
}
_DEEPEST: Final = 3


def messages(schema: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a schema (with its `$defs`) allows, also with fields that it does not know."""
    return _values(schema, schema.get("$defs", {}), 0)


def _values(schema: Mapping[str, Any], definitions: Mapping[str, Any], depth: int) -> st.SearchStrategy[Any]:
    if "$ref" in schema:
        return _values(definitions[schema["$ref"].rpartition("/")[2]], definitions, depth + 1)
    if "anyOf" in schema:
        return st.one_of([_values(way, definitions, depth) for way in schema["anyOf"]])
    if "const" in schema or "enum" in schema:
        return st.sampled_from([schema["const"]] if "const" in schema else schema["enum"])
    match schema["type"]:
        case "object":
            return _objects(schema, definitions, depth)
        case "array" if "prefixItems" in schema:
            return st.tuples(*(_values(part, definitions, depth) for part in schema["prefixItems"])).map(list)
        case "array":
            most = schema.get("maxItems", 3 if depth < _DEEPEST else 0)
            return st.lists(_values(schema["items"], definitions, depth) if most else st.nothing(),
                            min_size=schema.get("minItems", 0), max_size=most)  # fmt: skip
        case "integer":
            least = schema.get("minimum", schema["exclusiveMinimum"] + 1 if "exclusiveMinimum" in schema else None)
            return st.integers(least, schema.get("maximum"))
        case "number":
            return st.floats(allow_nan=False, allow_infinity=False)
        case "boolean":
            return st.booleans()
        case "null":
            return st.none()
    assert schema["type"] == "string", schema
    if "format" in schema:
        return _FORMATS[schema["format"]]
    if "pattern" in schema:
        least, most = schema.get("minLength", 0), schema.get("maxLength", 100)
        whole = re.compile(schema["pattern"].removeprefix("^").removesuffix("$"))
        # Long enough by repetition: nearly nothing that is generated at random would be.
        return (
            st.from_regex(whole, fullmatch=True)
            .map(lambda text: (text * max(1, -(-least // max(1, len(text)))))[:most])
            .filter(lambda text: len(text) >= least and whole.fullmatch(text) is not None)
        )
    return st.text(st.characters(codec="utf-8"), min_size=schema.get("minLength", 0), max_size=schema.get("maxLength"))


def _objects(schema: Mapping[str, Any], definitions: Mapping[str, Any], depth: int) -> st.SearchStrategy[Any]:
    if "properties" not in schema:
        inner = schema.get("additionalProperties")
        if not inner:
            return st.just({"unknown": 1})
        names = schema.get("propertyNames")
        keys = _values({"type": "string"} | names, definitions, depth) if names else st.text(max_size=5)
        return st.dictionaries(keys, _values(inner, definitions, depth), max_size=3)
    needed = set(schema.get("required", ()))
    parts = {name: _values(part, definitions, depth) for name, part in schema["properties"].items()}
    return st.fixed_dictionaries(
        {name: part for name, part in parts.items() if name in needed},
        optional={name: part for name, part in parts.items() if name not in needed} | {"unknown": st.integers()},
    )
