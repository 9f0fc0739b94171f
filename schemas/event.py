"""Event: an immutable, typed fact in the past tense, and the registry that finds its class by its wire type."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Final, Literal, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict
from pydantic.json_schema import DEFAULT_REF_TEMPLATE
from pydantic_core import from_json

from schemas.privacy import PII, REDACTED, Secret, marked_fields

_STREAM_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_WIRE_TYPE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,127}")

Priority = Literal["high", "normal", "low"]
Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
_F = TypeVar("_F", bound=Upcaster)

_registry: dict[str, type[Event]] = {}


class SchemaError(ValueError):
    """An event class that cannot be part of the contracts; the message says which rule it breaks."""


def upcast(*, from_version: int) -> Callable[[_F], _F]:
    """Marks a static method of an event as the step from `from_version` to the next version.

    It receives the decoded JSON object and returns the object as version `from_version + 1` has it. Old messages
    (in streams, dead letters, waiting) stay readable for ever because every step is kept.
    """

    def mark(function: _F) -> _F:
        function.__upcast_from__ = from_version  # type: ignore[attr-defined]
        return function

    return mark


class Event(BaseModel):
    """The base of every domain event: frozen, validated where it is made, so a bad event fails at its publisher.

    Subclass with `class UserRegistered(Event, stream="users", version=1)`. `stream` is the domain area it is
    appended to, `version` counts breaking changes from 1, `type` is the name on the wire (the class name unless
    given, so a Python rename can keep the wire name), `priority` the lane it goes to unless its publisher (a service,
    a handler that returns it, a schedule) says another. Unknown fields are an error when an event is made in Python,
    and are ignored when it is read, so that a publisher may add a field before its consumers know it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: ClassVar[str] = ""
    stream: ClassVar[str] = ""
    version: ClassVar[int] = 0
    usual_priority: ClassVar[Priority] = "normal"
    upcasters: ClassVar[dict[int, Upcaster]] = {}

    def __init_subclass__(
        cls, *, stream: str = "", version: int = 1, type: str = "", priority: Priority = "normal", **kwargs: Any
    ) -> None:
        super().__init_subclass__(**kwargs)

    @classmethod
    def __pydantic_init_subclass__(
        cls, *, stream: str = "", version: int = 1, type: str = "", priority: Priority = "normal", **kwargs: Any
    ) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        wire = type or cls.__name__
        if not _STREAM_NAME.fullmatch(stream):
            raise SchemaError(f"{cls.__name__}: stream={stream!r} must be 1-64 of a-z 0-9 _ . - (give stream=)")
        if not _WIRE_TYPE.fullmatch(wire):
            raise SchemaError(
                f"{cls.__name__}: type={wire!r} must be 1-128 of A-Z a-z 0-9 _ . - and start with a letter"
            )
        if version < 1:
            raise SchemaError(f"{cls.__name__}: version={version} must be at least 1")
        if priority not in get_args(Priority):
            raise SchemaError(f"{cls.__name__}: priority={priority!r} must be one of {', '.join(get_args(Priority))}")
        if secrets := marked_fields(cls, Secret):
            raise SchemaError(
                f"{cls.__name__}: secret fields {sorted(secrets)} may not enter a stream; carry a reference instead"
            )
        known = _registry.get(wire)
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise SchemaError(f"{cls.__name__}: type {wire!r} is already {known.__module__}.{known.__qualname__}")
        cls.type, cls.stream, cls.version, cls.usual_priority = wire, stream, version, priority
        cls.upcasters = {}
        for member in vars(cls).values():
            step = getattr(member, "__upcast_from__", None) or getattr(
                getattr(member, "__func__", None), "__upcast_from__", None
            )
            if step is not None:
                cls.upcasters[step] = getattr(member, "__func__", member)
        missing = [step for step in cls.upcasters if not 1 <= step < version]
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
            event: Self = cls.__pydantic_validator__.validate_json(data, extra="ignore")
            return event
        document = from_json(data)
        if not isinstance(document, dict):
            raise ValueError(f"{cls.type}: the data is not a JSON object")
        for step in range(version, cls.version):
            upcaster = cls.upcasters.get(step)
            if upcaster is None:
                raise ValueError(f"{cls.type}: no upcaster from version {step} to {step + 1}")
            document = upcaster(document)
        return cls.model_validate(document, extra="ignore")

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """What `repr()` and `str()` show: they end up in logs, where personal data has no place."""
        hidden = marked_fields(type(self), PII)
        for name, value in super().__repr_args__():
            # What is computed may be made of what is hidden.
            shown = not hidden or (name in type(self).model_fields and name not in hidden)
            yield name, value if shown else REDACTED

    def encode(self) -> bytes:
        """Writes the event as the JSON object that travels in the `data` field, UTF-8, without spaces."""
        return self.__pydantic_serializer__.to_json(self)

    @classmethod
    def json_schema(cls, ref_template: str = DEFAULT_REF_TEMPLATE) -> dict[str, Any]:
        """Describes the event as JSON Schema 2020-12, with its stream, version and privacy marks as `x-` keywords.

        `ref_template` is where its parts will be found, `{model}` in it their name.
        """
        schema = cls.model_json_schema(ref_template=ref_template)
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


def registered(type: str) -> type[Event] | None:
    """Finds the event class for a wire type, or None when nobody has registered it."""
    return _registry.get(type)


def registered_types() -> list[str]:
    """Lists every registered wire type, sorted."""
    return sorted(_registry)
