"""Definition: what a class of events may not have, because its events would not arrive as they were published.

What can be seen in the class is refused here, with a `SchemaError` that says what to write. What depends on the values
is proved for each event (`streams.events.roundtrip`), unless the class is exact: then nothing in it can change
on the way.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple, get_args, get_origin, get_type_hints

from pydantic import BaseModel, EmailStr, SecretBytes, SecretStr, ValidationError
from pydantic import Secret as PydanticSecret
from pydantic_core import SchemaValidator, core_schema

from streams.events.privacy import Secret

_WORD: Final = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+")
_SECRETS: Final = (SecretStr, SecretBytes, PydanticSecret)
_NOT_WALKED: Final = frozenset(("metadata", "default", "default_factory", "expected", "members", "config"))
_EXACT_STRING: Final = frozenset(("type", "min_length", "max_length", "pattern", "strict", "metadata", "ref"))
_EXACT_FIELD: Final = frozenset(("type", "schema", "metadata", "frozen"))
_EXACT_MODEL: Final = frozenset(("type", "cls", "schema", "config", "custom_init", "root_model", "metadata", "ref"))
_EXACT_CONFIG: Final = frozenset(
    ("title", "extra_fields_behavior", "allow_inf_nan", "validate_default", "hide_input_in_errors")
)
_ACCESS: Final = ("__getattribute__", "__getattr__", "__setattr__", "__init__", "__dict__")


class SchemaError(ValueError):
    """An event class that cannot be part of the contracts, or an event that would not be read as it is; the message is
    one line that names the field and says what to write.
    """


class _Found(NamedTuple):
    """A part of a core schema, and the path of the field that it is in."""

    path: str
    schema: dict[str, Any]


_RESERVED: Final = frozenset(name for name in vars(BaseModel) if not name.startswith("_"))


def check_fields(class_name: str, fields: Mapping[str, Any], where: str = "") -> None:
    """Refuses a field with the name of what every model has: pydantic refuses some of them, warns of others, and a
    field hides what has its name.
    """
    for name in sorted(_RESERVED.intersection(fields)):
        if "ClassVar" not in str(fields[name]):
            raise _taken(class_name, name, where)


def _taken(class_name: str, name: str, where: str) -> SchemaError:
    word = _WORD.search(class_name)
    other = f"{word[0].lower() if word else 'event'}_{name}"
    return SchemaError(
        f"{class_name}: {name!r}{where} is the name of what every event has, so it cannot be a field or a method; "
        f"call it {other!r}, for example"
    )


def check_names(cls: type[BaseModel], base: type[BaseModel]) -> None:
    """Refuses a field, method or attribute with the name of what every event has: the engine would publish the event
    by it. Looks at the class and what is mixed in; its parents among the events were looked at before.
    """
    reserved = {name for name in vars(base) if not name.startswith("_")} - vars(BaseModel).keys()
    for part in cls.__mro__:
        if part in base.__mro__ or (part is not cls and issubclass(part, base)):
            continue
        fields = vars(part).get("__annotations__", {})
        for name in sorted(reserved.intersection((*vars(part), *fields))):
            where = "" if part is cls else f" (from {part.__name__})"
            if name in ("stream", "version", "type") and "ClassVar" in str(fields.get(name, "")):
                raise SchemaError(
                    f"{cls.__name__}: {name}{where} is given where the class begins: class "
                    f"{cls.__name__}(Event, {name}=...)"
                )
            raise _taken(cls.__name__, name, where)
        check_fields(cls.__name__, fields, "" if part is cls else f" (from {part.__name__})")


def check(cls: type[BaseModel], base: type[BaseModel]) -> bool:
    """Refuses fields that cannot arrive. Returns whether the class is exact: nothing in its values can change."""
    name = cls.__name__
    if private := sorted(cls.__private_attributes__):
        raise SchemaError(f"{name}: the private attribute {private[0]} does not travel; make it a field")
    if not cls.model_config.get("frozen"):
        raise SchemaError(f"{name}: events are immutable; leave frozen=False out of its model_config")
    for field, info in cls.model_fields.items():
        if _has_secret(info.annotation, set()) or any(_is_secret(mark) for mark in info.metadata):
            raise SchemaError(
                f"{name}: secret fields {[field]} may not enter a stream; carry a reference instead, and read the "
                "secret where it is used"
            )
    for path, schema in _parts(cls.__pydantic_core_schema__, "", set()):
        where = f"{name}: {path}" if path else name
        if schema.get("serialization_exclude") or "serialization_exclude_if" in schema:
            raise SchemaError(f"{where} is excluded (exclude=, exclude_if=) and would not be published; leave that out")
        if _extra(schema) == "allow":
            raise SchemaError(
                f"{where} has extra='allow', and what is no field is in no contract and not read; give it a field, "
                "as more: dict[str, Any]"
            )
        if schema.get("config", {}).get("ser_json_inf_nan") == "constants":
            raise SchemaError(f"{where} has ser_json_inf_nan='constants', which is not JSON; leave that out")
        if schema.get("type") == "is-instance" and _is_secret(schema["cls"]):
            raise SchemaError(f"{where} is a secret and may not enter a stream; carry a reference instead")
    _check_defaults(cls)
    own = [part for part in cls.__mro__ if part not in base.__mro__]
    return not any(name in vars(part) for part in own for name in _ACCESS) and _is_exact(cls)


def _check_defaults(cls: type[BaseModel]) -> None:
    """Refuses a default that its own field refuses: it travels as any value, and every consumer would refuse it."""
    schema: Any = cls.__pydantic_core_schema__
    definitions = schema["definitions"] if schema["type"] == "definitions" else []
    model = schema["schema"] if definitions else schema
    fields = model["schema"].get("fields", {}) if model["type"] == "model" else {}
    for name, field in fields.items():
        default = field["schema"]
        if default["type"] != "default" or "default" not in default or default.get("validate_default") is False:
            continue
        inner = default["schema"]
        if any("function" in part.schema.get("type", "") for part in _parts([inner, definitions], "", set())):
            continue  # it may look at other fields: it is validated when an event is made
        whole = core_schema.definitions_schema(inner, definitions) if definitions else inner
        try:
            SchemaValidator(whole, model.get("config")).validate_python(default["default"])
        except ValidationError as error:
            problem = error.errors(include_url=False, include_context=False, include_input=False)[0]["msg"]
            hint = f"; declare it as {name}: ... | None" if default["default"] is None else ""
            raise SchemaError(
                f"{cls.__name__}: the default of {name} is refused by its own type, as every consumer would "
                f"({problem[:1].lower()}{problem[1:120]}){hint}"
            ) from None


def _extra(schema: Mapping[str, Any]) -> Any:
    config = schema.get("config")
    said = config.get("extra_fields_behavior") if isinstance(config, dict) else None
    return schema.get("extra_behavior") or schema.get("extras_behavior") or said


def _parts(schema: Any, path: str, seen: set[int]) -> Iterator[_Found]:
    """Every part of a core schema, with the field it is in."""
    if id(schema) in seen or not isinstance(schema, dict | list | tuple):
        return
    seen.add(id(schema))
    if not isinstance(schema, dict):
        for part in schema:
            inside = path
            if isinstance(part, dict) and part.get("type") == "dataclass-field":
                inside = _under(path, part["name"])
            yield from _parts(part, inside, seen)
        return
    yield _Found(path, schema)
    for key, part in schema.items():
        if key == "fields" and isinstance(part, dict):
            for name, field in part.items():
                yield from _parts(field, _under(path, name), seen)
        elif key not in _NOT_WALKED:
            yield from _parts(part, path, seen)


def _under(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _is_secret(kind: Any) -> bool:
    return kind is Secret or (isinstance(kind, type) and issubclass(kind, _SECRETS))


def _has_secret(annotation: Any, seen: set[Any]) -> bool:
    """Whether a secret is anywhere in an annotation: in its arguments, its marks, or the fields of its classes."""
    kind = get_origin(annotation) or annotation
    if _is_secret(kind) or _is_secret(annotation):
        return True
    if any(_is_secret(part) or _has_secret(part, seen) for part in get_args(annotation)):
        return True
    kind = getattr(kind, "__value__", kind)  # of a type alias
    if not isinstance(kind, type):
        return kind is not annotation and _has_secret(kind, seen)
    if kind in seen:
        return False
    seen.add(kind)
    return any(_has_secret(part, seen) for part in _fields(kind))


def _fields(kind: type) -> Iterable[Any]:
    if issubclass(kind, BaseModel):
        return [part for info in kind.model_fields.values() for part in (info.annotation, *info.metadata)]
    if dataclasses.is_dataclass(kind) or hasattr(kind, "__total__") or hasattr(kind, "_fields"):
        try:
            return list(get_type_hints(kind, include_extras=True).values())
        except (NameError, TypeError):  # a name that is only there for type checkers
            return []
    return []


def _is_exact(cls: type[BaseModel]) -> bool:
    schema: Any = cls.__pydantic_core_schema__
    if schema["type"] != "model" or not schema.keys() <= _EXACT_MODEL or schema.get("custom_init"):
        return False
    config: dict[str, Any] = schema.get("config", {})
    fields: dict[str, Any] = schema["schema"]
    if not config.keys() <= _EXACT_CONFIG or config.get("allow_inf_nan", True) or not config.get("validate_default"):
        return False
    if fields["type"] != "model-fields":
        return False
    if fields.get("computed_fields") or not all(_is_field(field) for field in fields["fields"].values()):
        return False
    return fields.keys() <= {"type", "fields", "model_name", "computed_fields", "metadata", "ref"}


def _is_field(field: dict[str, Any]) -> bool:
    return field.keys() <= _EXACT_FIELD and _is_scalar(field["schema"])


def _is_scalar(schema: dict[str, Any]) -> bool:
    """Whether every value of it is read as it was written, whatever the value is."""
    if "serialization" in schema:
        return False
    kind: str = schema["type"]
    match kind:
        case "int" | "bool" | "none":
            return True
        case "float":
            return bool(schema.get("allow_inf_nan", False) is False)
        case "str":
            return schema.keys() <= _EXACT_STRING
        case "nullable":
            return _is_scalar(schema["schema"])
        case "default":
            is_valid: bool = schema.get("validate_default", True) is True and schema.get("on_error", "raise") == "raise"
            return is_valid and _is_scalar(schema["schema"])
        case "literal":
            return len({type(value) for value in schema["expected"]} | {str}) == 1
        case "function-after":  # an address is normal after it was normalized once
            return getattr(schema["function"]["function"], "__self__", None) is EmailStr
    return False
