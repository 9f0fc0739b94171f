"""An event is read as it was published, or refused: random classes of events with random values."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import math
import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Annotated, Any, Generic, Literal, NamedTuple, Optional, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import (
    AfterValidator,
    AnyUrl,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    HttpUrl,
    Json,
    PlainSerializer,
    RootModel,
    SecretStr,
    SerializeAsAny,
    Tag,
    ValidationError,
    create_model,
)
from typing_extensions import TypedDict

from streams import Event, SchemaError
from streams.events import event as registry


class Colour(enum.Enum):
    """Choices."""

    RED = "red"
    ONE = 1
    NONE = None


class Level(enum.IntEnum):
    """Numbers with names."""

    LOW = 1
    HIGH = 2


class Part(BaseModel):
    """A part that is not frozen, with an alias."""

    n: int = Field(1, alias="N")
    text: str = ""


class Special(Part):
    """More than a part."""

    more: int = 0


class Cat(BaseModel):
    """One of two."""

    kind: Literal["cat"] = "cat"
    lives: float = 9.0


class Dog(BaseModel):
    """The other one."""

    kind: Literal["dog"] = "dog"
    lives: float = 1.0


class Names(RootModel[list[str]]):
    """A list with a class."""


class Typed(TypedDict):
    """A dict with a class."""

    x_y: Annotated[int, Field(alias="xY")]


class Pair(NamedTuple):
    """A tuple with names."""

    x: int
    y: str


@dataclasses.dataclass
class Plain:
    """A dataclass."""

    x: int
    at: datetime


T = TypeVar("T")
_T = TypeVar("_T")


class Box(BaseModel, Generic[T]):
    """A generic part."""

    content: T


_ints = st.integers() | st.sampled_from([2**53 + 1, 2**64, -(2**70)])
_floats = st.floats() | st.sampled_from([0.1, -0.0, 1e308, 5e-324])
_texts = st.text(st.characters(), max_size=6) | st.sampled_from(["\udc80", "1", "true", "nan", "", "2026-01-01"])
_zones = st.sampled_from(
    [None, UTC, ZoneInfo("Europe/Berlin"), timezone(timedelta(hours=5, minutes=45)), timezone(timedelta(seconds=-1234))]
)
_datetimes = st.datetimes(timezones=_zones, allow_imaginary=True)
_scalars = st.none() | st.booleans() | _ints | _floats | _texts
_parts = st.builds(lambda n, text: Part(N=n, text=text), st.integers(), st.text(max_size=3)) | st.builds(Special)

LEAVES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (int, _ints),
    (float, _floats),
    (str, _texts),
    (bool, st.booleans()),
    (bytes, st.binary(max_size=5)),
    (None, st.none()),
    (Decimal, st.decimals() | st.just(Decimal("1.10"))),
    (Annotated[Decimal, Field(allow_inf_nan=True)], st.decimals()),
    (Annotated[float, Field(allow_inf_nan=True)], _floats),
    (datetime, _datetimes),
    (date, st.dates()),
    (time, st.times(timezones=_zones)),
    (timedelta, st.timedeltas()),
    (UUID, st.uuids()),
    (Colour, st.sampled_from(Colour)),
    (Level, st.sampled_from(Level)),
    (Literal["a", 1, True] | None, st.sampled_from(["a", 1, True, None])),
    (PurePosixPath, st.sampled_from([PurePosixPath("/a/b"), PurePosixPath("a/../b"), PurePosixPath("caf\udce9")])),
    (HttpUrl, st.sampled_from(["https://Example.com/a b", "http://u:p@xn--n3h.net"])),
    (AnyUrl, st.sampled_from(["redis://h/0", "mailto:a@b.c"])),
    (complex, st.complex_numbers()),
    (re.Pattern, st.sampled_from([re.compile("a+"), re.compile("a", re.IGNORECASE)])),
    (Any, _scalars | st.lists(_scalars, max_size=2) | _datetimes | st.tuples(_ints) | _parts | st.binary(max_size=3)),
    (int | str, _ints | _texts),
    (bool | int | float, st.booleans() | _ints | _floats),
    (str | bytes, _texts | st.binary(max_size=4)),
    (datetime | str, _datetimes | _texts),
    (float | None, _floats | st.none()),
    (Part, _parts),
    (SerializeAsAny[Part], _parts),
    (BaseModel, _parts),
    (Cat | Dog, st.builds(Cat) | st.builds(Dog)),
    (Annotated[Cat | Dog, Field(discriminator="kind")], st.builds(Cat) | st.builds(Dog)),
    (
        Annotated[
            Annotated[Cat, Tag("c")] | Annotated[Dog, Tag("d")],
            Discriminator(lambda value: "c" if "cat" in str(value) else "d"),
        ],
        st.builds(Cat) | st.builds(Dog),
    ),
    (Box[int | str], st.builds(lambda v: Box[int | str](content=v), st.integers() | st.text(max_size=2))),
    (Names, st.lists(_texts, max_size=2)),
    (Typed, st.builds(lambda n: {"xY": n}, st.integers())),
    (Pair, st.builds(Pair, st.integers(), _texts)),
    (Plain, st.builds(Plain, st.integers(), _datetimes)),
    (Json[list[int]], st.just("[1, 2]")),
    (Json, st.sampled_from(['{"a": 1}', "1.50", '"x"'])),
    (SecretStr, st.just("hunter2")),
    (Annotated[int, AfterValidator(lambda value: value + 1)], st.integers()),
    (Annotated[str, BeforeValidator(lambda value: str(value).strip())], st.sampled_from([" a ", "b"])),
    (Annotated[str, PlainSerializer(lambda value: value[:1])], st.sampled_from(["a", "ab"])),
    (Annotated[float, PlainSerializer(lambda value: f"{value:.2f}")], st.sampled_from([1.25, 1.256])),
    (Annotated[int, Field(exclude=True)], st.integers()),
]


def _containers(inner: tuple[Any, st.SearchStrategy[Any]]) -> st.SearchStrategy[tuple[Any, st.SearchStrategy[Any]]]:
    kind, values = inner
    made: list[tuple[Any, st.SearchStrategy[Any]]] = [
        (list[kind], st.lists(values, max_size=3)),
        (tuple[kind, ...], st.lists(values, max_size=3).map(tuple)),
        (tuple[kind, int], st.tuples(values, st.integers())),
        (dict[str, kind], st.dictionaries(_texts, values, max_size=2)),
        (Optional[kind], values | st.none()),  # noqa: UP045 - `|` knows no None on both sides
    ]
    for key, keys in ((int, st.integers()), (float, _floats), (bool, st.booleans()), (datetime, _datetimes)):
        made.append((dict[key, kind], st.dictionaries(keys, values, max_size=2)))
    made.append((dict[Any, Any], st.dictionaries(st.integers() | _texts, values, max_size=2)))
    if kind in (int, str, bool, float, bytes, int | str, Colour, datetime):
        made += [(set[kind], st.sets(values, max_size=3)), (frozenset[kind], st.frozensets(values, max_size=3))]
    return st.sampled_from(made)


_types = st.recursive(st.sampled_from(LEAVES), lambda inner: inner.flatmap(_containers), max_leaves=3)
_names = st.sampled_from(
    ["a", "b", "id", "time", "source", "key", "data", "json", "type", "stream", "encode", "version"]
)
_aliases = st.sampled_from([None, None, None, "b", "A", "type"])
_configs = st.sampled_from(
    [
        {}, {}, {"populate_by_name": True}, {"alias_generator": str.upper}, {"allow_inf_nan": True},
        {"allow_inf_nan": True, "ser_json_inf_nan": "strings"}, {"ser_json_bytes": "base64"}, {"strict": True},
        {"ser_json_bytes": "base64", "val_json_bytes": "base64"}, {"ser_json_timedelta": "float"}, {"extra": "ignore"},
        {"ser_json_temporal": "milliseconds"}, {"str_strip_whitespace": True}, {"use_enum_values": True},
        {"serialize_by_alias": True}, {"validate_by_alias": False, "validate_by_name": True}, {"defer_build": True},
        {"str_to_upper": True}, {"coerce_numbers_to_str": True}, {"extra": "allow"}, {"frozen": False},
    ]
)  # fmt: skip


@contextlib.contextmanager
def own_classes() -> Iterator[None]:
    """What is defined within it is forgotten after it."""
    before = dict(registry._registry)
    try:
        yield
    finally:
        registry._registry.clear()
        registry._registry.update(before)


def shape(value: Any) -> Any:
    """All that one may see of a value, and nothing that `streams.events.roundtrip` is asked about."""
    kind = type(value)
    if isinstance(value, BaseModel):
        return kind, [(name, shape(value.__dict__[name])) for name in kind.model_fields]
    if dataclasses.is_dataclass(value):
        return kind, [(field.name, shape(getattr(value, field.name))) for field in dataclasses.fields(value)]
    if isinstance(value, dict):
        return kind, [(shape(key), shape(part)) for key, part in value.items()]
    if isinstance(value, set | frozenset):
        return kind, sorted(repr(shape(part)) for part in value)
    if isinstance(value, list | tuple):
        return kind, [shape(part) for part in value]
    if isinstance(value, datetime | time):
        return kind, value.replace(tzinfo=None, fold=0).isoformat(), value.utcoffset(), value.tzinfo is None
    if isinstance(value, enum.Enum) and not isinstance(value, int):
        return kind, value.name
    if isinstance(value, float) and math.isnan(value):
        return kind, "nan"
    for plain in (bool, int, float, str):  # a subclass of it arrives as it, and is equal
        if isinstance(value, plain):
            return plain, repr(plain(value))
    return kind, repr(value)


SETTINGS = {"deadline": None, "suppress_health_check": list(HealthCheck), "print_blob": True}


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydantic's, of names and serializers
@settings(max_examples=200, **SETTINGS)
@given(data=st.data())
def test_every_event_is_read_as_it_was_made_or_is_refused(data: st.DataObject) -> None:
    """Whatever is declared and whatever is in it; a failure prints how to see it again."""
    judge(data)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=5_000, **SETTINGS)
@given(data=st.data())
def test_many_more_events(data: st.DataObject) -> None:
    """The same for longer."""
    judge(data)


@pytest.mark.parametrize(("kind", "values"), LEAVES, ids=range(len(LEAVES)))
def test_only_plain_values_need_no_proof(kind: Any, values: object) -> None:
    """A type that is added here, or to those that are exact, is looked at by somebody."""
    del values
    with own_classes():
        cls = _or_refusal(
            lambda: create_model("Made", __base__=Event, __cls_kwargs__={"stream": "made"}, a=(kind, ...))
        )
        plain = kind is None or kind in (int, float, str, bool, float | None)
        assert isinstance(cls, str) or cls.__exact__ == plain


def judge(data: st.DataObject) -> None:
    """Defines a class, makes an event of it, and reads what is written of it."""
    fields: dict[str, Any] = {}
    values: dict[str, Any] = {}
    for name in data.draw(st.lists(_names, min_size=1, max_size=3, unique=True)):
        kind, inside = data.draw(_types)
        alias = data.draw(_aliases)
        fields[name] = (kind, Field(alias=alias) if alias else ...)
        values[name] = values[alias or name.upper()] = data.draw(inside)
    config = data.draw(_configs)
    with own_classes():
        cls = _or_refusal(
            lambda: create_model(
                "Made", __base__=_base(config), __cls_kwargs__={"stream": "made"}, __module__=__name__, **fields
            )
        )
        if isinstance(cls, str):
            return
        known = {name: value for name, value in values.items() if name in fields or name in _accepted(cls)}
        try:
            event = cls.model_validate(known, extra="ignore")
        except (ValidationError, ValueError, TypeError):
            return
        written = _or_refusal(event.encode)
        if isinstance(written, str):
            return
        read = cls.decode(written, 1)
        assert shape(read) == shape(event)
        assert written.decode()  # UTF-8
        assert set(orjson.loads(written)) == set(cls.model_fields) == _described(cls)


def _or_refusal(make: Callable[[], _T]) -> _T | str:
    """What is made, or why it is not: in one line, without the secret."""
    try:
        return make()
    except SchemaError as error:
        refusal = str(error)
    assert "\n" not in refusal
    assert "hunter2" not in refusal
    assert 10 < len(refusal) < 500
    return refusal


def _accepted(cls: type[BaseModel]) -> set[str]:
    return {str(field.validation_alias) for field in cls.model_fields.values() if field.validation_alias}


def _described(cls: type[Event]) -> set[str]:
    try:
        return set(cls.json_schema().get("properties", {}))
    except Exception:
        return set(cls.model_fields)


def _base(config: dict[str, Any]) -> Any:
    """`create_model` takes either a base or a configuration."""

    class Mixin(BaseModel):
        model_config = ConfigDict(**config)

    if not config:
        return Event
    return (Event, Mixin)
