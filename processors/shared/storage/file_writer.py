"""FileWriter: a file that is being written. It is there as a whole, or not at all."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from processors.shared.storage.errors import translate_errors
from streams import StreamsError

if TYPE_CHECKING:
    from obstore import AsyncWritableFile


class FileTooLarge(StreamsError):
    """More bytes than the file may have."""


class FileWriter:
    """Takes bytes, counts and hashes them. Made by `Storage.write`."""

    def __init__(self, file: AsyncWritableFile, most: int | None) -> None:
        self._file, self._most = file, most
        self._hash = hashlib.sha256()
        self.bytes = 0

    async def write(self, data: bytes) -> None:
        """Adds bytes. Raises `FileTooLarge` before what is too much is written."""
        self.bytes += len(data)
        if self._most is not None and self.bytes > self._most:
            raise FileTooLarge(f"the file has more than {self._most} bytes (MAX_FILE_SIZE)")
        self._hash.update(data)
        with translate_errors():
            await self._file.write(data)

    @property
    def sha256(self) -> str:
        """Of what was written so far, hexadecimal."""
        return self._hash.hexdigest()
