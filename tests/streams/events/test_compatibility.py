"""What is said to harm nobody harms nobody: schemas are compared, and then real messages are read both ways."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Annotated, Any, Final, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic_core import to_json

from streams import PII, Event
from streams.events.compatibility import Difference, differences
from streams.events.contract import binding
from streams.events.event import _registry
from tests.streams.events.generated import messages


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
    return reads_bytes(reader, to_json(data))


def reads_bytes(reader: type[Event], data: bytes | None) -> bool:
    """Whether it can."""
    try:
        reader.decode(data or b"", 1)
    except ValueError:
        return False
    return True


def test_what_harms_nobody_is_read_both_ways() -> None:
    """Every kind of field against every other: old messages by the new class, what the new one writes by the old."""
    kinds = [event(field) for field in FIELDS]
    harms = [[{found.harms for found in between(old, new)} for new in kinds] for old in kinds]

    @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.tuples(*(messages(binding(kind.json_schema())) for kind in kinds)))
    def check(made: tuple[Any, ...]) -> None:
        texts = [to_json(message) if reads(kind, message) else None for kind, message in zip(kinds, made, strict=True)]
        written = [text and kind.decode(text, 1).encode() for kind, text in zip(kinds, texts, strict=True)]
        for one, text in enumerate(texts):
            for other in range(len(kinds)) if text is not None else ():  # JSON Schema takes 1.0 for an integer
                if not harms[one][other] & {"old messages", "both"}:
                    assert reads_bytes(kinds[other], text), (text, FIELDS[one], FIELDS[other])
                if not harms[other][one] & {"old consumers", "both"}:
                    assert reads_bytes(kinds[other], written[one]), (written[one], FIELDS[other], FIELDS[one])

    check()


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
