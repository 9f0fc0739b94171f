"""Compatibility: the differences between two JSON Schemas of one event, and which readers or writers each one breaks.

Messages and code of one version meet in both directions: old messages lie in streams and are read by new code, and
during a deploy old consumers read what new publishers write. A narrower schema refuses the first, a wider one is
refused by the second. The rules stand in docs/concepts/events.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

Schema = Mapping[str, Any]
Harm = Literal["", "old messages", "old consumers", "both", "privacy", "readers"]

_LOWER: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_PARTS: Final = ("properties", "required", "items", "prefixItems", "additionalProperties", "anyOf", "oneOf", "enum")
_SAYS_NOTHING: Final = frozenset(
    ("$defs", "$id", "$ref", "$schema", "title", "description", "default", "examples", "deprecated", "discriminator",
     "const", "type", "x-pii", "x-priority", "x-stream", "x-version", *_PARTS, *_LOWER, *_UPPER)
)  # fmt: skip
_NOTHING: Final[Schema] = {}


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference. `field` is its path (empty: the event itself), `what` says it, `harms` names what it breaks.

    `privacy`: personal values would be shown. `readers`: groups would look for the event in another stream.
    """

    field: str
    what: str
    harms: Harm

    @property
    def is_breaking(self) -> bool:
        """Whether it needs a new version."""
        return bool(self.harms)


def differences(old: Schema, new: Schema) -> list[Difference]:
    """Compares two schemas of the same event (see `Event.json_schema`), field by field."""
    comparison = _Comparison(old.get("$defs", _NOTHING), new.get("$defs", _NOTHING))
    found = list(comparison.compare(old, new, "", frozenset()))
    if old.get("x-stream") != new.get("x-stream"):
        found.insert(
            0, Difference("", f"its stream changed from {old.get('x-stream')} to {new.get('x-stream')}", "readers")
        )
    was, now = (schema.get("x-priority", "normal") for schema in (old, new))
    if was != now:
        found.append(Difference("", f"its usual priority changed from {was} to {now}", ""))
    return list(dict.fromkeys(found))


class _Comparison:
    """Walks through two schemas at once."""

    def __init__(self, old_definitions: Schema, new_definitions: Schema) -> None:
        self._old, self._new = old_definitions, new_definitions

    def compare(self, old: Any, new: Any, field: str, seen: frozenset[tuple[str, str]]) -> Iterator[Difference]:
        if not isinstance(old, Mapping) or not isinstance(new, Mapping):
            if old != new:
                yield Difference(field, f"changed from {_shown(old)} to {_shown(new)}", "both")
            return
        pair = old.get("$ref", ""), new.get("$ref", "")
        if all(pair):
            if pair in seen:  # a model that has itself as a part
                return
            seen |= {pair}
        old, new = _resolved(old, self._old), _resolved(new, self._new)
        if old.get("x-pii") and not new.get("x-pii"):
            yield Difference(field, "is no longer marked PII", "privacy")
        elif new.get("x-pii") and not old.get("x-pii"):
            yield Difference(field, "is marked PII", "")
        ways, new_ways = _alternatives(old), _alternatives(new)
        if len(ways) > 1 or len(new_ways) > 1:
            yield from self._compare_alternatives(ways, new_ways, field, seen)
            return
        yield from _compare_type(old, new, field)
        if old.get("type") == new.get("type"):
            yield from _compare_values(old, new, field)
            yield from self._compare_parts(old, new, field, seen)

    def _compare_alternatives(
        self, old: list[Any], new: list[Any], field: str, seen: frozenset[tuple[str, str]]
    ) -> Iterator[Difference]:
        old = [_resolved(way, self._old) | {"$ref": way.get("$ref", "")} for way in old]
        left = [_resolved(way, self._new) | {"$ref": way.get("$ref", "")} for way in new]
        unmatched = []
        for way in old:
            same = [other for other in left if not any(each.is_breaking for each in self._between(way, other, seen))]
            if not same:
                unmatched.append(way)
                continue
            left.remove(same[0])
            yield from self._between(way, same[0], seen, field)
        for way in unmatched:
            alike = next((other for other in left if other.get("type") == way.get("type")), None)
            if alike is None:
                yield Difference(field, f"is no longer {_named(way)}", "old messages")
                continue
            left.remove(alike)
            yield from self._between(way, alike, seen, field)
        for way in left:
            yield Difference(field, f"may now be {_named(way)}", "old consumers")

    def _between(
        self, old: dict[str, Any], new: dict[str, Any], seen: frozenset[tuple[str, str]], field: str = ""
    ) -> list[Difference]:
        pair = old["$ref"], new["$ref"]
        if all(pair) and pair in seen:
            return []
        return list(self.compare(old | {"$ref": ""}, new | {"$ref": ""}, field, seen | {pair} if all(pair) else seen))

    def _compare_parts(
        self, old: Schema, new: Schema, field: str, seen: frozenset[tuple[str, str]]
    ) -> Iterator[Difference]:
        yield from self._compare_fields(old, new, field, seen)
        for name, mark in (("items", "[]"), ("additionalProperties", "{}")):
            # False, no unknown fields, is the publisher's rule: readers ignore them.
            was, now = old.get(name) or None, new.get(name) or None
            if was is not None or now is not None:
                yield from self.compare(was, now, f"{field}{mark}", seen)
        was, now = old.get("prefixItems", []), new.get("prefixItems", [])
        for at, (one, other) in enumerate(zip(was, now, strict=False)):  # another length is another minItems
            yield from self.compare(one, other, f"{field}[{at}]", seen)

    def _compare_fields(
        self, old: Schema, new: Schema, field: str, seen: frozenset[tuple[str, str]]
    ) -> Iterator[Difference]:
        before, after = old.get("properties", _NOTHING), new.get("properties", _NOTHING)
        needed, needs = set(old.get("required", ())), set(new.get("required", ()))
        for name in before:
            path = f"{field}.{name}" if field else name
            if name not in after:
                renamed = next((other for other in after if other not in before and after[other] == before[name]), None)
                hint = f" (renamed to {renamed}?)" if renamed else ""
                yield Difference(path, f"was removed{hint}", "old consumers")
                continue
            if name in needed - needs:
                yield Difference(path, "was required and is optional", "old consumers")
            elif name in needs - needed:
                yield Difference(path, "was optional and is required", "old messages")
            yield from self.compare(before[name], after[name], path, seen)
        for name in after:
            path = f"{field}.{name}" if field else name
            if name not in before:
                needy = name in needs
                text = "is new and required" if needy else "is new and optional"
                yield Difference(path, text, "old messages" if needy else "")


