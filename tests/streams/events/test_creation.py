"""What goes wrong while a class of events is made: one error, which names the field."""

from __future__ import annotations

import types
import warnings
from typing import Annotated, Any, Final, Literal, Required

import pytest
from pydantic import AfterValidator, BaseModel, Field, computed_field, field_validator

from streams.events import Event, SchemaError, upcast
from tests.streams.events.test_definition import define, own_classes

__all__ = ["own_classes"]

OF_EVERY_MODEL = sorted(name for name in vars(BaseModel) if not name.startswith("_"))


@pytest.mark.parametrize("name", OF_EVERY_MODEL)
@pytest.mark.parametrize("action", ["default", "error"])
@pytest.mark.parametrize("body", ["{name}: str", "{name}: str = 'x'", "{name}: 'str | None' = None"])
def test_no_name_of_every_model_can_be_a_field(name: str, action: Any, body: str) -> None:
    """Pydantic refuses some and warns of others, which is an error where warnings are; here each is refused alike."""
    with warnings.catch_warnings():
        warnings.simplefilter(action)
        with pytest.raises(SchemaError, match=rf"^AlarmRaised: '{name}' is the name .*call it 'alarm_{name}'"):
            define(body.format(name=name))
        mixin = type("Mixin", (), {"__annotations__": {name: str}})
        with pytest.raises(SchemaError, match=rf"'{name}' \(from Mixin\)"):
            define("n: int", mixin)


class NoType:
    """What pydantic knows no schema of."""


USED: Final[dict[str, Any]] = {
    each.__name__: each for each in (NoType, Field, AfterValidator, computed_field, field_validator, upcast)
} | {"Annotated": Annotated, "Literal": Literal, "Required": Required}


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ("x: NoType", "the field 'x'"),
        ("a: int\nx: list[NoType] = []", "the field 'x'"),
        ("a: int\nx: str = Field(pattern='(')", "the field 'x'.*unclosed group"),
        ("x: Annotated[int, Field(gt='a')]", "the field 'x'.*must be coercible"),
        ("x: Literal", "the field 'x'"),
        ("x: 'int['", "the field 'x'"),
        ("x: [int]", "the field 'x'"),
        ("x: Required[int]", "the field 'x'.*Required"),
        ("x: int = Field(discriminator='y')", "the field 'x'"),
        ("x: int = Field(1, alias=5)", "the field 'x'"),
        ("x: Annotated[int, AfterValidator(lambda: 1)]", "the field 'x'"),
        ("x: memoryview", "the field 'x'"),
        ("x = 5", "`x = 5`"),
        ("x: int\n@field_validator('y')\ndef check(cls, value): return value", "'check' names a field"),
        ("x: int\n@field_validator('x')\ndef check(): return 1", "the method 'check'"),
        ("x: int\n@computed_field\ndef made(self): return 1", "the method 'made'.*return type"),
        ("@computed_field\n@property\ndef made(self) -> NoType: return NoType()", "the method 'made'"),
        ("model_config = 5", "write model_config = ConfigDict"),
        ("@upcast(from_version='1')\ndef up(d): return d", "upcast from \\['1'\\]"),
    ],
)
def test_what_cannot_be_made_is_refused_with_its_name(body: str, named: str) -> None:
    """Whatever pydantic raises: one line with the class, the field or method, and the reason."""
    with pytest.raises(SchemaError, match=rf"^AlarmRaised: .*{named}") as refused:
        define(body, **USED)
    assert "\n" not in str(refused.value)
    assert "arbitrary_types_allowed" not in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"strem": "alarms"}, "takes stream=, version=, type= and priority="),
        ({"stream": 5}, "stream=5"),
        ({"stream": None}, "stream=None"),
        ({"type": 5}, "type=5"),
        ({"version": "1"}, "version='1'"),
        ({"version": 1.5}, "version=1.5"),
        ({"version": True}, "version=True"),
        ({"priority": ["high"]}, "priority="),
    ],
)
def test_a_wrong_argument_of_a_class_is_refused(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(SchemaError, match=named):
        types.new_class("AlarmRaised", (Event,), {"stream": "alarms"} | arguments)
    with pytest.raises(SchemaError, match="lay-out conflict"):
        types.new_class("AlarmRaised", (Event, int), {"stream": "alarms"})


def test_names_of_the_function_around_a_class_are_known() -> None:
    """Also one that is defined later, and also in a class that inherits from an event."""

    class Line(BaseModel):
        sku: str

    class OrderMade(Event, stream="orders"):
        line: Line
        later: Later | None = None

    class OrderMadeAgain(OrderMade, stream="orders"):
        other: Line

    class Later(BaseModel):
        n: int

    made = OrderMadeAgain(line=Line(sku="A"), other=Line(sku="B"), later=Later(n=1))
    assert OrderMadeAgain.decode(made.encode(), 1) == made
