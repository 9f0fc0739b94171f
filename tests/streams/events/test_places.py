"""What would not be read as it was published is named by its place in the event."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from pydantic import BaseModel, model_validator

from streams import Event, SchemaError
from streams.events.roundtrip import difference


class Line(BaseModel):
    """One more each time it is made, but for nothing."""

    n: int

    def model_post_init(self, _: object) -> None:
        """Changes what was given."""
        if self.n:
            self.n += 1


@dataclasses.dataclass
class Part:
    """Of two values."""

    name: str
    sizes: tuple[int, ...] = ()


class Counted(Event, stream="notes", version=1):
    """An event that is another one each time it is made."""

    n: int

    def model_post_init(self, _: object) -> None:
        """Changes what was given."""
        self.__dict__["n"] = self.n + 1


class Validated(Event, stream="notes", version=1):
    """The same by a validator of the whole."""

    n: int

    @model_validator(mode="after")
    def _more(self) -> Validated:
        self.__dict__["n"] = self.n + 1
        return self


class Nested(Event, stream="notes", version=1):
    """An event of parts."""

    lines: list[Line] = []  # noqa: RUF012 - pydantic copies it
    by_name: dict[str, Line] = {}  # noqa: RUF012 - as above
    one: Line | None = None


@pytest.mark.parametrize(
    ("event", "place"),
    [
        (Counted(n=1), "n"),
        (Validated(n=1), "n"),
        (Nested(lines=[Line(n=0), Line(n=5)]), "lines.1.n"),
        (Nested(by_name={"a": Line(n=0), "secret": Line(n=5)}), "by_name.{}.n"),
        (Nested(one=Line(n=5)), "one.n"),
    ],
)
def test_an_event_that_changes_when_it_is_read_is_refused(event: Event, place: str) -> None:
    """Each reader would have another one. A key of a mapping is a value, and may be personal."""
    with pytest.raises(SchemaError, match=f"{place.replace('{}', '[{][}]')} would not arrive as it is") as refused:
        event.encode()
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("published", "read", "place"),
    [
        ([1, 2], [1, 2], ""),
        ([1, 2], [1, 3], "1"),
        ([1, 2], [1], "data"),
        ((1, [0, 2]), (1, [0, 3]), "1.1"),
        ({"a": [1]}, {"a": [2]}, "{}.0"),
        ({"a": 1}, {"a": 1, "b": 2}, "data"),
        (Part("a", (1, 2)), Part("a", (1, 2)), ""),
        (Part("a", (1, 2)), Part("a", (1, 3)), "sizes.1"),
        ({1, 2}, {1, 2}, ""),
        ({1, 2}, {1, 3}, "data"),
        ({1}, {1.0}, "data"),
        (True, 1, "data"),
        (1, 1.0, ""),
        (float("nan"), float("nan"), ""),
        (float("nan"), 1.0, "data"),
    ],
)
def test_the_place_of_the_first_difference(published: Any, read: Any, place: str) -> None:
    said = difference(published, read)
    assert said.partition(" would not")[0] == place
    assert difference([0, published], [0, read]).partition(" would not")[0] == (
        "" if not place else "1" if place == "data" else f"1.{place}"
    )


def test_a_key_that_would_be_another_is_said_without_it() -> None:
    assert difference({1: 0}, {"1": 0}) == (
        "data has a key that would be read as another; declare dict[str, ...] and give text"
    )
    assert difference([{1: 0}], [{"1": 0}]).startswith("0 has a key")
