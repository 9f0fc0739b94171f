"""Shown: text from outside as people may see it in mails and reports: no controls, no turned directions, no links.

What is not allowed is replaced and never refused: an alert about an oddly written SKU is an alert all the same.
"""

from __future__ import annotations

import re
from typing import Final

_LONGEST_NAME: Final = 80  # characters of a person's name; what is longer is a message, not a name

# What ends a line, or looks like a gap. Before the rule for controls, which has them too.
_GAPS: Final = re.compile("[\t\n\x0b\x0c\r\x1c-\x1f\x85\u2028\u2029]+")
# C0, C1, surrogates, noncharacters and the interlinear marks, for which XML and headers have no place.
_CONTROLS: Final = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff\ufdd0-\ufdef\ufff9-\ufffb\ufffe\uffff]"
)
# Embeddings, overrides and isolates of direction, and the marks; zero-width characters but for the two joiners, which
# emoji and several scripts are written with; the soft hyphen and fillers that look like nothing.
_INVISIBLE: Final = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0]"
)
# Where readers of mails and PDFs see a link: a dot (also one of those that browsers take for one) before letters, a
# colon before anything but a time of day, slashes before a name, an address.
_DOTS: Final = re.compile("([.\u2024\u3002\ufe52\uff0e\uff61]+)(?=[\u200c\u200d]*[^\\W\\d_][^\\s!-@\\[-`{-~])")
_COLONS: Final = re.compile("([:\ufe55\uff1a])(?=[^\\s\\d])")
_SLASHES: Final = re.compile("[/\\\\\u2215\uff0f\uff3c]{2,}(?=\\S)")
_AT: Final = re.compile("\\s*[@\uff20\ufe6b]\\s*")
_FILE: Final = re.compile(
    r"(.*)(\.(?:csv|tsv|txt|xlsx|xls|ods|json|ndjson|parquet|pdf|html))", re.IGNORECASE | re.DOTALL
)


class Shown(str):
    """Text that may be shown as it is."""

    __slots__ = ()


def shown(text: str) -> str:
    """Text with what cannot be seen replaced: what ends a line by a space, other controls by U+FFFD. Characters that
    are invisible or turn the direction of what follows are left out.
    """
    if text.isascii() and text.isprintable():
        return text
    return _INVISIBLE.sub("", _CONTROLS.sub("\ufffd", _GAPS.sub(" ", text)))


def text_shown(text: str) -> Shown:
    """Text in which no reader sees a link or an address that is not ours: `http: evil. example`."""
    return Shown(_AT.sub(" at ", _SLASHES.sub(" ", _COLONS.sub(r"\1 ", _DOTS.sub(r"\1 ", shown(text))))))


def name_shown(text: str) -> Shown:
    """A name from an untrusted person: likewise, in one line of at most 80 characters."""
    name = " ".join(shown(text).split())
    if len(name) > _LONGEST_NAME:
        name = f"{name[: _LONGEST_NAME - 1].rstrip()}\u2026"
    return Shown(" ".join(text_shown(name).split()))


def business_shown(name: str, business_id: int) -> Shown:
    """The name of a business: likewise; one without a name has its number."""
    return name_shown(name) or Shown(f"Business {business_id}")


def file_shown(text: str) -> Shown:
    """The name of a file: likewise, but that it may end like a file."""
    found = _FILE.fullmatch(text)
    return Shown(name_shown(found[1]) + shown(found[2])) if found else name_shown(text)
