"""store_upload: the door for files from outside. Only a CSV or a workbook of stock comes in, by its content."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from processors.file.dialect import HEAD, read_dialect
from processors.file.import_choices import remembered
from processors.file.import_options import ImportOptions
from processors.file.open_book import MARK
from processors.file.sheet_rows import read_sheet
from processors.shared.database import Database
from processors.shared.storage import Storages
from processors.shared.storage.file_key import FileKey
from processors.shared.storage.file_name import safe_file_name
from processors.shared.storage.file_writer import FileTooLarge
from schemas import InventoryImportUploaded
from schemas.files import BlankQuantity
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
    encoding: str = "",
    decimal: str = "",
    sheet: str = "",
    map: Mapping[str, str] | None = None,
    location: str = "",
    blank_quantity: BlankQuantity = "refuse",
    database: Database | None = None,
) -> InventoryImportUploaded:
    """Stores a file (a path, or its bytes as they arrive) and returns the event that asks for its import; publish it.

    Its beginning is looked at before anything is stored, which blocks no event loop. `name` is what its user calls
    it: it is kept for people and is never a path. The options from `encoding` to `blank_quantity` are the event's: see
    docs/business/files.md. With a `database`, what the business has chosen before for such files counts here too.
    Raises `FileRefused` for what is no file of stock, or leaves a question open that only its sender can answer, and
    `FileTooLarge` over `MAX_FILE_SIZE`.
    """
    before: Mapping[str, Mapping[str, Any]] = {}
    if database is not None:
        async with database.engine.connect() as connection:
            before = await remembered(connection, business_id)
    options = ImportOptions.checked(
        encoding=encoding,
        decimal=decimal,
        sheet=sheet,
        map=map,
        location=location,
        blank_quantity=blank_quantity,
        remembered=before,
    )
    blocks = _from_path(source) if isinstance(source, Path) else source
    head = b""
    async for block in blocks:
        head += block
        if len(head) > HEAD:
            break
    most = storages.settings.max_file_size
    is_book = head.startswith(MARK)
    with TemporaryDirectory(prefix="upload-") as directory:
        if is_book:
            # A workbook can be looked at when all of it is there.
            path = Path(directory) / "upload.xlsx"
            await _keep(path, head, blocks, most)
            await asyncio.to_thread(read_sheet, path, options)
            head, blocks = b"", _from_path(path)
        else:
            await asyncio.to_thread(read_dialect, head[:HEAD], is_all=len(head) <= HEAD, options=options)
        key = FileKey.new(business_id, "xlsx" if is_book else "csv")
        shown = safe_file_name(
            name or (source.name if isinstance(source, Path) else ""), f"upload.{key[-4:].lstrip('.')}"
        )
        async with storages.uploads.write(key, name=shown, most=most) as file:
            if head:
                await file.write(head)
            async for block in blocks:
                await file.write(block)
    return InventoryImportUploaded(
        business_id=business_id, file=key, sha256=file.sha256, name=shown, again=again, user_email=user_email,
        encoding=options.encoding, decimal=decimal, sheet=options.sheet, map=dict(options.map),
        location=options.location, blank_quantity=blank_quantity,
    )  # fmt: skip


async def _keep(path: Path, head: bytes, blocks: AsyncIterator[bytes], most: int) -> None:
    size = len(head)
    with path.open("wb") as file:
        file.write(head)
        async for block in blocks:
            size += len(block)
            if size > most:
                break
            await asyncio.to_thread(file.write, block)
    if size > most:
        raise FileTooLarge(f"the file has more than {most} bytes (MAX_FILE_SIZE)")


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
