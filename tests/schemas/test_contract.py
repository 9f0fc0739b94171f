"""Contracts: what may change under one version, both ways: old messages in new code, new messages in old code."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from pydantic import Field

from schemas import Event, event, upcast
from schemas.contract import accept, compare
from schemas.event import registered
from schemas.privacy import PII
from tests.faults.conftest import ROOT

CONTRACTS = ROOT / "schemas" / "contracts"


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    """The test's classes are gone afterwards."""
    before = dict(event._registry)
    yield
    event._registry.clear()
    event._registry.update(before)
    gc.collect()


def moved(version: int = 1, stream: str = "moves", step: bool = False, **fields: Any) -> type[Event]:
    """Another state of the same event's class."""
    event._registry.pop("Moved", None)
    body: dict[str, Any] = {
        "__annotations__": {name: kind for name, (kind, _) in fields.items()},
        "__module__": __name__,
    }
    body |= {name: default for name, (_, default) in fields.items() if default is not ...}
    if step:
        body["_step"] = staticmethod(upcast(from_version=version - 1)(lambda data: data))
    return type(Event)("Moved", (Event,), body, stream=stream, version=version)


BASE: dict[str, Any] = {
    "n": (int, ...), "way": (Literal["in", "out"], "in"), "name": (Annotated[str, PII, Field(max_length=20)], ...),
}  # fmt: skip


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where the first state was accepted."""
    accept(tmp_path, [moved(**BASE)])
    return tmp_path


def test_what_was_accepted_is_as_accepted(directory: Path) -> None:
    """Words about it may change."""
    assert compare(directory, [moved(**BASE)]) == []
    described = Annotated[int, Field(description="how many")]
    assert compare(directory, [moved(**BASE | {"n": (described, ...)})]) == []


def test_an_optional_field_may_be_added(directory: Path) -> None:
    """It has to be accepted, and then it is part of the contract."""
    more = BASE | {"why": (str, "")}
    (change,) = compare(directory, [moved(**more)])
    assert not change.breaks
    assert str(change) == "Moved v1, why: an optional field was added; run streams schema --accept"
    assert [path.name for path in accept(directory, [moved(**more)])] == ["Moved.v1.json"]
    assert compare(directory, [moved(**more)]) == []
    (change,) = compare(directory, [moved(**BASE)])
    assert change.breaks
    assert (change.field, change.what) == ("why", "it was removed or renamed")


@pytest.mark.parametrize(
    ("fields", "stream", "told"),
    [
        ({"n": None}, "moves", "n: it was removed or renamed"),
        ({"must": (int, ...)}, "moves", "must: a required field was added"),
        ({"n": (int, 0)}, "moves", "n: it was required and is optional"),
        ({"way": (Literal["in", "out"], ...)}, "moves", "way: it was optional and is required"),
        ({"n": (str, ...)}, "moves", 'n: type "integer" -> "string"'),
        ({"way": (Literal["in"], "in")}, "moves", "way: const nothing -> "),
        ({"way": (Literal["in", "out", "lost"], "in")}, "moves", 'way: enum ["in","out"] -> ["in","out","lost"]'),
        ({"name": (Annotated[str, PII, Field(max_length=10)], ...)}, "moves", "name: maxLength 20 -> 10"),
        ({"name": (Annotated[str, Field(max_length=20)], ...)}, "moves", "name: it is not marked as personal any more"),
        ({}, "others", ": its stream was moves and is others"),
    ],
)
def test_what_breaks(directory: Path, fields: dict[str, Any], stream: str, told: str) -> None:
    """Named with its field; nothing is accepted."""
    changed = {name: kind for name, kind in (BASE | fields).items() if kind is not None}
    event_class = moved(stream=stream, **changed)
    changes = compare(directory, [event_class])
    assert [change.breaks for change in changes] == [True]
    assert told in str(changes[0])
    with pytest.raises(ValueError, match="Moved v1"):
        accept(directory, [event_class])
    assert orjson.loads((directory / "Moved.v1.json").read_bytes()) == moved(**BASE).json_schema()


def test_a_new_version_needs_a_step(directory: Path) -> None:
    """Old messages are read through it, for ever."""
    fields = BASE | {"must": (int, ...)}
    changes = compare(directory, [moved(version=2, **fields)])
    assert [str(change) for change in changes if change.breaks] == [
        "Moved v1: no step leads to the next version; write @upcast(from_version=1)"
    ]
    (change,) = compare(directory, [moved(version=2, step=True, **fields)])
    assert not change.breaks
    accept(directory, [moved(version=2, step=True, **fields)])
    assert sorted(path.name for path in directory.iterdir()) == ["Moved.v1.json", "Moved.v2.json"]
    assert "a version is never taken back" in str(compare(directory, [moved(**BASE)])[0])


def test_an_event_does_not_just_go(directory: Path) -> None:
    """Its messages would be dead letters of an unknown type."""
    (change,) = compare(directory, [])
    assert change.breaks
    assert "no class is registered for it any more" in change.what


def test_a_file_that_is_no_contract_is_named(directory: Path) -> None:
    (directory / "Moved.json").write_text("{}")
    with pytest.raises(ValueError, match=r"Moved\.json is no contract"):
        compare(directory, [])
    (directory / "Moved.json").write_text("{")
    with pytest.raises(ValueError, match=r"Moved\.json is no JSON"):
        compare(directory, [])


def values(schema: dict[str, Any], known: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Makes values that fit a field's JSON Schema, of the kinds that events have."""
    if "$ref" in schema:
        return values(known[schema["$ref"].rpartition("/")[2]], known)
    if "const" in schema or "enum" in schema:
        return st.sampled_from(schema.get("enum") or [schema["const"]])
    if "anyOf" in schema:
        return st.one_of(*(values(each, known) for each in schema["anyOf"]))
    formats = {
        "email": st.integers(0).map("someone+{}@example.com".format),
        "uri": st.integers(0).map("https://example.com/{}".format),
        "date-time": st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat),
        "date": st.dates().map(date.isoformat),
    }
    if schema.get("format") in formats:
        return formats[schema["format"]]
    if "pattern" in schema:
        fits = st.from_regex(schema["pattern"], fullmatch=True)
        return fits.filter(lambda it: schema.get("minLength", 0) <= len(it) <= schema.get("maxLength", 10_000))
    match schema.get("type"):
        case "integer" | "number":
            return st.integers(schema.get("minimum", -(2**31)), schema.get("maximum", 2**31))
        case "string":
            return st.text(min_size=schema.get("minLength", 0), max_size=min(schema.get("maxLength", 50), 50))
        case "boolean":
            return st.booleans()
        case "array":
            most = min(schema.get("maxItems", 3), 3)
            return st.lists(values(schema["items"], known), min_size=schema.get("minItems", 0), max_size=most)
        case "object":
            return documents(schema, known)
        case "null":
            return st.none()
    raise AssertionError(f"no values for {schema}: teach this test the new kind of field")


