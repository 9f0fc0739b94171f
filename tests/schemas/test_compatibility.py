"""What is said to harm nobody harms nobody: schemas are compared, and then real messages are read both ways."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Annotated, Any, Final, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic_core import to_json

from schemas import PII, Event
from schemas.compatibility import Difference, differences
from schemas.contract import binding
from schemas.event import _registry
from tests.schemas.generated import messages


class Address(BaseModel):
    """A part of an event."""

    street: str


class AddressWithZip(BaseModel):
    """The same with something optional more."""

    street: str
    zip: str | None = None


class AddressInNeed(BaseModel):
    """The same with something required more."""

    street: str
    zip: str


class Tree(BaseModel):
    """It has itself as a part."""

    leaves: "list[Tree]" = []


class Colour(Enum):
    """A choice."""

    RED = "red"
    BLUE = "blue"


class MoreColours(Enum):
    """One more."""

    RED = "red"
    BLUE = "blue"
    GREEN = "green"


class Strict(BaseModel):
    """It forbids what it does not know where it is made; reading overrules it."""

    model_config = ConfigDict(extra="forbid")
    street: str


REQUIRED: Final[list[Any]] = [
    None, str, int, float, bool, str | None, int | str, list[str], list[int], dict[str, int], dict[str, str],
    Annotated[str, Field(max_length=5)], Annotated[str, Field(min_length=2)], Annotated[int, Field(ge=0)],
    Annotated[int, Field(ge=0, le=10)], Annotated[int, Field(gt=0)], Annotated[str, Field(pattern="^[a-z]+$")],
    Annotated[list[str], Field(min_length=1)], Literal["a"], Literal["a", "b"], Colour, MoreColours,
    Address, AddressWithZip, AddressInNeed, Strict, Tree, list[Address], list[AddressInNeed], Address | None,
    Address | AddressInNeed, tuple[int, str], tuple[int, int],
]  # fmt: skip
FIELDS: Final[list[Any]] = [
    *(None if kind is None else (kind, ...) for kind in REQUIRED),
    (str, "x"), (int, 1), (int | None, None), (Address | None, None), (list[str], []), (Colour, Colour.RED),
]  # fmt: skip
"""Every kind of field, as `create_model` takes it, and None for a field that is not there."""


@pytest.fixture(autouse=True, scope="module")
def _registry_as_it_was() -> Iterator[None]:
    before = dict(_registry)
    yield
    _registry.clear()
    _registry.update(before)


def event(field: Any, stream: str = "things", name: str = "f") -> type[Event]:
    """An event with this one field, or none."""
    _registry.pop("Thing", None)
    fields: Any = {} if field is None else {name: field}
    made: Any = create_model("Thing", __base__=Event, __cls_kwargs__={"stream": stream}, **fields)
    return made  # type: ignore[no-any-return]


def between(old: type[Event], new: type[Event]) -> list[Difference]:
    """What is different."""
    return differences(binding(old.json_schema()), binding(new.json_schema()))


def reads(reader: type[Event], data: Any) -> bool:
    """Whether it can."""
    try:
        reader.decode(to_json(data), 1)
    except ValueError:
        return False
    return True


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_what_harms_nobody_is_read_both_ways(data: st.DataObject) -> None:
    """Messages of every shape: the old ones by the new class, and what the new class writes by the old one."""
    old, new = event(data.draw(st.sampled_from(FIELDS))), event(data.draw(st.sampled_from(FIELDS)))
    harms = {change.harms for change in between(old, new)}
    if not harms & {"old messages", "both"}:
        message = data.draw(messages(binding(old.json_schema())))
        if reads(old, message):  # JSON Schema takes 1.0 for an integer
            assert reads(new, message), (message, old.json_schema(), new.json_schema())
    if not harms & {"old consumers", "both"}:
        message = data.draw(messages(binding(new.json_schema())))
        if reads(new, message):
            written = new.decode(to_json(message), 1).encode()
            old.decode(written, 1)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (None, (str, "x"), [("f", "is new and optional", "")]),
        (None, (str, ...), [("f", "is new and required", "old messages")]),
        ((str, ...), None, [("f", "was removed", "old consumers")]),
        ((str, "x"), None, [("f", "was removed", "old consumers")]),
        ((str, ...), (str, "x"), [("f", "was required and is optional", "old consumers")]),
        ((str, "x"), (str, ...), [("f", "was optional and is required", "old messages")]),
        ((str, ...), (int, ...), [("f", "changed from string to integer", "both")]),
        ((int, ...), (float, ...), [("f", "changed from integer to number", "old consumers")]),
        ((float, ...), (int, ...), [("f", "changed from number to integer", "old messages")]),
        ((str, ...), (str | None, ...), [("f", "may now be null", "old consumers")]),
        ((str | None, ...), (str, ...), [("f", "is no longer null", "old messages")]),
        ((Literal["a"], ...), (Literal["a", "b"], ...), [("f", "may now be 'b'", "old consumers")]),
        ((MoreColours, ...), (Colour, ...), [("f", "may no longer be 'green'", "old messages")]),
        ((str, ...), (Literal["a"], ...), [("f", "may only be 'a'", "old messages")]),
        (
            (str, ...),
            (Annotated[str, Field(max_length=5)], ...),
            [("f", "maxLength none -> 5", "old messages")],
        ),
        (
            (Annotated[int, Field(ge=1)], ...),
            (Annotated[int, Field(ge=0)], ...),
            [("f", "minimum 1 -> 0", "old consumers")],
        ),
        (
            (Annotated[str, Field(pattern="^a")], ...),
            (Annotated[str, Field(pattern="^b")], ...),
            [("f", "pattern ^a -> ^b", "both")],
        ),
        ((Address, ...), (AddressWithZip, ...), [("f.zip", "is new and optional", "")]),
        ((Address, ...), (AddressInNeed, ...), [("f.zip", "is new and required", "old messages")]),
        ((list[Address], ...), (list[AddressInNeed], ...), [("f[].zip", "is new and required", "old messages")]),
        ((dict[str, int], ...), (dict[str, str], ...), [("f{}", "changed from integer to string", "both")]),
        ((Address | None, ...), (AddressInNeed | None, ...), [("f.zip", "is new and required", "old messages")]),
        ((Tree, ...), (Tree, ...), []),
        ((Address, ...), (Strict, ...), []),
        ((Annotated[str, PII], ...), (str, ...), [("f", "is no longer marked PII", "privacy")]),
        ((str, ...), (Annotated[str, PII], ...), [("f", "is marked PII", "")]),
    ],
)  # fmt: skip
def test_a_change_is_said_in_one_line(old: Any, new: Any, expected: list[tuple[str, str, str]]) -> None:
    """The field, what changed, and whom it harms."""
    found = between(event(old), event(new))
    assert [(change.field, change.what, change.harms) for change in found] == expected


def test_a_renamed_field_and_a_moved_stream_are_seen() -> None:
    """Both are breaking, and named."""
    removed, added = between(event((str, ...)), event((str, ...), name="g"))
    assert (removed.field, removed.what) == ("f", "was removed (renamed to g?)")
    assert (added.field, added.harms) == ("g", "old messages")
    (moved,) = between(event(None), event(None, stream="elsewhere"))
    assert (moved.what, moved.harms) == ("its stream changed from things to elsewhere", "readers")
