"""Contract: what a version of an event was when it was accepted, and whether the code still keeps it.

One file of JSON per type and version, beside the code, so that a change of a contract is seen in review: the JSON
Schema, with messages as `examples`. Under one version only optional fields may be added. Everything else is a new
version with a step from the old one: messages of the old one lie in streams, wait, or are dead letters, and consumers
that were not deployed yet read the new ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import orjson
from pydantic_core import to_json

from streams.events.compatibility import Difference, Harm, differences
from streams.events.definition import SchemaError
from streams.events.event import Event
from streams.events.examples import examples_of

_FILE: Final = re.compile(r"(?P<type>.+)\.v(?P<version>[1-9][0-9]*)\.json")
_ACCEPT: Final = "run streams schema --accept"
_CONSEQUENCE: Final[Mapping[Harm, str]] = {
    "": "",
    "old messages": "messages that lie in streams cannot be read",
    "old consumers": "consumers of the old code cannot read new messages, or read them wrong",
    "both": "neither can new code read old messages, nor old code new ones",
    "privacy": "its values would be shown in logs, traces and the dashboard",
    "readers": "no group reads the messages in the old stream",
}


@dataclass(frozen=True, slots=True)
class Change:
    """One way in which an event is not what was accepted. `breaks` is False for what only has to be accepted."""

    type: str
    version: int
    field: str
    what: str
    remedy: str
    breaks: bool = True

    def __str__(self) -> str:
        place = f"{self.type} v{self.version}" + (f", {self.field}" if self.field else "")
        return f"{place}: {self.what}; {self.remedy}"

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return asdict(self)


def compare(directory: Path, events: Iterable[type[Event]]) -> list[Change]:
    """Compares events with the contracts in a directory; breaking changes first. The accepted messages of every version
    are read by the present classes, through their upcasts. Raises `SchemaError` for a file there that is no contract.
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
            remedy = "keep the class while messages of it may exist, or delete its contracts with intent"
            found.append(Change(type, max(versions), "", what, remedy))
            continue
        found += dict.fromkeys(_of(event, versions))
    return sorted(found, key=lambda change: (not change.breaks, change.type, change.version, change.field))


def accept(directory: Path, events: Iterable[type[Event]]) -> list[Path]:
    """Writes what is new and breaks nothing; returns the files. Raises `SchemaError` with every breaking change, or for
    an event of which no example can be made, and then writes nothing.
    """
    events = list(events)
    if broken := [change for change in compare(directory, events) if change.breaks]:
        raise SchemaError("\n".join(map(str, broken)))
    texts = {directory / f"{event.type}.v{event.version}.json": _written(event) for event in events}
    directory.mkdir(parents=True, exist_ok=True)
    new = {path: text for path, text in texts.items() if not path.exists() or path.read_bytes() != text}
    for path, text in new.items():
        path.write_bytes(text)
    return list(new)


def binding(schema: Any, *, is_names: bool = False) -> Any:
    """What of a JSON Schema binds: no titles, and no `additionalProperties: false`, because readers ignore the rest.

    With `is_names` its keys are names of fields, which may be called `title`.
    """
    if isinstance(schema, list):
        return [binding(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if is_names:
        return {name: binding(part) for name, part in schema.items()}
    return {
        key: value if key in ("default", "examples", "enum", "const", "required")
        else binding(value, is_names=key in ("properties", "$defs", "patternProperties"))
        for key, value in schema.items()
        if key != "title" and (key, value) != ("additionalProperties", False)
    }  # fmt: skip


def _of(event: type[Event], accepted: Mapping[int, dict[str, Any]]) -> Iterator[Change]:
    type, version = event.type, event.version
    for old in (old for old in sorted(accepted) if old > version):
        what = f"the class is version {version}, and version {old} was accepted"
        yield Change(type, old, "", what, "a version is never taken back: raise it further")
    missing = [step for step in range(min(accepted, default=version), version) if step not in event.upcasters]
    for step in missing:
        yield Change(type, step, "", "no step leads to the next version", f"write @upcast(from_version={step})")
    if version not in accepted:
        yield Change(type, version, "", "it is not accepted yet", _ACCEPT, breaks=False)
    schema, is_readable = binding(event.json_schema()), True
    for old in (old for old in sorted(accepted) if old <= version):
        for difference in differences(binding(accepted[old]), schema):
            # Old messages are shown by the present marks and lie where they lie; all else is the steps' business.
            if old == version or difference.harms in ("privacy", "readers"):
                yield _change(type, version, difference)
            is_readable = is_readable and (old != version or difference.harms not in ("old messages", "both"))
        if is_readable and not any(step >= old for step in missing):
            yield from _read_examples(event, old, accepted[old])


def _change(type: str, version: int, difference: Difference) -> Change:
    if not difference.is_breaking:
        return Change(type, version, difference.field, difference.what, _ACCEPT, breaks=False)
    remedy = f"raise the version to {version + 1} and write an upcast from {version}, or take it back"
    if difference.harms == "privacy":
        remedy = "mark it PII, or give the value another field in a new version"
    elif difference.harms == "readers":
        remedy = "keep the stream, or publish a new type there"
    return Change(type, version, difference.field, f"{difference.what}: {_CONSEQUENCE[difference.harms]}", remedy)


def _read_examples(event: type[Event], version: int, schema: dict[str, Any]) -> Iterator[Change]:
    for example in schema.get("examples", ()):
        try:
            event.decode(to_json(example), version)
        except Exception as error:  # noqa: BLE001 - an upcast and a validator are user code
            text = " ".join(str(error).split())[:200] or error.__class__.__name__
            what = f"a message of it can no longer be read ({text}): {orjson.dumps(example).decode()[:200]}"
            remedy = f"fix the upcast from {version}" if version < event.version else "fix its validation"
            yield Change(event.type, version, "", what, remedy)
            return


def _written(event: type[Event]) -> bytes:
    schema = {**binding(event.json_schema()), "examples": examples_of(event)}
    return orjson.dumps(schema, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"


def _read(directory: Path) -> Iterator[tuple[str, int, dict[str, Any]]]:
    for path in sorted(directory.glob("*.json")):
        named = _FILE.fullmatch(path.name)
        try:
            schema = orjson.loads(path.read_bytes())
        except orjson.JSONDecodeError as error:
            raise SchemaError(f"{path} is no JSON: {error}") from error
        if named is None or not isinstance(schema, dict):
            raise SchemaError(f"{path} is no contract: TYPE.vN.json with a JSON Schema is meant")
        if schema.get("$id") != f"{named['type']}/{named['version']}":
            raise SchemaError(f"{path} is the contract of {schema.get('$id')}, not of what its name says")
        yield named["type"], int(named["version"]), schema
