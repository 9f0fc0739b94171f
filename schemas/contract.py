"""Contract: what an event looked like when it was accepted, and whether it still may be called the same version.

One file of JSON per type and version, beside the code, so that a change of a contract is seen in review. Under one
version only optional fields may be added. Everything else is a new version with a step from the old one: messages of
the old one lie in streams, wait, or are dead letters, and consumers that were not deployed yet read the new ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from schemas.event import Event

_WORDS: Final = frozenset({"title", "description", "examples", "default", "$comment", "deprecated"})
_FILE: Final = re.compile(r"(?P<type>.+)\.v(?P<version>[1-9][0-9]*)\.json")


@dataclass(frozen=True, slots=True)
class Change:
    """One way in which an event is not what was accepted. `breaks` is False for what only has to be accepted."""

    type: str
    version: int
    field: str
    what: str
    mend: str
    breaks: bool = True

    def __str__(self) -> str:
        place = f"{self.type} v{self.version}" + (f", {self.field}" if self.field else "")
        return f"{place}: {self.what}; {self.mend}"


def compare(directory: Path, events: Iterable[type[Event]]) -> list[Change]:
    """Compares events with the contracts in a directory; breaking changes first. Raises `ValueError` for a file there
    that is no contract.
    """
    known = {event.type: event for event in events}
    found: list[Change] = []
    accepted: dict[str, dict[int, dict[str, Any]]] = {type: {} for type in known}
    for type, version, schema in _read(directory):
        accepted.setdefault(type, {})[version] = schema
    for type, versions in sorted(accepted.items()):
        event = known.get(type)
        if event is None:
            what = "no class is registered for it any more"
            mend = "keep the class while messages of it may exist, or delete its contracts with intent"
            found.append(Change(type, max(versions), "", what, mend))
            continue
        found += _of(event, versions)
    return sorted(found, key=lambda change: (not change.breaks, change.type, change.version, change.field))


def _of(event: type[Event], accepted: dict[int, dict[str, Any]]) -> Iterator[Change]:
    type, version = event.type, event.version
    for old in sorted(accepted):
        if old > version:
            what = f"the class is version {version}, and version {old} was accepted"
            yield Change(type, old, "", what, "a version is never taken back: raise it further")
        elif old < version and old not in event.upcasters:
            yield Change(type, old, "", "no step leads to the next version", f"write @upcast(from_version={old})")
    if version not in accepted:
        yield Change(type, version, "", "it is not accepted yet", "run streams schema --accept", breaks=False)
        return
    yield from _differences(type, version, accepted[version], event.json_schema())


def _differences(type: str, version: int, old: dict[str, Any], new: dict[str, Any]) -> Iterator[Change]:
    mend = "raise the version and write an upcast from this one"
    if old.get("x-stream") != new.get("x-stream"):
        what = f"its stream was {old.get('x-stream')} and is {new.get('x-stream')}"
        yield Change(type, version, "", what, "publish a new type there")
    before, after = _fields(old), _fields(new)
    for name in sorted(before.keys() | after.keys()):
        if name not in after:
            yield Change(type, version, name, "it was removed or renamed", mend)
        elif name not in before:
            if name in new.get("required", ()):
                yield Change(type, version, name, "a required field was added", f"give it a default, or {mend}")
            else:
                yield Change(type, version, name, "an optional field was added", "run streams schema --accept", False)
        else:
            yield from _difference(type, version, name, before[name], after[name], mend)
            required = name in old.get("required", ()), name in new.get("required", ())
            if required == (True, False):
                yield Change(type, version, name, "it was required and is optional", mend)
            elif required == (False, True):
                yield Change(type, version, name, "it was optional and is required", mend)


def _difference(
    type: str, version: int, name: str, old: dict[str, Any], new: dict[str, Any], mend: str
) -> Iterator[Change]:
    if old.get("x-pii") and not new.get("x-pii"):
        yield Change(type, version, name, "it is not marked as personal any more", "mark it PII again")
    old, new = ({key: value for key, value in each.items() if key != "x-pii"} for each in (old, new))
    if old != new:
        changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
        told = ", ".join(f"{key} {_told(old.get(key))} -> {_told(new.get(key))}" for key in changed[:3])
        yield Change(type, version, name, told, mend)


def _fields(schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The fields, with what they refer to in their place and without words that mean nothing to a parser."""
    known = schema.get("$defs", {})

    def plain(value: Any, depth: int) -> Any:
        if isinstance(value, list):
            return [plain(each, depth) for each in value]
        if not isinstance(value, dict):
            return value
        reference = value.get("$ref")
        if reference is not None and depth < 20:
            return plain(known.get(str(reference).rpartition("/")[2], {}), depth + 1)
        return {key: plain(each, depth) for key, each in value.items() if key not in _WORDS}

    return {name: plain(field, 0) for name, field in schema.get("properties", {}).items()}


def _told(value: Any) -> str:
    return "nothing" if value is None else orjson.dumps(value).decode()[:60]


def accept(directory: Path, events: Iterable[type[Event]]) -> list[Path]:
    """Writes what is new and breaks nothing; returns the files. Raises `ValueError` with every breaking change, and
    then writes nothing.
    """
    events = list(events)
    changes = compare(directory, events)
    if broken := [change for change in changes if change.breaks]:
        raise ValueError("\n".join(map(str, broken)))
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for event in events:
        path = directory / f"{event.type}.v{event.version}.json"
        text = orjson.dumps(event.json_schema(), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"
        if not path.exists() or path.read_bytes() != text:
            path.write_bytes(text)
            written.append(path)
    return written


def _read(directory: Path) -> Iterator[tuple[str, int, dict[str, Any]]]:
    for path in sorted(directory.glob("*.json")):
        named = _FILE.fullmatch(path.name)
        try:
            schema = orjson.loads(path.read_bytes())
        except orjson.JSONDecodeError as error:
            raise ValueError(f"{path} is no JSON: {error}") from error
        if named is None or not isinstance(schema, dict):
            raise ValueError(f"{path} is no contract: TYPE.vN.json with a JSON Schema is meant")
        yield named["type"], int(named["version"]), schema
