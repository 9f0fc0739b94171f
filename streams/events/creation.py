"""Creation: what goes wrong while a class of events is made is a `SchemaError` that names the field.

pydantic answers with errors of a dozen classes (its own, `TypeError`, `ValueError`, `NameError`, warnings that are
errors), some of which name a type or a constraint, and no field. All of them stop the import of the module that defines
the event, so the line that is shown has to say where to look.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel
from pydantic._internal._model_construction import ModelMetaclass, build_lenient_weakvaluedict
from pydantic._internal._typing_extra import parent_frame_namespace

from streams.events.definition import SchemaError, check_fields

_RESET: Final = "__pydantic_reset_parent_namespace__"
_LONGEST: Final = 300  # characters of pydantic's own text
_INNERMOST: Final = re.compile(r"^Error building .* validator: ")
_ADVICE: Final = re.compile(r" Set `arbitrary_types_allowed=True`.*| ?For further information.*")
_NO_FIELD: Final = re.compile(r"^Decorators defined with incorrect fields: \S*?\.(\w+) ")


class EventMeta(ModelMetaclass):
    """The metaclass of `Event`."""

    def __new__(mcs, name: str, bases: tuple[Any, ...], namespace: dict[str, Any], **arguments: Any) -> type:
        """Makes the class; raises `SchemaError`, whatever is wrong with it."""
        fields = namespace.get("__annotations__", {})
        try:
            check_fields(name, fields)
            if not isinstance(namespace.get("model_config", {}), Mapping):
                raise SchemaError(f"{name}: model_config is no ConfigDict; write model_config = ConfigDict()")
            if arguments.setdefault(_RESET, True):
                # Where names are looked up that a function defines beside the class: pydantic takes the frame that
                # calls it, which is this one.
                arguments[_RESET] = False
                namespace["__pydantic_parent_namespace__"] = build_lenient_weakvaluedict(parent_frame_namespace())
            return super().__new__(mcs, name, bases, namespace, **arguments)
        except SchemaError:
            raise
        except Exception as error:
            raise SchemaError(f"{name}: {_explained(namespace, fields, error)}") from error


def _explained(namespace: Mapping[str, Any], fields: Mapping[str, Any], error: Exception) -> str:
    text = _ADVICE.sub("", _INNERMOST.sub("", " ".join(str(error).split())))[:_LONGEST]
    problem = f"{text or '(no text)'} ({type(error).__name__})"
    if "__init_subclass__() " in text and "keyword argument" in text:
        return f"{problem}; a class of events takes stream=, version=, type= and priority="
    if not_there := _NO_FIELD.match(text):
        return f"the validator or serializer {not_there[1]!r} names a field that is not there; name one that is"
    for field, alone in _each(namespace, fields):
        if _fails(alone):
            what = "field" if field in fields else "method"
            return f"the {what} {field!r} cannot be one: {problem}; give it another name, type or constraint"
    return problem


def _each(namespace: Mapping[str, Any], fields: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The body of a class with one field alone, for each of them; then with all of them and one validator, ..."""
    module = {name: namespace[name] for name in ("__module__", "__qualname__", "model_config") if name in namespace}
    defaults = {name: namespace[name] for name in fields if name in namespace}
    for name, annotation in fields.items():
        default = {name: defaults[name]} if name in defaults else {}
        yield name, {**module, "__annotations__": {name: annotation}, **default}
    for name, member in namespace.items():
        if hasattr(member, "decorator_info"):
            yield name, {**module, "__annotations__": dict(fields), **defaults, name: member}


def _fails(namespace: dict[str, Any]) -> bool:
    """Whether a model with this body cannot be made: then what is in it is at fault."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ModelMetaclass("Alone", (BaseModel,), namespace)
    except Exception:  # noqa: BLE001 - whatever it is: the error of the class itself is the one that is shown
        return True
    return False
