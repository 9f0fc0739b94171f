"""UploadSource: a file to be imported, wherever it is: its bytes from the first one on, and as a file for workbooks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Protocol

from processors.shared.storage import Found, Storage

_BLOCK: Final = 1024 * 1024


class UploadSource(Protocol):
    """What a survey reads. `size` is in bytes."""

    @property
    def size(self) -> int:
        """How many bytes."""
        ...

    def blocks(self) -> AsyncIterator[bytes]:
        """The bytes, in blocks."""
        ...

    def as_path(self) -> AbstractAsyncContextManager[Path]:
        """A file with them."""
        ...


@dataclass(frozen=True, slots=True)
class StoredSource:
    """A file of a storage."""

    storage: Storage
    found: Found

    @property
    def size(self) -> int:
        """Its bytes."""
        return self.found.bytes

    async def blocks(self) -> AsyncIterator[bytes]:
        """As `UploadSource`."""
        if self.found.bytes:
            async for block in self.storage.read(self.found.key):
                yield block

    @asynccontextmanager
    async def as_path(self) -> AsyncIterator[Path]:
        """A copy in the temporary directory."""
        with TemporaryDirectory(prefix="import-") as directory:
            path = Path(directory) / "upload"
            with path.open("wb") as file:
                async for block in self.blocks():
                    await asyncio.to_thread(file.write, block)
            yield path


@dataclass(frozen=True, slots=True)
class LocalSource:
    """A file of this machine."""

    path: Path

    @property
    def size(self) -> int:
        """Its bytes."""
        return self.path.stat().st_size

    async def blocks(self) -> AsyncIterator[bytes]:
        """As `UploadSource`."""
        with self.path.open("rb") as file:
            while block := await asyncio.to_thread(file.read, _BLOCK):
                yield block

    @asynccontextmanager
    async def as_path(self) -> AsyncIterator[Path]:
        """The file itself."""
        yield self.path
