"""Fingerprint: which dead letters failed in the same way, whatever ids, times and names stand in their errors."""

from __future__ import annotations

import hashlib
import re
from typing import Final

from streams.messages.error_text import CAUSE, CONTEXT, LONGEST_TRACEBACK, NOTE, OTHER

# In this order: an address may hold digits, a quoted text anything.
_VARYING: Final = (
    (re.compile(r"""'[^'\n]*'|"[^"\n]*"|`[^`\n]*`|\u2018[^\u2019\n]*\u2019|\u201c[^\u201d\n]*\u201d"""), "'*'"),
    (re.compile(r"\b[a-z][a-z0-9+.-]{0,20}://\S+", re.IGNORECASE), "<url>"),
    (re.compile(r"<?[^\s<>@,;:]{1,64}@[^\s<>@,;:]{1,200}\.[^\s<>@,;:.]{1,63}>?"), "<address>"),
    (re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b", re.IGNORECASE), "<id>"),
    (re.compile(r"\b0x[0-9a-f]+\b", re.IGNORECASE), "<hex>"),
    (re.compile(r"\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{6,}\b", re.IGNORECASE), "<hex>"),
    (re.compile(r"\d+"), "#"),
)  # fmt: skip
_NOTE: Final = re.compile(rf"{re.escape(NOTE)}[^\]]{{0,250}}\]?")
_SPACE: Final = re.compile(r"\s+")
_FRAME: Final = re.compile(
    r'^[ \t]{0,8}File "(?P<file>[^"\n]{0,4096})", line \d{1,9}, in (?P<function>.+)$', re.MULTILINE
)
_LONGEST: Final = 2_000
_LONGEST_TRACEBACK: Final = 2 * LONGEST_TRACEBACK


def fingerprint(type: str, reason: str, error: str, traceback: str = "") -> str:
    """Twelve hex digits, the same for the same event type, reason, error class, kind of message and innermost frame.
    Every pattern is linear or bounded: a dead letter's texts are untrusted input.

    Of the message only what stays the same counts: numbers, ids, hexadecimal, quoted texts, addresses and URLs are left
    out. Of the frame the file's name and the function, not the line, so that an unrelated change to the file does not
    separate two failures of one kind.
    """
    parts = (type, reason, normalised(error), innermost_frame(traceback))
    return hashlib.blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()


def normalised(error: str) -> str:
    """The error with what varies between two occurrences replaced."""
    text = _NOTE.sub("", error[:_LONGEST])
    for pattern, instead in _VARYING:
        text = pattern.sub(instead, text)
    return _SPACE.sub(" ", text).strip()


def innermost_frame(traceback: str) -> str:
    """`file.py function` of the frame that raised the innermost cause, or empty. Of a group that is the first exception
    in it; what was merely being handled is no cause.
    """
    chain = traceback[:_LONGEST_TRACEBACK].partition(OTHER)[0].partition(CONTEXT)[0]
    for section in reversed(chain.split(CAUSE)):
        if frames := _FRAME.findall(section):
            file, function = frames[-1]
            return f"{file.replace(chr(92), '/').rpartition('/')[2]} {function.strip()}"
    return ""
