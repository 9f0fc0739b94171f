"""Contracts: what may change under one version, both ways: old messages in new code, new messages in old code."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
import pytest
from hypothesis import HealthCheck, given, seed, settings
from pydantic import AfterValidator, AwareDatetime, BaseModel, EmailStr, Field, HttpUrl
from pydantic_core import to_json

from streams import Event, SchemaError
from streams.events import event, upcast
from streams.events.contract import accept, binding, compare
from streams.events.event import Upcaster, registered
from streams.events.examples import examples_of
from streams.events.privacy import PII
from tests.faults.conftest import ROOT
from tests.streams.events.generated import messages

CONTRACTS = ROOT / "schemas" / "contracts"


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    """The test's classes are gone afterwards."""
    before = dict(event._registry)
    yield
    event._registry.clear()
    event._registry.update(before)
    gc.collect()


def moved(version: int = 1, stream: str = "moves", step: Upcaster | None = None, **fields: Any) -> type[Event]:
    """Another state of the same event's class."""
    event._registry.pop("Moved", None)
    body: dict[str, Any] = {
        "__annotations__": {name: kind for name, (kind, _) in fields.items()},
        "__module__": __name__,
    }
    body |= {name: default for name, (_, default) in fields.items() if default is not ...}
    if step:
        body["_step"] = staticmethod(upcast(from_version=version - 1)(step))
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
    assert str(change) == "Moved v1, why: is new and optional; run streams schema --accept"
    assert [path.name for path in accept(directory, [moved(**more)])] == ["Moved.v1.json"]
    assert compare(directory, [moved(**more)]) == []
    (change,) = compare(directory, [moved(**BASE)])
    assert change.breaks
    assert change.field == "why"
    assert change.what.startswith("was removed: consumers of the old code cannot read new messages")


