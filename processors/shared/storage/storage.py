"""Storage: the files of one area, in a directory or in S3. Reading and writing are streams; memory stays small."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from processors.shared.storage.errors import translate_errors
from processors.shared.storage.file_key import FileKey
from processors.shared.storage.file_name import as_attachment
from processors.shared.storage.file_writer import FileWriter
from processors.shared.storage.links import Links
from processors.shared.storage.settings import Area
from streams import StreamsError
from streams.messages import open_store

_BLOCK: Final = 1024 * 1024
_PART: Final = 8 * 1024 * 1024  # of a multipart upload: S3 takes 10,000 of them, of 5 MiB at least
_PARTS_AT_ONCE: Final = 2  # each is held in memory
_TRIES: Final[dict[str, Any]] = {"max_retries": 3, "retry_timeout": timedelta(seconds=20)}


@dataclass(frozen=True, slots=True)
class Found:
    """A file that is there: its key, its size in bytes, when it was written, and a mark that changes when it does."""

    key: FileKey
    bytes: int
    at: datetime
    mark: str


class Storage:
    """The files of an area, under `file:///directory` or `s3://bucket/prefix`.

    `options` go to `obstore.store.from_url`; S3 also reads `AWS_*` from the environment. Needs the extra `storage`.
    Every method raises `FileNotFoundError` for a file that is not there and `Unavailable("storage")` when the store
    does not answer.
    """

    def __init__(self, area: Area, url: str, links: Links, *, seconds: float, **options: Any) -> None:
        self.area, self._links, self._seconds = area, links, seconds
        self.directory = Path(unquote(urlsplit(url).path)) if url.startswith("file:///") else None
        if self.directory is None:
            options.setdefault("retry_config", _TRIES)
        self._store = open_store(url, user=f"the storage of {area}", **options)

    @asynccontextmanager
    async def write(self, key: FileKey, *, name: str = "", most: int | None = None) -> AsyncGenerator[FileWriter]:
        """Writes a file: `async with storage.write(key) as file: await file.write(...)`.

        It is there when the block ends, as a whole; when the block fails, what was there before is there still. `name`
        is what it is called when it is fetched from S3.
        """
        import obstore

        path = self._guard(key)
        attributes: Any = None
        if path is None:
            attributes = {"Content-Type": key.media_type, "Content-Disposition": as_attachment(name or key)}
        file = obstore.open_writer_async(
            self._store, key, attributes=attributes, buffer_size=_PART, max_concurrency=_PARTS_AT_ONCE
        )
        try:
            yield FileWriter(file, most)
        except BaseException:
            # Leaving with an error throws away what was written: the draft, or the parts of the upload.
            await file.__aexit__(*sys.exc_info())
            raise
        with translate_errors():
            await file.close()
        if path is not None:
            # What an event names afterwards must outlive a power cut.
            await asyncio.to_thread(_sync, path)

    async def find(self, key: FileKey) -> Found:
        """Whether a file is there, and how large it is."""
        import obstore

        self._guard(key)
        with translate_errors():
            meta = await obstore.head_async(self._store, key)
        return Found(key, meta["size"], meta["last_modified"], meta["e_tag"] or "")

    async def read(self, key: FileKey, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The bytes of a file from `start` to before `end`, in blocks of about a megabyte."""
        import obstore

        self._guard(key)
        chosen: Any = {} if start == 0 and end is None else {"range": (start, end) if end else {"offset": start}}
        with translate_errors():
            found = await obstore.get_async(self._store, key, options=chosen)
            async for block in found.stream(min_chunk_size=_BLOCK):
                yield bytes(block)

    async def ls(self) -> AsyncIterator[Found]:
        """Every file of the area, in no order."""
        import obstore

        with translate_errors():
            async for page in obstore.list(self._store):
                for meta in page:
                    try:
                        key = FileKey.checked(meta["path"])
                    except StreamsError:
                        continue  # another program's
                    yield Found(key, meta["size"], meta["last_modified"], meta["e_tag"] or "")

    async def remove(self, key: FileKey) -> None:
        """Removes a file; one that is not there is gone already."""
        import obstore

        self._guard(key)
        try:
            with translate_errors():
                await obstore.delete_async(self._store, key)
        except FileNotFoundError:
            return

    async def link(self, key: FileKey, name: str, *, seconds: float | None = None) -> str:
        """An address under which any holder of it can fetch the file, for so long (`LINK_SECONDS` unless given)."""
        seconds = self._seconds if seconds is None else seconds
        if self.directory is not None:
            return self._links.make(self.area, key, name, seconds)
        from obstore import sign_async
        from obstore.store import S3Store

        assert isinstance(self._store, S3Store)
        with translate_errors():
            return await sign_async(self._store, "GET", key, timedelta(seconds=seconds))

    def leftovers(self, before: datetime) -> list[Path]:
        """In a directory: what processes that were killed while they wrote have left, older than `before`.

        S3 keeps the parts of such uploads until a lifecycle rule of the bucket removes them (docs/business/files.md).
        """
        if self.directory is None:
            return []
        drafts = self.directory.glob("*/*#*")
        return [path for path in drafts if path.lstat().st_mtime < before.timestamp()]

    def _guard(self, key: FileKey) -> Path | None:
        """Refuses a path that leads out of the directory: the store itself follows symbolic links."""
        FileKey.checked(key)
        if self.directory is None:
            return None
        path = self.directory / key
        for part in (path.parent, path):
            try:
                mode = part.lstat().st_mode
            except FileNotFoundError:
                break
            if not (stat.S_ISDIR(mode) if part == path.parent else stat.S_ISREG(mode)):
                raise StreamsError(f"{key} is no file of ours: not a regular file")
        return path


def _sync(path: Path) -> None:
    for name in (path, path.parent):
        handle = os.open(name, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
