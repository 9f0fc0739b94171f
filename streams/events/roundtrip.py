"""Round trip: the proof that an event is read as it was published.

It is written, read back, and compared part by part, types included: `True` is not 1, and a part is not a subclass of
it. What differs is refused where it is published, by one line that names the field and says what to write. Values are
not repeated there: they may be personal.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from math import isnan
from typing import Any, Final
from uuid import UUID

from pydantic import BaseModel, SecretBytes, SecretStr, ValidationError
from pydantic import Secret as PydanticSecret
from pydantic_core import PydanticSerializationError

from streams.events.definition import SchemaError

_PLAIN: Final = (str, bytes, int, float)
_SIMPLE: Final = frozenset((str, bytes, int, bool, type(None), date, timedelta, UUID))
_HOW: Final = "docs/concepts/events.md, 'What arrives'"


def proved(event: BaseModel) -> bytes:
    """The JSON of an event that is read as it is. Raises `SchemaError` for any other."""
    cls: Any = type(event)
    try:
        data = written(event)
    except Exception as error:  # noqa: BLE001 - a serializer is user code, and may raise anything
        raise SchemaError(_unwritable(event, error)) from None
    try:
        read = cls.decode(data, cls.version)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
        path, value = _place(event, problem["loc"])
        why = _hint(value) or _explanation(problem["type"], problem["msg"])
        raise SchemaError(f"{cls.type}: {path} could not be read by its consumers: {why}") from None
    except Exception as error:  # noqa: BLE001 - a validator is user code, and may raise anything
        raise SchemaError(f"{cls.type}: its consumers could not read it ({type(error).__name__})") from None
    if not _is_same(event, read) and (found := difference(event, read)):
        raise SchemaError(f"{cls.type}: {found}")
    return data


def written(event: BaseModel, **only: Any) -> bytes:
    """The JSON of an event: under the names of its fields, and such that it can be read."""
    serializer = type(event).__pydantic_serializer__
    return serializer.to_json(event, by_alias=False, round_trip=True, warnings=False, **only)


def _is_same(published: Any, read: Any) -> bool:
    """Whether two values are the same at a quick look; False says nothing, and `difference` looks closely."""
    if published is read:
        return True
    kind = type(published)
    if kind is not type(read):
        return False
    if kind in _SIMPLE:
        return bool(published == read)
    if kind is list or kind is tuple:
        return len(published) == len(read) and all(map(_is_same, published, read))
    if kind is dict:
        return _are_same(published, read) and all(map(_is_same, published, read))
    fields = kind.__dict__.get("__pydantic_fields__")
    return (
        fields is not None and len(fields) == len(published.__dict__) and _are_same(published.__dict__, read.__dict__)
    )


def _are_same(published: dict[Any, Any], read: dict[Any, Any]) -> bool:
    if len(published) != len(read):
        return False
    for name, value in published.items():
        other = read.get(name, read)
        if value is other:
            continue
        if type(value) is type(other) and type(value) in _SIMPLE:
            if value != other:
                return False
        elif not _is_same(value, other):
            return False
    return True


def difference(published: Any, read: Any, path: str = "") -> str:
    """Says what was not read as it was published; empty when nothing differs."""
    if published is read:
        return ""
    kind, other = type(published), type(read)
    if kind is not other:
        return "" if _is_alike(published, read) else _changed(published, read, path)
    if issubclass(kind, BaseModel):
        names = list(type(published).model_fields)
        return _of_attributes(published, read, names, path)
    if dataclasses.is_dataclass(kind):
        return _of_attributes(published, read, [field.name for field in dataclasses.fields(kind)], path)
    if issubclass(kind, Mapping):
        return _of_mapping(published, read, path)
    if issubclass(kind, list | tuple | deque):
        if len(published) != len(read):
            return _changed(published, read, path)
        pairs = enumerate(zip(published, read, strict=True))
        return next(filter(None, (difference(one, two, _under(path, at)) for at, (one, two) in pairs)), "")
    if issubclass(kind, set | frozenset):
        same = published == read and {(type(one), one) for one in published} == {(type(two), two) for two in read}
        return "" if same else _changed(published, read, path)
    if issubclass(kind, datetime | time):
        same = published.replace(tzinfo=None) == read.replace(tzinfo=None) and (
            published.utcoffset() == read.utcoffset() and (published.tzinfo is None) == (read.tzinfo is None)
        )
        return "" if same else _changed(published, read, path)
    if _is_nan(published):
        return "" if _is_nan(read) else _changed(published, read, path)
    return "" if _equal(published, read) else _changed(published, read, path)


def _of_attributes(published: Any, read: Any, names: list[str], path: str) -> str:
    for name in names:
        where = _under(path, name)
        try:
            one, two = object.__getattribute__(published, name), object.__getattribute__(read, name)
        except AttributeError:
            return f"{where} is missing; make the event by calling its class"
        if found := difference(one, two, where):
            return found
    return ""


def _of_mapping(published: Mapping[Any, Any], read: Mapping[Any, Any], path: str) -> str:
    if len(published) != len(read):
        return _changed(published, read, path)
    for (key, one), (other, two) in zip(published.items(), read.items(), strict=True):
        if difference(key, other):
            return f"{path or 'data'} has a key that would be read as another; declare dict[str, ...] and give text"
        if found := difference(one, two, _under(path, "{}")):
            return found
    return ""


def _is_alike(published: Any, read: Any) -> bool:
    """Whether values of two classes are the same to code that uses them: a text of a class of its own, 1 for 1.0."""
    if isinstance(published, bool):
        return False
    other = type(read)
    if isinstance(published, int) and other in (float, Decimal):
        return bool(published == read)
    return other in _PLAIN and isinstance(published, other) and (_is_nan(published) or bool(published == read))


def _is_nan(value: Any) -> bool:
    return value.is_nan() if isinstance(value, Decimal) else isinstance(value, float) and isnan(value)


def _equal(published: Any, read: Any) -> bool:
    if isinstance(published, Enum):
        return published is read
    if getattr(type(published), "__eq__", None) is object.__eq__:  # no equality of its own: that of its parts
        try:
            return not difference(vars(published), vars(read))
        except TypeError:
            return False
    try:
        return bool(published == read) and repr(published) == repr(read)
    except Exception:  # noqa: BLE001 - a comparison is user code, and may raise anything
        return False


def _changed(published: Any, read: Any, path: str) -> str:
    kind, other = type(published), type(read)
    hint = _hint(published)
    if not hint and isinstance(published, BaseModel) and isinstance(read, BaseModel):
        hint = f"a {kind.__name__} is given where {other.__name__} is declared, and loses what only it has; declare it"
    if not hint and kind is not other:
        hint = f"{_article(kind)} would be read as {_article(other)}; declare the field as {kind.__name__}"
    if not hint:
        hint = f"{_article(kind)} would be read with another value; its validator or serializer changes it ({_HOW})"
    return f"{path or 'data'} would not arrive as it is: {hint}"


def _hint(value: Any) -> str:
    """What to write instead of a value of which it is known why it cannot travel."""
    if isinstance(value, float | Decimal) and (_is_nan(value) or value in (float("inf"), float("-inf"))):
        return "JSON has no NaN and no infinity; use None"
    if isinstance(value, SecretStr | SecretBytes | PydanticSecret):
        return "a secret may not enter a stream; carry a reference instead"
    if isinstance(value, bytes):
        return "bytes that are not UTF-8 need ser_json_bytes='base64' and val_json_bytes='base64' in model_config"
    if isinstance(value, datetime | time) and value.tzinfo is not None:
        return "its time zone is not kept; give it in UTC: at.astimezone(UTC)"
    if isinstance(value, str) and not _is_text(value):
        return "its text has a lone surrogate; clean it: text.encode('utf-8', 'replace').decode()"
    return ""


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _unwritable(event: BaseModel, error: Exception) -> str:
    """Names the field that cannot be written."""
    cls: Any = type(event)
    for name in cls.model_fields:
        try:
            written(event, include={name})
        except Exception as problem:  # noqa: BLE001 - a serializer is user code, and may raise anything
            value = event.__dict__.get(name)
            where, hint = _culprit(value, name, 0)
            why = hint or f"{_article(type(value))} has no form in JSON ({type(problem).__name__}; {_HOW})"
            return f"{cls.type}: {where} cannot be published: {why}"
    known = isinstance(error, PydanticSerializationError)
    return f"{cls.type}: it cannot be published: " + (str(error)[:200] if known else type(error).__name__)


def _culprit(value: Any, path: str, depth: int) -> tuple[str, str]:
    """The part of a value that cannot be written, and what to write instead."""
    if isinstance(value, str | bytes):
        if isinstance(value, bytes) and _decodes(value):
            return path, ""
        return path, _hint(value)
    parts: Any = ()
    if isinstance(value, BaseModel):
        parts = value.__dict__.items()
    elif isinstance(value, Mapping):
        parts = [*value.items(), *((key, key) for key in value)]
    elif isinstance(value, list | tuple | set | frozenset | deque):
        parts = enumerate(value)
    elif dataclasses.is_dataclass(value):
        parts = vars(value).items() if hasattr(value, "__dict__") else ()
    if depth < 20:
        for name, part in parts:
            where, hint = _culprit(part, _under(path, "{}" if isinstance(value, Mapping) else name), depth + 1)
            if hint:
                return where, hint
    return path, ""


def _decodes(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _place(event: BaseModel, location: tuple[int | str, ...]) -> tuple[str, Any]:
    """The path and the value at a place in an event; a key of a mapping is a value, and may be personal."""
    value: Any = event
    path = ""
    for name in location:
        path = _under(path, "{}" if isinstance(value, Mapping) else name)
        try:
            value = value.__dict__[str(name)] if isinstance(value, BaseModel) else value[name]
        except (KeyError, IndexError, TypeError, AttributeError):
            return path, None
    return path or "data", value


def _explanation(type: str, message: str) -> str:
    if type in ("value_error", "assertion_error", "json_invalid", "recursion_loop"):
        return f"{type.replace('_', ' ')}; make the event by calling its class ({_HOW})"
    return f"{message[:1].lower()}{message[1:160]}"


def _article(kind: type) -> str:
    return f"{'an' if kind.__name__[:1].lower() in 'aeiou' else 'a'} {kind.__name__}"


def _under(path: str, name: Any) -> str:
    return f"{path}.{str(name)[:60]}" if path else str(name)[:60]
