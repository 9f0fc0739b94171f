"""CheckedRows: the rows of a file that were checked, as they are to be written, kept until they are.

What the survey has read is what is written: the file itself is read once, by one reader. A part is a chunk of rows
behind its length, so that a process that takes over goes on at a part's border.
"""

from __future__ import annotations

import io
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final, cast

import polars as pl

from processors.file.row_check import GOOD
from processors.shared.storage import Storage
from processors.shared.storage.file_key import FileKey
from processors.shared.storage.file_writer import FileWriter

_LENGTH: Final = 8  # bytes before each part
_COLUMNS: Final = ("line", "row", "sku", "name", "category", "price", "threshold", "quantity", "merged")
SCHEMA: Final = {name: GOOD[name] for name in _COLUMNS}


@dataclass(frozen=True, slots=True)
class CheckedPart:
    """Rows of `SCHEMA`, and the byte behind them."""

    rows: pl.DataFrame
    position: int

    @property
    def last_line(self) -> int:
        """The greatest line of the file in it."""
        return cast("int | None", self.rows["line"].max()) or 0


class PartWriter:
    """Appends rows to a file, `chunk_rows` of them in a part."""

    def __init__(self, file: FileWriter, chunk_rows: int) -> None:
        self._file, self._size = file, chunk_rows
        self._held: list[pl.DataFrame] = []
        self._rows = 0

    async def add(self, rows: pl.DataFrame) -> None:
        """Appends rows; less than a part of them is held back."""
        self._held.append(rows.select(_COLUMNS))
        self._rows += rows.height
        if self._rows >= self._size:
            await self._write(is_end=False)

    async def end(self) -> None:
        """Writes what was held back."""
        await self._write(is_end=True)

    async def _write(self, *, is_end: bool) -> None:
        if not self._held:
            return
        held = pl.concat(self._held)
        start = 0
        while start < held.height and (is_end or held.height - start >= self._size):
            part = held[start : start + self._size]
            packed = io.BytesIO()
            part.write_ipc_stream(packed, compression="lz4")
            data = packed.getvalue()
            await self._file.write(len(data).to_bytes(_LENGTH, "little") + data)
            start += part.height
        rest = held[start:]
        self._held, self._rows = ([rest] if rest.height else []), rest.height


async def read_parts(storage: Storage, key: FileKey, position: int) -> AsyncGenerator[CheckedPart, None]:
    """The parts from a position on. Raises `FileNotFoundError`."""
    held = b""
    async for block in storage.read(key, position):
        held += block
        while len(held) >= _LENGTH:
            length = int.from_bytes(held[:_LENGTH], "little")
            if len(held) < _LENGTH + length:
                break
            data, held = held[_LENGTH : _LENGTH + length], held[_LENGTH + length :]
            position += _LENGTH + length
            yield CheckedPart(pl.read_ipc_stream(io.BytesIO(data)), position)
    if held:
        raise ValueError("the checked rows are cut off")
