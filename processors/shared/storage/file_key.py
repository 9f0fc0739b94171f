"""FileKey: the name of a file in an area, made here and never by a user. It comes back in events, so it is checked."""

from __future__ import annotations

import hashlib
import re
from typing import Final
from uuid import uuid4

from streams import StreamsError

SUFFIXES: Final = {
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "parquet": "application/vnd.apache.parquet",
    "arrow": "application/octet-stream",
    "html": "text/html; charset=utf-8",
    "pdf": "application/pdf",
}
"""The kinds of files, and what they are called when they are fetched."""

_KEY: Final = re.compile(rf"([0-9]{{1,10}})/([0-9a-f]{{32}})\.({'|'.join(SUFFIXES)})", re.ASCII)


class FileKey(str):
    """`BUSINESS/32 hexadecimal digits.SUFFIX`, as text.

    Nothing else is ever joined to a directory: no dots, no absolute path, no device, no byte that ends a string.
    """

    __slots__ = ()

    @classmethod
    def new(cls, business_id: int, suffix: str, made_from: str = "") -> FileKey:
        """The key of a new file. From the same `made_from` (an event's id) it is the same again, so that a second try
        writes over what the first has left.
        """
        name = hashlib.sha256(made_from.encode()).hexdigest()[:32] if made_from else uuid4().hex
        return cls.checked(f"{business_id}/{name}.{suffix}")

    @classmethod
    def checked(cls, text: str) -> FileKey:
        """A key that came from outside; raises `StreamsError` when it is none."""
        if not _KEY.fullmatch(text):
            raise StreamsError(f"{text[:80]!a} is no file of ours")
        return cls(text)

    @property
    def business_id(self) -> int:
        """Whose file it is."""
        return int(self.partition("/")[0])

    @property
    def media_type(self) -> str:
        """What it is, for HTTP."""
        return SUFFIXES[self.rpartition(".")[2]]
