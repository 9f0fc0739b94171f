"""Body: the part of a message's data that may be shown. Personal fields are hidden unless asked for by name."""

from __future__ import annotations

from typing import Any, Final

from pydantic_core import from_json, to_json

_LONGEST: Final = 2_000


def body(type: str, data: bytes, *, reveal: bool) -> Any:
    """The data for people: the JSON object with personal values hidden, all of it with `reveal`.

    Of data that is no JSON object nothing can be marked as personal, so only its size is shown; with `reveal` it is
    shown as text with escapes, at most 2,000 characters of it.
    """
    from streams.events.event import registered
    from streams.events.privacy import REDACTED, redact

    try:
        document = from_json(data, allow_inf_nan=False)  # which keeps every digit of an integer
    except ValueError:
        document = None
    if isinstance(document, dict):
        return document if reveal else redact(registered(type), document)
    if not reveal:
        return f"{REDACTED} {len(data):,} bytes that are no JSON object"
    text = data[: 4 * _LONGEST].decode("utf-8", "backslashreplace")
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(data):,} bytes)"


def body_text(type: str, data: bytes, *, reveal: bool) -> str:
    """The same on one line."""
    shown = body(type, data, reveal=reveal)
    return shown if isinstance(shown, str) else to_json(shown).decode()
