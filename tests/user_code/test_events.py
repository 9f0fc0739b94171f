"""Odd events, from `publish()` to their handler: what arrives is what was published."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from pydantic import (
    AliasChoices,
    AnyUrl,
    BaseModel,
    ConfigDict,
    EmailStr,
    Field,
    HttpUrl,
    Json,
    RootModel,
    computed_field,
    model_validator,
)
from pydantic.alias_generators import to_camel
from typing_extensions import TypedDict

from streams import PII, Event, Processor
from streams.events import upcast
from streams.testing import Harness


class Colour(enum.Enum):
    """Choices."""

    RED = "red"
    TWO = 2


class Cat(BaseModel):
    """One of two."""

    kind: Literal["cat"] = "cat"


class Dog(BaseModel):
    """The other one, with the same field."""

    kind: Literal["dog"] = "dog"


class Tree(BaseModel):
    """A part that has itself as a part."""

    name: str
    children: list[Tree] = []


class Address(BaseModel):
    """A part in another notation."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid")

    post_code: str


class Tags(RootModel[frozenset[str]]):
    """A set with a name."""


class Sizes(TypedDict, total=False):
    """A dict with a name."""

    width: int
    height: Decimal


class Point(NamedTuple):
    """A tuple with names."""

    x: float
    y: float


@dataclasses.dataclass(frozen=True)
class Period:
    """A dataclass."""

    start: datetime
    length: timedelta


class OddValues(Event, stream="odd"):
    """Most of what pydantic knows."""

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    number: int = 0
    ratio: float = 0
    price: Decimal = Decimal("1.10")
    raw: bytes = b"\xff\x00"
    at: datetime = datetime(2026, 11, 30, 12, tzinfo=ZoneInfo("Europe/Berlin"))
    naive: datetime = datetime(2026, 11, 30, 12)  # noqa: DTZ001 - one that has no zone
    far: datetime = datetime(1, 1, 1, 0, 0, 0, 1, tzinfo=timezone(timedelta(hours=5, minutes=45)))
    day: date = date(2024, 2, 29)
    hour: time = time(23, 59, 59, 999999)
    took: timedelta = timedelta(days=-1, microseconds=1)
    id: UUID = UUID(int=7)
    link: HttpUrl = HttpUrl("https://Example.com/a?b=c#d")
    broker: AnyUrl = AnyUrl("redis://h:6379/0")
    path: PurePosixPath = PurePosixPath("/a/b.csv")
    colour: Colour = Colour.TWO
    either: int | str = "1"
    switch: bool | int = 1
    when: datetime | str = "2026-01-01"
    pet: Cat | Dog = Dog()
    animal: Annotated[Cat | Dog, Field(discriminator="kind")] = Dog()
    tree: Tree = Tree(name="a", children=[Tree(name="b")])
    tags: Tags = Tags(frozenset(("b", "a")))
    sizes: Sizes = Field({"width": 1, "height": Decimal("2.50")})
    point: Point = Point(1, 2)
    period: Period = Period(datetime(2026, 1, 1, tzinfo=UTC), timedelta(seconds=1.5))
    pair: tuple[int, str] = (1, "x")
    many: tuple[int, ...] = (1, 2)
    unique: set[int] = Field({3, 1})
    by_number: dict[int, list[str]] = Field({1: ["a"]})
    by_day: dict[date, int] = Field({date(2026, 1, 1): 1})
    json_text: Json[list[int]] = "[1, 2]"  # type: ignore[assignment]
    anything: Any = Field({"a": [1, 2.5, None, True, 2**80]})
    person: Annotated[EmailStr, PII] = "Ada@example.com"


class OddNames(Event, stream="odd", version=2):
    """Made under aliases, with a field for each attribute of the envelope that is no name of the base."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    user_id: int
    source: str = ""
    key: str = ""
    time: str = Field("", validation_alias=AliasChoices("when", "at"))
    home: Address | None = None

    @upcast(from_version=1)
    @staticmethod
    def from_1(document: dict[str, Any]) -> dict[str, Any]:
        """It had another name."""
        return {"user_id": document["user"]}

    @computed_field
    @property
    def label(self) -> str:
        """Computed by its reader again."""
        return f"user {self.user_id}"


class OddValidator(Event, stream="odd"):
    """Its validator gives back what it was given when it is given what it gave back."""

    name: str

    @model_validator(mode="after")
    def strip(self) -> OddValidator:
        """As people mean it."""
        object.__setattr__(self, "name", self.name.strip().casefold())
        return self


class OddText(Event, stream="odd"):
    """Only text, which every byte of must survive."""

    text: str = ""


def odd_events() -> Iterator[Event]:
    """Each arrives as it is."""
    yield OddValues()
    yield OddValues(number=2**53 + 1, ratio=-0.0)
    yield OddValues(number=-(2**70), ratio=5e-324, price=Decimal("1E+30"), raw=b"")
    yield OddValues(either=1, switch=True, pet=Cat(), when=datetime(2026, 1, 1, tzinfo=UTC))
    yield OddValues(at=datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")))
    yield OddNames(userId=7, source="/evil", key="k", when="now", home=Address(postCode="1"))  # type: ignore[call-arg]
    yield OddValidator(name="  ADA ")
    yield OddText(text="\x00\x1b[2J\u2028\U0001f600e\u0301\ufeff\uffff")
    yield OddText(text='{"$claim": {}}')
    yield OddText.model_construct(text="made by hand")
    yield OddText(text="a").model_copy(update={"text": "b"})


@pytest.mark.parametrize("event", list(odd_events()), ids=range(11))
async def test_it_arrives_as_it_was_published(event: Event) -> None:
    """To its handler, equal; and its JSON Schema has the names that are on the wire."""
    handled: list[Event] = []
    probe = Processor("probe")

    async def handle(event: Any) -> None:
        handled.append(event)

    probe.on(type(event))(handle)
    async with Harness(probe) as streams:
        receipt = await streams.publish(event)
        await streams.run()
        trail = await streams.event(receipt.id)
    assert receipt.stream == "odd"
    (read,) = handled
    assert read.encode() == event.encode()
    if isinstance(event, OddValues) and isinstance(read, OddValues):
        assert read.at.timestamp() == event.at.timestamp()  # Python compares no ambiguous time of two zones
        event, read = (one.model_copy(update={"at": None}) for one in (event, read))
    assert read == event
    assert trail.message is not None
    assert (trail.message.type, trail.message.source) == (type(event).__name__, "/planning-bord")
    if not isinstance(event, OddValues):  # pydantic has no schema for a Json with a default that is a list
        assert set(type(event).json_schema()["properties"]) == set(type(event).model_fields)


async def test_an_old_version_is_read_by_names_too() -> None:
    """An upcast writes the names of the fields, whatever aliases there are."""
    handled = []
    probe = Processor("probe")

    @probe.on(OddNames)
    async def handle(event: OddNames) -> None:
        handled.append(event.user_id)

    async with Harness(probe) as streams:
        await streams.add_entry("odd", {"type": "OddNames", "dataversion": "1", "data": '{"user": 7}'})
        await streams.add_entry("odd", {"type": "OddNames", "dataversion": "2", "data": '{"user_id": 8, "later": 1}'})
        await streams.run()
    assert handled == [7, 8]
