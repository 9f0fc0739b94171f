"""What an event class may not have, and what it says to write instead."""

from __future__ import annotations

import dataclasses
import re
import textwrap
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Generic, TypeVar

import orjson
import pytest
from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretBytes,
    SecretStr,
    computed_field,
    create_model,
    model_validator,
)
from pydantic import Secret as PydanticSecret
from pydantic.alias_generators import to_camel
from typing_extensions import TypedDict

from streams import Event, SchemaError, Secret
from streams.events import event as registry

pytestmark = pytest.mark.filterwarnings("ignore:Field name .* shadows an attribute")

RESERVED = ("type", "stream", "version", "usual_priority", "upcasters", "encode", "decode", "json_schema")


@pytest.fixture(autouse=True)
def own_classes() -> Iterator[None]:
    """What a test defines is forgotten after it."""
    before = dict(registry._registry)
    yield
    registry._registry.clear()
    registry._registry.update(before)


def define(body: str, *bases: type, **names: Any) -> type[Event]:
    """The class `AlarmRaised` with this body, after these bases."""
    scope: dict[str, Any] = {"Event": Event, **names}
    mixed = "".join(f"{base.__name__}, " for base in bases)
    scope |= {base.__name__: base for base in bases}
    code = f"class AlarmRaised({mixed}Event, stream='alarms'):\n{textwrap.indent(body, '    ')}\n"
    exec(compile(code, "<a test's class>", "exec", dont_inherit=True), {**globals(), **scope}, made := {})
    return made["AlarmRaised"]


def test_every_name_of_the_base_is_tried() -> None:
    """A new one must be added to this page."""
    own = {name for name in vars(Event) if not name.startswith("_")} - vars(BaseModel).keys()
    assert own == set(RESERVED)


@pytest.mark.parametrize("name", RESERVED)
@pytest.mark.parametrize(
    "body",
    [
        "{name}: str",
        "{name}: str = 'x'",
        "{name}: ClassVar[str] = 'x'",
        "def {name}(self): return b''",
        "{name} = property(lambda self: 'x')",
        "@computed_field\n@property\ndef {name}(self) -> str: return 'x'",
    ],
)
def test_no_name_of_the_envelope_can_be_taken(name: str, body: str) -> None:
    """By a field, a method or an attribute, also of what is mixed in before or after: it would steer the event."""
    with pytest.raises(SchemaError, match=rf"{name}"):
        define(body.format(name=name))
    mixin = type("Mixin", (), {name: "x", "__annotations__": {name: str}})
    with pytest.raises(SchemaError, match=r"from Mixin"):
        define("n: int", mixin)
    with pytest.raises(SchemaError, match=r"from Mixed"):
        define("n: int", create_model("Mixed", **{name: (str, ...)}))


def test_the_refusal_says_what_to_write() -> None:
    """A name that is free, or where the type is given."""
    with pytest.raises(SchemaError, match=r"^AlarmRaised: 'type' is the name .*; call it 'alarm_type', for example$"):
        define("type: str")
    with pytest.raises(SchemaError, match=r"class AlarmRaised\(Event, type=\.\.\.\)"):
        define("type: ClassVar[str] = 'x'")


def test_a_name_beside_the_envelope_is_a_field() -> None:
    """CloudEvents attributes that are no attributes of the class are fields as any."""
    names = ("id", "time", "source", "key", "data", "stream_name", "once", "priority", "delay")
    event = define("\n".join(f"{name}: str" for name in names))(**{name: f"<{name}>" for name in names})
    assert orjson.loads(event.encode()) == {name: f"<{name}>" for name in names}
    assert type(event).decode(event.encode(), 1) == event


class Hidden(BaseModel):
    """A part with a secret."""

    key: SecretStr | None = None


class Marked(BaseModel):
    """A part with a field that is marked."""

    keys: list[Annotated[str, Secret]]


class TypedSecret(TypedDict):
    """A dict with a secret."""

    key: SecretBytes


@dataclasses.dataclass
class PlainSecret:
    """A dataclass with a secret."""

    key: list[SecretStr]


class Open(BaseModel):
    """A part that takes what is no field."""

    model_config = ConfigDict(extra="allow")


class Leaky(BaseModel):
    """A part that is not published whole."""

    n: int = Field(1, exclude=True)


T = TypeVar("T")


class Box(BaseModel, Generic[T]):
    """A part of any type."""

    content: T


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("key: SecretStr", "secret"),
        ("key: SecretBytes | None = None", "secret"),
        ("key: PydanticSecret[int]", "secret"),
        ("key: dict[str, list[SecretStr]]", "secret"),
        ("key: tuple[int, Annotated[str, Secret]]", "secret"),
        ("key: Hidden", "secret"),
        ("key: list[Hidden | int]", "secret"),
        ("key: Marked", "secret"),
        ("key: TypedSecret", "secret"),
        ("key: PlainSecret", "secret"),
        ("key: Box[SecretStr]", "secret"),
        ("n: int = Field(exclude=True)", "n is excluded"),
        ("n: int = Field(exclude_if=lambda n: n == 0)", "n is excluded"),
        ("part: list[Leaky]", "part.n is excluded"),
        ("model_config = ConfigDict(extra='allow')", "extra='allow'"),
        ("part: Open", "part has extra='allow'"),
        ("model_config = ConfigDict(frozen=False)", "frozen=False"),
        ("model_config = ConfigDict(ser_json_inf_nan='constants')\nx: float", "constants"),
        ("_seen: int = PrivateAttr(0)", "_seen does not travel"),
        ("_seen: int = 0", "_seen does not travel"),
        ("name: str = None", "the default of name.*declare it as name: ... | None"),
        ("n: int = Field(0, ge=1)", "the default of n"),
        ("x: float = float('nan')", "the default of x"),
    ],
)
def test_what_cannot_arrive_is_refused_where_it_is_defined(body: str, says: str) -> None:
    """In one line that names the field, and nothing is registered."""
    with pytest.raises(SchemaError, match=says) as refused:
        define(body, PydanticSecret=PydanticSecret, PrivateAttr=PrivateAttr, computed_field=computed_field)
    assert "\n" not in str(refused.value)
    assert registry.registered("AlarmRaised") is None