def _resolved(schema: Schema, definitions: Schema) -> dict[str, Any]:
    """The schema with what it refers to put in its place; what stands beside the reference wins."""
    name = schema.get("$ref", "").removeprefix("#/$defs/")
    own = {key: value for key, value in schema.items() if key != "$ref"}
    return {**definitions.get(name, _NOTHING), **own} if name else own


def _alternatives(schema: Schema) -> list[Any]:
    return list(schema.get("anyOf") or schema.get("oneOf") or [schema])


def _compare_type(old: Schema, new: Schema, field: str) -> Iterator[Difference]:
    was, now = old.get("type"), new.get("type")
    if was == now:
        return
    harms: Harm = "both"
    if (was, now) == ("integer", "number") or now is None:
        harms = "old consumers"
    elif (was, now) == ("number", "integer") or was is None:
        harms = "old messages"
    yield Difference(field, f"changed from {_named(old)} to {_named(new)}", harms)


def _compare_values(old: Schema, new: Schema, field: str) -> Iterator[Difference]:
    yield from _compare_choices(_choices(old), _choices(new), field)
    for name in (*_LOWER, *_UPPER):
        was, now = old.get(name), new.get(name)
        if was != now:
            narrower = now is not None and (was is None or (now > was) == (name in _LOWER))
            yield Difference(
                field, f"{name} {_shown(was)} -> {_shown(now)}", "old messages" if narrower else "old consumers"
            )
    for name in sorted((old.keys() | new.keys()) - _SAYS_NOTHING):
        was, now = old.get(name), new.get(name)
        if was != now:
            yield _became(
                field,
                name,
                was,
                now,
                "both" if None not in (was, now) else "old messages" if was is None else "old consumers",
            )


def _became(field: str, name: str, was: Any, now: Any, harms: Harm) -> Difference:
    return Difference(field, f"{name} {_shown(was)} -> {_shown(now)}", harms)


def _choices(schema: Schema) -> list[Any] | None:
    return [schema["const"]] if "const" in schema else schema.get("enum")


def _compare_choices(old: list[Any] | None, new: list[Any] | None, field: str) -> Iterator[Difference]:
    if old is None or new is None:
        if new is not None:
            yield Difference(field, f"may only be {_listed(new)}", "old messages")
        if old is not None:
            yield Difference(field, f"may now be more than {_listed(old)}", "old consumers")
        return
    if gone := [value for value in old if value not in new]:
        yield Difference(field, f"may no longer be {_listed(gone)}", "old messages")
    if added := [value for value in new if value not in old]:
        yield Difference(field, f"may now be {_listed(added)}", "old consumers")


def _named(schema: Schema) -> str:
    name = schema.get("$ref", "").rpartition("/")[2] or str(schema.get("type", "anything"))
    return f"{name} ({schema['format']})" if "format" in schema else name


def _listed(values: list[Any]) -> str:
    return ", ".join(map(repr, values[:5])) + (", ..." if len(values) > 5 else "")


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)[:60]
