"""Redaction of errors for traces: they quote what they were given, and the event is at hand to compare with."""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

from streams.events import REDACTED
from streams.redaction import redact_text

_SHORTEST: Final = 3
_MOST_VALUES: Final = 500


def redact_error(error: str, data: bytes) -> str:
    """Copies an error message for a trace without anything of the event's `data` in it, at most 500 characters.

    Hides every string of three characters or more, every number of six digits or more and every nested name that the
    data holds, as it stands and as `repr` writes it. Where the data is not JSON, or holds too many values to compare,
    values cannot be distinguished and the whole message is hidden.
    """
    try:
        values = _values(orjson.loads(data), set(), 0)
    except (orjson.JSONDecodeError, ValueError, RecursionError):
        return REDACTED
    forms = {form for value in values for form in (value, repr(value)[1:-1], ascii(value)[1:-1]) if form in error}
    if forms:  # in one pass: a value may itself be part of "[redacted]"
        error = re.sub("|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True)), REDACTED, error)
    return redact_text(error)


def _values(value: Any, found: set[str], depth: int) -> set[str]:
    if len(found) > _MOST_VALUES:
        raise ValueError("too many values to look for")
    if isinstance(value, dict):
        for name, nested in value.items():
            if depth and len(name) >= _SHORTEST:
                found.add(name)
            _values(nested, found, depth + 1)
    elif isinstance(value, list):
        for nested in value:
            _values(nested, found, depth + 1)
    elif isinstance(value, str):
        # The parts as well: a mail server quotes the local part alone, a greeting the first name.
        found.update(part for part in (value, *re.split(r"[\s@]+", value)) if len(part) >= _SHORTEST)
    elif isinstance(value, int | float) and len(str(value)) >= 6:
        found.add(str(value))
    return found
