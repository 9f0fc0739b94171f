"""Header texts by RFC 2047: encoded words that every parser reads back to the letter."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator
from typing import Final

_WORD: Final = 75  # characters of an encoded word; RFC 2047, section 2
_LINE: Final = 76  # of a line with one
_PLAIN_LINE: Final = 78
_OVERHEAD: Final = len("=?utf-8?q??=")
# What a quoted word may hold as it is, also in the name before an address: RFC 2047, section 5, rule 3.
_LITERAL: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/")
_ATOMS: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+")


def subject_header(text: str) -> str:
    """`Subject: ` and the text, folded. The text holds no controls (`shown`)."""
    return _header("Subject: ", text) or "Subject: " + encoded_words(text, first=len("Subject: "))


def phrase(text: str, *, first: int) -> str:
    """The name before an address: as it is, quoted or encoded. `first` characters are before it in its line."""
    if not text.isascii() or "=?" in text or len(text) > _PLAIN_LINE - first - 2 or not text.isprintable():
        return encoded_words(text, first=first)
    if _ATOMS.fullmatch(text) and "  " not in text and text == text.strip():
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def encoded_words(text: str, *, first: int) -> str:
    """The text in encoded words of at most 75 characters, one a line, each of whole characters."""
    raw = text.encode()
    escapes = sum(byte not in _LITERAL and byte != 0x20 for byte in raw)
    quoted = len(raw) + 2 * escapes <= 4 * -(-len(raw) // 3)
    return "\r\n ".join(_words(text, first, quoted=quoted))


def _header(name: str, text: str) -> str:
    """Plain text, folded before its spaces; nothing where it would not come back as it was."""
    if not text.isascii() or not text.isprintable() or "=?" in text or "  " in text or text != text.strip(" "):
        return ""
    lines = [name.rstrip(" ")]
    for word in text.split(" "):
        if len(word) > _PLAIN_LINE - len(name):
            return ""
        if len(lines[-1]) + 1 + len(word) > _PLAIN_LINE:
            lines.append("")
        lines[-1] += f" {word}"
    return "\r\n".join(lines)


def _words(text: str, first: int, *, quoted: bool) -> Iterator[str]:
    room = _LINE - first - _OVERHEAD
    most = _WORD - _OVERHEAD
    taken: list[bytes] = []
    size = 0
    for character in text:
        piece = character.encode()
        cost = _cost(piece) if quoted else len(piece)
        space = min(room, most)
        if not quoted:
            space = space // 4 * 3
        if taken and size + cost > space:
            yield _word(b"".join(taken), quoted=quoted)
            taken, size, room = [], 0, most
        taken.append(piece)
        size += cost
    yield _word(b"".join(taken), quoted=quoted)


def _cost(piece: bytes) -> int:
    return sum(1 if byte in _LITERAL or byte == 0x20 else 3 for byte in piece)


def _word(raw: bytes, *, quoted: bool) -> str:
    if not quoted:
        return f"=?utf-8?b?{b64encode(raw).decode()}?="
    inside = "".join("_" if byte == 0x20 else chr(byte) if byte in _LITERAL else f"={byte:02X}" for byte in raw)
    return f"=?utf-8?q?{inside}?="
