"""safe_file_name: what a file is called when a person saves it. It never becomes a path on this side."""

from __future__ import annotations

import re
import unicodedata
from typing import Final
from urllib.parse import quote

_DEVICES: Final = re.compile(r"(con|prn|aux|nul|clock\$|com\d|lpt\d)(\.|$)", re.IGNORECASE)
_UNWANTED: Final = re.compile(r'[<>:"|?*;%]+')
_LONGEST: Final = 120  # characters; four bytes each at most, and a file name may have 255


def safe_file_name(name: str, instead: str = "file") -> str:
    """The last part of a name, without what a file system, a header or a reader could take for something else: control
    and direction characters, quotes, leading dots, the names of devices.
    """
    last = name.replace("\\", "/").rpartition("/")[2]
    shown = "".join(
        character for character in last if unicodedata.category(character)[0] not in "CZ" or character == " "
    )
    shown = _UNWANTED.sub("_", shown).strip(" .")
    if len(shown) > _LONGEST:
        stem, dot, suffix = shown.rpartition(".")
        shown = f"{stem[: _LONGEST - 10]}{dot}{suffix[:9]}" if dot else shown[:_LONGEST]
    if _DEVICES.match(shown):
        shown = f"_{shown}"
    return shown or instead


def as_attachment(name: str) -> str:
    """The Content-Disposition header (RFC 6266) that saves a file under a name rather than showing it."""
    safe = safe_file_name(name)
    letters = "".join(c for c in unicodedata.normalize("NFKD", safe) if not unicodedata.combining(c))
    plain = re.sub(r"[^A-Za-z0-9 ._()+-]", "_", letters)
    encoded = "" if plain == safe else f"; filename*=UTF-8''{quote(safe, safe='')}"
    return f'attachment; filename="{plain}"{encoded}'
