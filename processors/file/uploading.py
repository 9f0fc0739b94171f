"""store_upload: the door for files from outside. Only a CSV of stock comes in, by its content."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

from processors.file.dialect import HEAD, read_dialect
from processors.storage import Storages
from processors.storage.file_key import FileKey
from processors.storage.file_name import safe_file_name
from schemas import InventoryImportUploaded
from streams import StreamsError

_BLOCK: Final = 256 * 1024


async def store_upload(
    source: Path | AsyncIterator[bytes],
    business_id: int,
    storages: Storages,
    *,
    name: str = "",
    user_email: str | None = None,
    again: bool = False,
) -> InventoryImportUploaded:
    """Stores a file (a path, or its bytes as they arrive) and returns the event that asks for its import; publish it.

    Its beginning is looked at before anything is stored. `name` is what its user calls it: it is kept for people and is
    never a path. Raises `FileRefused` for what is no CSV of stock, and `FileTooLarge` over `MAX_FILE_SIZE`.
    """
    blocks = _from_path(source) if isinstance(source, Path) else source
    head = b""
    async for block in blocks:
        head += block
        if len(head) > HEAD:
            break
    read_dialect(head[:HEAD], is_all=len(head) <= HEAD)
    key = FileKey.new(business_id, "csv")
    shown = safe_file_name(name or (source.name if isinstance(source, Path) else ""), "upload.csv")
    async with storages.uploads.write(key, name=shown, most=storages.settings.max_file_size) as file:
        await file.write(head)
        async for block in blocks:
            await file.write(block)
    return InventoryImportUploaded(
        business_id=business_id, file=key, sha256=file.sha256, name=shown, again=again, user_email=user_email
    )


async def _from_path(path: Path) -> AsyncIterator[bytes]:
    for block in _read(path):
        yield block


def _read(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                yield block
    except OSError as error:
        raise StreamsError(f"{path}: {error.strerror}") from None