def documents(schema: dict[str, Any], known: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Makes objects, with and without what is optional."""
    fields = {name: values(field, known) for name, field in schema.get("properties", {}).items()}
    required = set(schema.get("required", ()))
    return st.fixed_dictionaries(
        {name: field for name, field in fields.items() if name in required},
        optional={name: field for name, field in fields.items() if name not in required},
    )


@pytest.mark.parametrize("path", sorted(CONTRACTS.glob("*.json")), ids=lambda path: path.stem)
def test_old_messages_are_read_by_the_present_code(path: Path) -> None:
    """Whatever fits an accepted contract is an event today, by its class or through its steps."""
    schema = orjson.loads(path.read_bytes())
    present = registered(schema["$id"].partition("/")[0])
    assert present is not None

    @seed(1)
    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(documents(schema, schema.get("$defs", {})))
    def reads(document: dict[str, Any]) -> None:
        assert present.decode(orjson.dumps(document), schema["x-version"]).type == present.type

    reads()


def test_old_code_reads_what_new_code_publishes(directory: Path) -> None:
    """A consumer that was not deployed yet ignores an optional field that it does not know."""
    new = moved(**BASE | {"why": (str, "")})
    written = new(n=1, name="Ada", why="because").encode()
    old = moved(**BASE)
    assert old.decode(written, 1).n == 1  # type: ignore[attr-defined]
