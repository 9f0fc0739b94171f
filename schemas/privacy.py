"""Marks for what is private in an event, and the redaction that honours them.

`PII` is personal: it may travel in a stream, but logs, traces and dashboards show it redacted. `Secret` may not
travel at all: a stream is an append-only log that many read and nobody can unread, so an event class with a secret
field is refused when it is defined.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

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
    """Names the fields of `model` that carry `mark` (top level only: nested values are covered by their field)."""
    return frozenset(name for name, field in model.model_fields.items() if mark in field.metadata)


def redact(model: type[BaseModel] | None, data: dict[str, Any]) -> dict[str, Any]:
    """Copies `data` with every value hidden that `model` marks as personal or secret.

    Without a model (an unknown type) every value is hidden: nobody said that any of it may be shown.
    """
    if model is None:
        return dict.fromkeys(data, REDACTED)
    hidden = marked_fields(model, PII) | marked_fields(model, Secret)
    known = model.model_fields.keys()
    return {name: REDACTED if name in hidden or name not in known else value for name, value in data.items()}
