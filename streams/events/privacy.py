"""Marks for what is private in an event, and the redaction that honours them.

`PII` is personal: it may travel in a stream, but logs, traces and dashboards show it redacted. `Secret` may not
travel at all: a stream is an append-only log: what was read cannot be taken back, so an event class with a secret
field is refused when it is defined.
"""

from __future__ import annotations

from dataclasses import dataclass, is_dataclass
from typing import TYPE_CHECKING, Any, Final, get_args, get_type_hints, is_typeddict

if TYPE_CHECKING:
    from pydantic import BaseModel

REDACTED: Final = "[redacted]"


@dataclass(frozen=True, slots=True)
class Mark:
    """A privacy class, used as `Annotated[EmailStr, PII]`."""

    name: str


PII: Final = Mark("pii")
"""Personal data: published, but redacted wherever people look."""

Secret: Final = Mark("secret")
"""Never published: carry a reference and make the secret where it is used (`PasswordResetRequested.reset_id`)."""


def marked_fields(model: type[BaseModel], mark: Mark) -> frozenset[str]:
    """Names the fields of `model` that carry `mark`, or whose type does somewhere: in a union, in a list, in a part."""
    return _marked_fields(model, mark, ())


def _marked_fields(model: type[BaseModel], mark: Mark, within: tuple[type, ...]) -> frozenset[str]:
    found = model.model_fields.items()
    return frozenset(name for name, field in found if mark in field.metadata or _marks(field.annotation, mark, within))


def _marks(annotation: Any, mark: Mark, within: tuple[type, ...]) -> bool:
    annotation = getattr(annotation, "__value__", annotation)  # of `type Name = ...`
    if mark in getattr(annotation, "__metadata__", ()):
        return True
    parts = get_args(annotation)
    if parts or not isinstance(annotation, type) or annotation in within:  # it may be a part of itself, in a list
        return any(_marks(part, mark, within) for part in parts)
    if hasattr(annotation, "model_fields"):
        return bool(_marked_fields(annotation, mark, (*within, annotation)))
    if is_dataclass(annotation) or is_typeddict(annotation) or hasattr(annotation, "_fields"):
        hints = get_type_hints(annotation, include_extras=True).values()
        return any(_marks(hint, mark, (*within, annotation)) for hint in hints)
    return False


def redact(model: type[BaseModel] | None, data: dict[str, Any]) -> dict[str, Any]:
    """Copies `data` with every value hidden that `model` marks as personal or secret.

    Without a model (an unknown type) every value is hidden: none is known to be public.
    """
    if model is None:
        return dict.fromkeys(data, REDACTED)
    hidden = marked_fields(model, PII) | marked_fields(model, Secret)
    known = model.model_fields.keys()
    return {name: REDACTED if name in hidden or name not in known else value for name, value in data.items()}