def test_a_field_of_a_later_class_is_judged_when_that_is_known() -> None:
    """At the latest when an event is made."""

    class Waits(Event, stream="alarms"):
        part: Later

    class Later(BaseModel):
        key: SecretStr

    with pytest.raises(SchemaError, match="secret"):
        Waits.model_rebuild(_types_namespace={"Later": Later})


class Named(BaseModel):
    """A part with other names."""

    model_config = ConfigDict(alias_generator=to_camel)

    first_name: str


def test_an_alias_is_for_python_and_the_wire_has_the_name() -> None:
    """Whatever kind of alias, in parts too; the JSON Schema and a personal mark are under the name."""
    cls = define(
        """
        model_config = ConfigDict(alias_generator=to_camel)
        user_id: int
        rate: float = Field(0.0, alias="discountRate")
        by: int = Field(validation_alias=AliasChoices("who", AliasPath("people", 0)))
        to: int = Field(serialization_alias="recipient")
        part: Named
        rest: list[Named]
        """.replace("\n        ", "\n").strip()
    )
    names = {"firstName": "Ada"}
    event = cls(userId=7, discountRate=0.2, people=[3], to=4, part=names, rest=[names])  # type: ignore[call-arg]
    wire = {
        "user_id": 7, "rate": 0.2, "by": 3, "to": 4, "part": {"first_name": "Ada"}, "rest": [{"first_name": "Ada"}],
    }  # fmt: skip
    assert orjson.loads(event.encode()) == wire
    assert cls.decode(event.encode(), 1) == event
    assert cls.json_schema()["properties"].keys() == wire.keys()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_json_does_not_have_is_refused_where_it_is_made(value: float) -> None:
    """A number of an event is finite; in a part or in anything it is refused when it is published."""
    cls = define("x: float = 0\nanything: Any = None\npart: Box[float] | None = None")
    with pytest.raises(ValueError, match="finite"):
        cls(x=value)
    for field, event in (("anything", cls(anything=[value])), ("part.content", cls(part=Box[float](content=value)))):
        with pytest.raises(SchemaError, match=rf"AlarmRaised: {field}.*no NaN and no infinity"):
            event.encode()


def test_what_was_not_validated_is_validated_when_it_is_published() -> None:
    """`model_construct`, `model_copy(update=)`, and a part that was changed in place."""
    cls = define("n: int = Field(ge=0)\npart: Box[int] = Box(content=1)\nnumbers: list[int] = []")
    plain = define("n: int = Field(ge=0)\ntext: str = ''")
    for event in (
        *(plain.model_construct(**values) for values in ({}, {"n": -1}, {"n": "x"}, {"n": "1"})),
        plain(n=1).model_copy(update={"n": -1}), plain(n=1).model_copy(update={"text": "\udc80"}),
        cls.model_construct(n=-1), cls(n=1, part=Box[int].model_construct(content="x")),
    ):  # fmt: skip
        with pytest.raises(SchemaError, match=r"^AlarmRaised: (n|part|text)"):
            event.encode()
    mutable = cls(n=1, numbers=[1])
    mutable.numbers.append("two")  # type: ignore[attr-defined]
    with pytest.raises(SchemaError, match=r"numbers\.1"):
        mutable.encode()
    assert plain.model_construct(n=1, text="").encode() == plain(n=1).encode()
    assert plain(n=1).model_copy(update={"n": 2}).encode() == plain(n=2).encode()


def test_a_validator_that_counts_is_refused() -> None:
    """What it does again at each reading would be another value at each consumer."""
    cls = define(
        "n: int\n@model_validator(mode='after')\n"
        "def count(self):\n    object.__setattr__(self, 'n', self.n + 1)\n    return self",
        model_validator=model_validator,
    )
    with pytest.raises(SchemaError, match="n would not arrive as it is"):
        cls(n=1).encode()


def test_plain_values_are_not_read_back() -> None:
    """The proof is not paid for where nothing can change; a number with more digits than a reader takes is refused."""
    cls = define("n: int\ntext: str | None = None\nx: float = 0")
    assert cls.__exact__
    assert not define("numbers: list[int]").__exact__
    with pytest.raises(SchemaError, match="n"):
        cls(n=10**4299 * 10**10).encode()
    assert re.fullmatch(rb'\{"n":9{4000},"text":null,"x":0\.0\}', cls(n=10**4000 - 1).encode())


def test_a_computed_field_stays_at_home() -> None:
    """Its reader computes it again: the wire and the JSON Schema have what is given."""
    cls = define(
        "n: int\n@computed_field\n@property\ndef twice(self) -> int: return 2 * self.n", computed_field=computed_field
    )
    assert cls(n=2).encode() == b'{"n":2}'
    assert cls.json_schema()["properties"].keys() == {"n"}


def test_a_part_arrives_as_what_it_is() -> None:
    """A subclass is not cut down to what is declared."""
    special = create_model("Special", __base__=Named, more=(int, 1))
    cls = define("part: Named")
    with pytest.raises(SchemaError, match="a Special is given where Named is declared"):
        cls(part=special(firstName="Ada")).encode()


_ = (ClassVar, AliasChoices, AliasPath, Annotated, Hidden, Marked)  # named by the classes above, which are text
