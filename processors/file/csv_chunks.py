"""CsvChunks: the rows of a CSV file as frames of text, a chunk at a time, each with the byte at which the next begins.

Memory holds a chunk and a block of the file, whatever the file is: lines and fields have a greatest length.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Final

import polars as pl

from processors.file.dialect import Dialect
from processors.file.refused import FileRefused

LONGEST_LINE: Final = 1024 * 1024  # characters
_END: Final = "\0"  # a line that no file has: NUL is refused
_NOT_ASCII: Final = re.compile(r"[^\x00-\x7f]")

EXTRA: Final = "extra"
"""The column that takes what stands behind the last column of the header."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows as text, column `0`, `1`, ... and `line`, where each begins. `position` and `lines` are what is done with
    them: bytes and lines of the file.
    """

    rows: pl.DataFrame
    position: int
    lines: int


class CsvChunks:
    """Reads from `blocks`, which begin at byte `position`, after `line` lines."""

    def __init__(self, blocks: AsyncIterator[bytes], dialect: Dialect, *, position: int, line: int, size: int) -> None:
        self._blocks, self._dialect, self._size = blocks, dialect, size
        self._decoder = codecs.getincrementaldecoder(dialect.encoding)()
        self._lines: list[str] = []
        self._rest = ""  # the beginning of a line whose end is in the next block
        self._ended = False
        self._has_utf8 = False
        self.position, self.line = position, line

    async def next(self, rows: int) -> Chunk | None:
        """The next rows, at most `rows` of them, or None at the end. Raises `FileRefused`."""
        wanted = rows
        while True:
            await self._fill(wanted)
            if not self._lines:
                return None
            chunk = self._cut(rows)
            if chunk is not None:
                return chunk
            wanted = len(self._lines) * 2  # a field in quotes goes on behind what is here

    async def _fill(self, wanted: int) -> None:
        while len(self._lines) < wanted and not self._ended:
            block = await anext(self._blocks, None)
            self._ended = block is None
            text = self._decode(block or b"")
            if self._dialect.newline == "\r":
                pieces = (self._rest + text).split("\r")
            else:
                pieces = (self._rest + text).split("\n")
            self._rest = pieces.pop()
            self._lines += pieces
            if self._ended and self._rest:
                self._lines.append(self._rest)
                self._rest = ""
            if len(self._rest) > LONGEST_LINE or (pieces and max(map(len, pieces)) > LONGEST_LINE):
                raise FileRefused(f"a line has more than {LONGEST_LINE} characters; is it a CSV file?")

    def _decode(self, block: bytes) -> str:
        encoding = self._dialect.encoding
        try:
            text = self._decoder.decode(block, final=self._ended)
        except UnicodeDecodeError as error:
            line = self.line + len(self._lines) + block.count(b"\n", 0, error.start)
            raise FileRefused(
                f"the file is {encoding} up to about line {line}, and then something else: save it anew, as UTF-8"
            ) from None
        if "\0" in text:
            raise FileRefused(f"there is a zero byte after line {self.line + len(self._lines)}: this is no text")
        if encoding == "cp1252" and _NOT_ASCII.search(text):
            self._refuse_utf8(text)
        return text

    def _refuse_utf8(self, text: str) -> None:
        """What is valid UTF-8 in a Latin file would be imported as gibberish."""
        for line in text.split("\n")[1:-1]:
            if not line.isascii():
                try:
                    line.encode("cp1252").decode("utf-8")
                except UnicodeError:
                    continue
                raise FileRefused(f"the file mixes encodings: {line.strip()[:40]!r} is UTF-8, other lines are not")

    def _cut(self, rows: int) -> Chunk | None:
        """A chunk of the lines that are here; None when its first row does not end in them."""
        lines = self._lines[:rows]
        text = "\n".join(lines)
        frame = None
        if '"' not in text:
            frame, taken = self._split_plainly(lines, text)
        if frame is None:
            frame, taken = self._read_quoted(rows)
            if taken == 0:
                return None
        done = self._dialect.newline.join(self._lines[:taken]) + self._dialect.newline
        # The last line of a file need not end.
        self.position = min(self.position + len(done.encode(self._dialect.encoding)), self._size)
        self.line += taken
        del self._lines[:taken]
        return Chunk(frame, self.position, self.line)

    def _split_plainly(self, lines: list[str], text: str) -> tuple[pl.DataFrame | None, int]:
        """Without quotes, what stands between delimiters is a field: polars does it at many times the speed."""
        numbers = pl.int_range(self.line + 1, self.line + 1 + len(lines), dtype=pl.Int64, eager=True)
        kept = lines
        if "\r" in text:
            text = text.replace("\r\n", "\n").removesuffix("\r")
        if text.startswith("\n") or text.endswith("\n") or "\n\n" in text or not text.strip():
            held = [bool(line.strip()) for line in lines]
            kept = [line.removesuffix("\r") for line, keep in zip(lines, held, strict=True) if keep]
            numbers = numbers.filter(pl.Series(held))
            text = "\n".join(kept)
        if not kept:
            return self._frame([], numbers), len(lines)
        names = self._dialect.delimiter.join(self._names())
        frame = pl.read_csv(
            f"{names}\n{text}\n".encode(),
            separator=self._dialect.delimiter,
            quote_char=None,
            infer_schema=False,
            truncate_ragged_lines=True,
        )
        # Should the two ever disagree about what a line is, the slow reader decides.
        if frame.height != len(kept):
            return None, 0
        return frame.with_columns(line=numbers), len(lines)

    def _read_quoted(self, rows: int) -> tuple[pl.DataFrame, int]:
        """The standard library's reader, which takes quotes the way spreadsheets write them."""
        width = self._dialect.width + 1
        found: list[list[str | None]] = []
        numbers: list[int] = []
        taken = 0
        reader = csv.reader(self._lines_and_end(), delimiter=self._dialect.delimiter)
        try:
            while len(found) < rows:
                cells = next(reader)
                if cells == [_END]:
                    break
                if reader.line_num > len(self._lines):  # the end stands within a field
                    if self._ended:
                        raise FileRefused(f"line {self.line + taken + 1}: a quote is opened here and never closed")
                    break
                if any(cells):
                    found.append([*cells[:width], *[None] * (width - len(cells))])
                    numbers.append(self.line + taken + 1)
                taken = reader.line_num
        except csv.Error as error:
            raise FileRefused(f"line {self.line + taken + 1}: {error}; is a quote missing?") from None
        return self._frame(found, pl.Series(numbers, dtype=pl.Int64)), taken

    def _lines_and_end(self) -> Iterator[str]:
        for line in self._lines:
            yield f"{line}\n"
        yield _END

    def _frame(self, cells: list[list[str | None]], numbers: pl.Series) -> pl.DataFrame:
        schema = dict.fromkeys(self._names(), pl.String)
        return pl.DataFrame(cells, schema=schema, orient="row").with_columns(line=numbers)

    def _names(self) -> list[str]:
        return [*map(str, range(self._dialect.width)), EXTRA]
