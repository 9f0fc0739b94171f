"""Redaction of free text for logs and traces: error messages quote what they were given.

The fields of an event are redacted by `schemas.redact`; this is for text that nobody has typed.
"""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

from schemas.privacy import REDACTED

ERROR_LENGTH: Final = 500

_URL_LOGIN: Final = re.compile(r"(?<=://)[^\s/@]{0,512}@")
_ADDRESS: Final = re.compile(r"[^\s<>\"'(),;:@\[\]=/]{1,64}@[^\s<>\"'(),;:@\[\]=/]{1,255}")
_INPUT: Final = re.compile(r"input_value=.*(?=, input_type=)|input_value=.*")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_LONGEST_ADDRESS: Final = 320
_SHORTEST: Final = 3
_MOST_VALUES: Final = 500


def redact_text(text: str, length: int = ERROR_LENGTH) -> str:
    """Copies `text` without mail addresses, URL logins and pydantic's input values, cut to `length` characters.

    Control characters are written as escapes, so that text from outside cannot drive a terminal. What UTF-8 cannot
    encode (lone surrogates) is replaced: one such character would make the exporter lose its batch.
    """
    if len(text) > 4 * length:  # a bound for the patterns; what the cut went through could not be recognised: drop it
        end = 4 * length
        text = text[: max(text.rfind(" ", 0, end), end - _LONGEST_ADDRESS)]
    if "input_value=" in text:
        text = _INPUT.sub(f"input_value={REDACTED}", text)
    if "@" in text:
        text = _URL_LOGIN.sub(f"{REDACTED}@", text)
        text = _ADDRESS.sub(REDACTED, text)
    text = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= length else text[: length - 1] + "…"


def redact_error(error: str, data: bytes) -> str:
    """Copies an error message for a trace without anything of the event's `data` in it, at most 500 characters.

    Hides every string of three characters or more, every number of six digits or more and every nested name that the
    data holds, as it stands and as `repr` writes it. Where the data is not JSON, or holds too many values to compare,
    nothing can be told apart and the whole message is hidden.
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
