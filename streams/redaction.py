"""Redaction of free text for logs and traces: messages quote what they were given.

The fields of an event are redacted by `streams.events.redact`; this is for text without a schema.
"""

from __future__ import annotations

import re
from typing import Final

from streams.events.privacy import REDACTED

ERROR_LENGTH: Final = 500

_URL_LOGIN: Final = re.compile(r"(?<=://)[^\s/@]{0,512}@")
_ADDRESS: Final = re.compile(r"[^\s<>\"'(),;:@\[\]=/]{1,64}@[^\s<>\"'(),;:@\[\]=/]{1,255}")
_INPUT: Final = re.compile(r"input_value=.*(?=, input_type=)|input_value=.*")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_LONGEST_ADDRESS: Final = 320


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
