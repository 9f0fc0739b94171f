"""Event: an immutable, typed fact in the past tense, and the registry that finds its class by its wire type."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict
from pydantic.json_schema import DEFAULT_REF_TEMPLATE
from pydantic_core import PydanticSerializationError, from_json

from streams.events.creation import EventMeta
from streams.events.definition import SchemaError, check, check_names
from streams.events.privacy import PII, REDACTED, marked_fields
from streams.events.roundtrip import proved

_STREAM_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_WIRE_TYPE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,127}")

Priority = Literal["high", "normal", "low"]
Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
_F = TypeVar("_F", bound=Upcaster)
_E = TypeVar("_E", bound="Event")

_SHORT: Final = 4_000  # bytes of JSON in which no number has more digits than its reader takes

_registry: dict[str, type[Event]] = {}


class _Unchecked(set[str]):
    """The fields set of an event that was made without its fields being validated."""


def upcast(*, from_version: int) -> Callable[[_F], _F]:
    """Marks a static method of an event as the step from `from_version` to the next version.

    It receives the decoded JSON object and returns the object as version `from_version + 1` has it. Old messages
    (in streams, dead letters, waiting) stay readable for ever because every step is kept.
    """

    def mark(function: _F) -> _F:
        function.__upcast_from__ = from_version  # type: ignore[attr-defined]
        return function

    return mark


class Event(BaseModel, metaclass=EventMeta):
    """The base of every domain event: frozen, validated where it is made, so a bad event fails at its publisher.

    Subclass with `class UserRegistered(Event, stream="users", version=1)`. `stream` is the domain area it is
    appended to, `version` counts breaking changes from 1, `type` is the name on the wire (the class name unless
    given, so a Python rename can keep the wire name), `priority` the one it has unless its publisher (a service,
    a handler that returns it, a schedule) says another. Unknown fields are an error when an event is made in Python,
    and are ignored when it is read, so that a publisher may add a field before its consumers know it.

    On the wire every field has its own name: an alias is for code that makes the event in Python. An event that would
    not be read as it is, is refused: where its class is defined if that can be seen there, else where it is encoded.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    type: ClassVar[str] = ""
    stream: ClassVar[str] = ""
    version: ClassVar[int] = 0
    usual_priority: ClassVar[Priority] = "normal"
    upcasters: ClassVar[dict[int, Upcaster]] = {}
    __exact__: ClassVar[bool] = False  # no value of it can change on the way: it needs no proof

    def __init_subclass__(
        cls, *, stream: str = "", version: int = 1, type: str = "", priority: Priority = "normal", **kwargs: Any
    ) -> None:
        cls.__exact__ = False
        check_names(cls, Event)
        super().__init_subclass__(**kwargs)

    @classmethod
    def __pydantic_on_complete__(cls) -> None:
        """Judges the fields; of a class that names later ones, when those are known."""
        super().__pydantic_on_complete__()
        if cls.__mro__[1] is not BaseModel:  # which is Event itself
            cls.__exact__ = check(cls, Event)

    @classmethod
    def __pydantic_init_subclass__(
        cls, *, stream: str = "", version: int = 1, type: str = "", priority: Priority = "normal", **kwargs: Any
    ) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        wire = type or cls.__name__
        if not isinstance(stream, str) or not _STREAM_NAME.fullmatch(stream):  # type: ignore[redundant-expr]
            raise SchemaError(f"{cls.__name__}: stream={stream!r} must be 1-64 of a-z 0-9 _ . - (give stream=)")
        if not isinstance(wire, str) or not _WIRE_TYPE.fullmatch(wire):  # type: ignore[redundant-expr]
            raise SchemaError(
                f"{cls.__name__}: type={wire!r} must be 1-128 of A-Z a-z 0-9 _ . - and start with a letter"
            )
        if version.__class__ is not int or version < 1:
            raise SchemaError(f"{cls.__name__}: version={version!r} must be a whole number of at least 1")
        if priority not in get_args(Priority):
            raise SchemaError(f"{cls.__name__}: priority={priority!r} must be one of {', '.join(get_args(Priority))}")
        known = _registry.get(wire)
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise SchemaError(
                f"{cls.__name__}: type {wire!r} is already {known.__module__}.{known.__qualname__}; "
                "give one of the two another with type="
            )
        cls.type, cls.stream, cls.version, cls.usual_priority = wire, stream, version, priority
        cls.upcasters = {}
        for member in list(vars(cls).values()):
            if isinstance(member, staticmethod | FunctionType):
                function = getattr(member, "__func__", member)  # marked over or under `staticmethod`
                step = getattr(member, "__upcast_from__", None) or getattr(function, "__upcast_from__", None)
                if step is not None:
                    cls.upcasters[step] = function
        missing = [step for step in cls.upcasters if step.__class__ is not int or not 1 <= step < version]
        if missing:
            raise SchemaError(f"{cls.__name__}: upcast from {missing} does not lead to version {version}")
        _registry[wire] = cls

    @classmethod
    def decode(cls, data: bytes, version: int) -> Self:
        """Reads the JSON `data` of a message that was written as `version`, upcasting it step by step.

        Raises `ValueError` (pydantic's `ValidationError` is one) for malformed JSON, a wrong or missing field, or a
        version that no upcaster reaches; the nesting limit is the JSON parser's (200), so 10,000 levels are an
        error and not a crash. Newer versions are the caller's business: this class cannot know them.
        """
        if version == cls.version:
            # What model_validate_json does, without its two frames: this is the hot path of every consumer.
            event: Self = cls.__pydantic_validator__.validate_json(data, extra="ignore", by_alias=False, by_name=True)
            return event
        document = from_json(data)
        if not isinstance(document, dict):
            raise ValueError(f"{cls.type}: the data is not a JSON object")
        for step in range(version, cls.version):
            upcaster = cls.upcasters.get(step)
            if upcaster is None:
                raise ValueError(f"{cls.type}: no upcaster from version {step} to {step + 1}")
            document = upcaster(document)
        return cls.model_validate(document, extra="ignore", by_alias=False, by_name=True)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """What `repr()` and `str()` show: they end up in logs, where personal data has no place."""
        hidden = marked_fields(type(self), PII)
        for name, value in super().__repr_args__():
            # What is computed may be made of what is hidden.
            shown = not hidden or (name in type(self).model_fields and name not in hidden)
            yield name, value if shown else REDACTED

    def encode(self) -> bytes:
        """Writes the event as the JSON object that travels in the `data` field, UTF-8, without spaces.

        Raises `SchemaError` when its consumers would not read it as it is. That is proved by reading it back, unless
        its class has only plain values that cannot change; the proof takes about as long as a consumer's decoding.
        """
        cls = type(self)
        if cls.__exact__ and type(self.__pydantic_fields_set__) is set:
            try:
                data = cls.__pydantic_serializer__.to_json(self)
            except PydanticSerializationError:
                return proved(self)  # which says which field it is
            if len(data) <= _SHORT:
                return data
        return proved(self)

    if not TYPE_CHECKING:  # pydantic's mypy plugin writes its own

        @classmethod
        def model_construct(cls, _fields_set: set[str] | None = None, **values: Any) -> Self:
            """As pydantic's. What it makes without validation is validated when it is published."""
            return _unchecked(super().model_construct(_fields_set, **values))

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As pydantic's. What it changes without validation is validated when it is published."""
        copied = super().model_copy(update=update, deep=deep)
        return _unchecked(copied) if update else copied

    @classmethod
    def json_schema(cls, ref_template: str = DEFAULT_REF_TEMPLATE) -> dict[str, Any]:
        """Describes the event as JSON Schema 2020-12, with its stream, version and privacy marks as `x-` keywords.

        `ref_template` is where its parts will be found, `{model}` in it their name.
        """
        schema = cls.model_json_schema(by_alias=False, ref_template=ref_template)
        schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
        schema["$id"] = f"{cls.type}/{cls.version}"
        schema["x-stream"], schema["x-version"] = cls.stream, cls.version
        if cls.usual_priority != "normal":
            schema["x-priority"] = cls.usual_priority
        for name, field in cls.model_fields.items():
            for mark in field.metadata:
                if mark.__class__.__name__ == "Mark":
                    schema["properties"][name][f"x-{mark.name}"] = True
        return schema


def _unchecked(event: _E) -> _E:
    object.__setattr__(event, "__pydantic_fields_set__", _Unchecked(event.__pydantic_fields_set__))
    return event


def registered(type: str) -> type[Event] | None:
    """Finds the event class for a wire type, or None when none is registered."""
    return _registry.get(type)


def registered_types() -> list[str]:
    """Lists every registered wire type, sorted."""
    return sorted(_registry)