@pytest.mark.parametrize(
    ("fields", "stream", "told"),
    [
        (
            {"n": None},
            "moves",
            "n: was removed: consumers of the old code cannot read new messages",
        ),
        ({"must": (int, ...)}, "moves", "must: is new and required: messages that lie in streams cannot be read"),
        ({"n": (int, 0)}, "moves", "n: was required and is optional"),
        ({"way": (Literal["in", "out"], ...)}, "moves", "way: was optional and is required"),
        ({"n": (str, ...)}, "moves", "n: changed from integer to string: neither"),
        ({"way": (Literal["in"], "in")}, "moves", "way: may no longer be 'out': messages that lie"),
        ({"way": (Literal["in", "out", "lost"], "in")}, "moves", "way: may now be 'lost': consumers of the old"),
        ({"name": (Annotated[str, PII, Field(max_length=10)], ...)}, "moves", "name: maxLength 20 -> 10: messages"),
        ({"name": (Annotated[str, Field(max_length=20)], ...)}, "moves", "name: is no longer marked PII: its values"),
        ({}, "others", ": its stream changed from moves to others: no group reads the messages in the old stream"),
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
    kept = orjson.loads((directory / "Moved.v1.json").read_bytes())
    assert kept.pop("examples")
    assert kept == binding(moved(**BASE).json_schema())


def test_a_new_version_needs_a_step(directory: Path) -> None:
    """Old messages are read through it, for ever: it is tried with the accepted ones."""
    fields = BASE | {"must": (int, ...)}

    def breaking(step: Upcaster | None, version: int = 2) -> list[str]:
        changes = compare(directory, [moved(version=version, step=step, **fields)])
        return [str(change) for change in changes if change.breaks]

    assert breaking(None) == ["Moved v1: no step leads to the next version; write @upcast(from_version=1)"]
    assert breaking(lambda data: data | {"must": 1}, version=3) == breaking(None), "a gap in the middle"
    (wrong,) = breaking(lambda data: data | {"most": 1})
    assert wrong.startswith("Moved v1: a message of it can no longer be read (1 validation error for Moved must Field")
    assert wrong.endswith("fix the upcast from 1")
    (raising,) = breaking(lambda data: {"must": data["nothing"]})
    assert "can no longer be read ('nothing')" in raising

    right = moved(version=2, step=lambda data: data | {"must": 1}, **fields)
    (change,) = compare(directory, [right])
    assert not change.breaks
    accept(directory, [right])
    assert sorted(path.name for path in directory.iterdir()) == ["Moved.v1.json", "Moved.v2.json"]
    assert compare(directory, [right]) == []
    assert "a version is never taken back" in str(compare(directory, [moved(**BASE)])[0])


def test_what_was_personal_stays_personal(directory: Path) -> None:
    """Also in a new version: the old messages are shown by its marks. They stay in their stream as well."""
    shown = BASE | {"name": (Annotated[str, Field(max_length=20)], ...)}
    found = compare(directory, [moved(version=2, stream="others", step=lambda data: data, **shown)])
    assert [change.what.partition(":")[0] for change in found if change.breaks] == [
        "its stream changed from moves to others", "is no longer marked PII",
    ]  # fmt: skip
    found = compare(directory, [moved(version=2, step=lambda data: data, n=(int, ...))])
    assert not any(change.breaks for change in found), "what the new version does not have is shown to nobody"


def test_a_validator_that_became_stricter_is_found(directory: Path) -> None:
    """It stands in no JSON Schema: the accepted messages tell."""

    def has_a_number(value: str) -> str:
        if not any(letter.isdigit() for letter in value):
            raise ValueError("a name has a number")
        return value

    strict = Annotated[str, PII, Field(max_length=20), AfterValidator(has_a_number)]
    (change,) = compare(directory, [moved(**BASE | {"name": (strict, ...)})])
    assert change.breaks
    assert "a name has a number" in change.what
    assert change.remedy == "fix its validation"


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
    (directory / "Moved.json").unlink()
    (directory / "Moved.v1.json").rename(directory / "Moved.v2.json")
    with pytest.raises(ValueError, match=r"Moved\.v2\.json is the contract of Moved/1"):
        compare(directory, [])


class Part(BaseModel):
    """A part that has itself as a part, and a field that is called like a keyword."""

    title: str
    parts: list["Part"] = []


def test_examples_go_to_the_edges() -> None:
    """Every choice, the bounds, with and without what is optional; the same at every run."""
    everything = moved(
        count=(Annotated[int, Field(ge=3, le=9)], ...), email=(EmailStr, ...), link=(HttpUrl, ...),
        at=(AwareDatetime, ...), code=(Annotated[str, Field(pattern=r"^[A-Z]{2}$")], ...), part=(Part, ...),
        maybe=(bool | None, None),
    )  # fmt: skip
    made = examples_of(everything)
    assert made == examples_of(everything)
    assert {example["count"] for example in made} == {3, 9}
    assert {example.get("maybe", "absent") for example in made} == {"absent", True, False, None}
    assert binding(everything.json_schema())["$defs"]["Part"]["properties"].keys() == {"title", "parts"}


def test_an_event_of_which_no_example_can_be_made_says_so(tmp_path: Path) -> None:
    """Nothing is written; told one, it is accepted."""
    pattern = r"^[A-Z]{2}-[0-9]{4}-[a-z]$"
    with pytest.raises(SchemaError, match=r"Moved: no example.*Field\(examples=\[\.\.\.\]\)"):
        accept(tmp_path / "new", [moved(code=(Annotated[str, Field(pattern=pattern)], ...))])
    assert not (tmp_path / "new").exists()
    told = moved(code=(Annotated[str, Field(pattern=pattern, examples=["DE-0001-a"])], ...))
    assert examples_of(told) == [{"code": "DE-0001-a"}]


@pytest.mark.parametrize("path", sorted(CONTRACTS.glob("*.json")), ids=lambda path: path.stem)
def test_old_messages_are_read_by_the_present_code(path: Path) -> None:
    """Whatever fits an accepted contract is an event today, by its class or through its steps."""
    schema = orjson.loads(path.read_bytes())
    present = registered(schema["$id"].partition("/")[0])
    assert present is not None

    @seed(1)
    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(messages(schema))
    def reads(document: dict[str, Any]) -> None:
        assert present.decode(to_json(document), schema["x-version"]).type == present.type

    reads()


def test_old_code_reads_what_new_code_publishes(directory: Path) -> None:
    """A consumer that was not deployed yet ignores an optional field that it does not know."""
    new = moved(**BASE | {"why": (str, "")})
    written = new(n=1, name="Ada", why="because").encode()
    old = moved(**BASE)
    assert old.decode(written, 1).n == 1  # type: ignore[attr-defined]
