"""CsvRows: the rows of a CSV file as frames of text, a chunk at a time.

Memory holds a chunk and a block of the file, whatever the file is: lines and fields have a greatest length. What a line
becomes does not depend on the chunk it is in: of two readers one is only faster.
"""

from __future__ import annotations

import asyncio
import codecs
import csv
from collections.abc import AsyncIterator, Iterator
from typing import Final

import polars as pl

from processors.file.decimals import TYPED, is_number
from processors.file.dialect import Dialect
from processors.file.encoding import marked
from processors.file.refused import FileRefused

LONGEST_LINE: Final = 1024 * 1024  # characters
_LONGEST_FIELD: Final = 131_072  # characters: the limit of the standard library's reader
_END: Final = "\0"  # a line that no file has: NUL is refused
_BROKEN: Final = "\x1e"  # in the place of a line break that ends no line, and of other signs that mean something here

EXTRA: Final = "extra"
"""The column that takes what stands behind the last column of the header."""


class CsvRows:
    """Reads from `blocks`, the bytes of a whole file."""

    def __init__(self, blocks: AsyncIterator[bytes], dialect: Dialect) -> None:
        self._blocks, self._dialect = blocks, dialect
        self._decoder = codecs.getincrementaldecoder(dialect.encoding)()
        self._lines: list[str] = []
        self._rest = ""  # the beginning of a line whose end is in the next block
        self._begins, self._ended = True, False
        self._line = 0  # lines that are done
        self._behind = dialect.line - dialect.row  # lines that a spreadsheet does not count as rows
        self.bytes = 0  # that were read
        self._names = [str(number) for number in dialect.used]

    async def next(self, rows: int) -> pl.DataFrame | None:
        """The next rows, about `rows` of them, or None at the end: a column of text for each that is used, by its
        number, `EXTRA`, and the `line` and `row` where each begins. Raises `FileRefused`.
        """
        wanted = rows
        while True:
            await self._fill(wanted)
            if not self._lines:
                return None
            frame = await asyncio.to_thread(self._cut, rows)
            if frame is not None:
                return frame
            wanted = len(self._lines) * 2  # a field in quotes goes on behind what is here

    async def _fill(self, wanted: int) -> None:
        while len(self._lines) < wanted and not self._ended:
            block = await anext(self._blocks, None)
            self._ended = block is None
            self.bytes += len(block or b"")
            text = self._rest + self._decode(block or b"")
            if self._ended:
                text = text.removesuffix("\x1a")
            pieces = text.split(self._dialect.newline)
            self._rest = pieces.pop()
            if self._ended and self._rest:
                pieces.append(self._rest)
                self._rest = ""
            if len(self._rest) > LONGEST_LINE or (pieces and max(map(len, pieces)) > LONGEST_LINE):
                raise FileRefused(f"a line has more than {LONGEST_LINE} characters; is it a CSV file?")
            if self._line < self._dialect.line:  # what stands before the rows
                skipped = min(self._dialect.line - self._line, len(pieces))
                self._line += skipped
                del pieces[:skipped]
            self._lines += pieces

    def _decode(self, block: bytes) -> str:
        if self._begins and block:
            self._begins = False
            block = block[marked(block)[1] :]
        encoding = self._dialect.encoding
        line = self._line + len(self._lines)
        try:
            text = self._decoder.decode(block, final=self._ended)
        except UnicodeDecodeError as error:
            line += block.count(b"\n", 0, error.start)
            raise FileRefused(
                f"the file is {encoding} up to about line {line}, and then something else: save it anew, as CSV UTF-8"
            ) from None
        if "\0" in text:
            raise FileRefused(f"there is a zero byte after line {line}: this is no text")
        return text.replace(TYPED, _BROKEN) if TYPED in text else text

    def _cut(self, rows: int) -> pl.DataFrame | None:
        """A chunk of the lines that are here; None when its first row does not end in them."""
        lines = self._lines[:rows]
        text = "\n".join(lines)
        if "\r" in text or (self._dialect.newline == "\r" and any("\n" in line for line in lines)):
            lines = [line.rstrip("\r").replace("\r", _BROKEN).replace("\n", _BROKEN) for line in lines]
            text = "\n".join(lines)
        frame, taken = None, len(lines)
        if '"' not in text and self._is_plain(lines):
            frame = self._split_plainly(lines, text)
        if frame is None:
            frame, taken = self._read_quoted(rows)
            if taken == 0:
                return None
        self._line += taken
        del self._lines[:taken]
        return frame

    def _is_plain(self, lines: list[str]) -> bool:
        delimiter, most = self._dialect.delimiter, self._dialect.width
        return max(map(len, lines)) <= _LONGEST_FIELD and max(line.count(delimiter) for line in lines) <= most

    def _split_plainly(self, lines: list[str], text: str) -> pl.DataFrame | None:
        """Without quotes, what stands between delimiters is a field: polars does it at many times the speed."""
        numbers = pl.int_range(self._line + 1, self._line + 1 + len(lines), dtype=pl.Int64, eager=True)
        kept = lines
        if text.startswith("\n") or text.endswith("\n") or "\n\n" in text or not text.strip():
            held = [bool(line.strip()) for line in lines]
            kept = [line for line, keep in zip(lines, held, strict=True) if keep]
            numbers = numbers.filter(pl.Series(held))
            text = "\n".join(kept)
        if not kept:
            return self._frame([], numbers, numbers)
        names = self._dialect.delimiter.join([*map(str, range(self._dialect.width)), EXTRA])
        frame = pl.read_csv(
            f"{names}\n{text}\n".encode(),
            separator=self._dialect.delimiter,
            quote_char=None,
            infer_schema=False,
            truncate_ragged_lines=True,
        )
        # Should the two ever disagree about what a line is, the slow reader decides.
        if frame.height != len(kept):
            return None
        return frame.select(*self._names, EXTRA).with_columns(line=numbers, row=numbers - self._behind)

    def _read_quoted(self, rows: int) -> tuple[pl.DataFrame, int]:
        """The standard library's reader, which takes quotes the way spreadsheets write them."""
        width, used = self._dialect.width, self._dialect.used
        found: list[list[str | None]] = []
        lines: list[int] = []
        numbers: list[int] = []
        taken = 0
        reader = csv.reader(self._lines_and_end(), delimiter=self._dialect.delimiter, strict=True)
        try:
            while len(found) < rows:
                cells = next(reader)
                if cells == [_END]:
                    break
                if reader.line_num > len(self._lines):  # the end stands within a field
                    if self._ended:
                        raise FileRefused(f"line {self._line + taken + 1}: a quote is opened here and never closed")
                    break
                if reader.line_num > taken + 1:
                    self._refuse_swallowed(taken, reader.line_num)
                if any(cells):
                    extra = next((cell for cell in cells[width:] if cell.strip()), None)
                    cells += [""] * (width - len(cells))
                    found.append([*(cells[number] or None for number in used), extra])
                    lines.append(self._line + taken + 1)
                    numbers.append(self._line + taken + 1 - self._behind)
                self._behind += reader.line_num - taken - 1
                taken = reader.line_num
        except csv.Error as error:
            if reader.line_num <= len(self._lines):
                raise FileRefused(self._quote_problem(taken, str(error))) from None
            if self._ended:
                raise FileRefused(f"line {self._line + taken + 1}: a quote is opened here and never closed") from None
        return self._frame(found, pl.Series(lines, dtype=pl.Int64), pl.Series(numbers, dtype=pl.Int64)), taken

    def _quote_problem(self, taken: int, error: str) -> str:
        how = "is a quote missing? A quote within a field in quotes is written twice"
        if any('\\"' in line for line in self._lines[taken : taken + 20]):
            how += ', and not as \\"'
        return f"line {self._line + taken + 1}: {error}; {how}"

    def _refuse_swallowed(self, first: int, last: int) -> None:
        """A field over several lines that holds what looks like rows has lost its closing quote, and they with it."""
        delimiter, most = self._dialect.delimiter, self._dialect.width - 1
        place = self._dialect.quantities[0]
        # In a row whose text goes on in the next line, that line has what is left of the row, and not all of it.
        is_whole = self._lines[first].count(delimiter) >= most
        for number in range(first + 1, last):
            line = self._lines[number]
            cells = line.count(delimiter)
            is_last = number == last - 1
            if most < 1 or cells < most or (not is_whole and (is_last or cells != most)):
                continue
            cell = line.split(delimiter, place + 1)[place].strip(' "\r')
            if is_number(cell) or (is_whole and not cell):
                raise FileRefused(
                    f"line {self._line + first + 1}: a quote is opened here, and line {self._line + number + 1}, which "
                    "looks like a row, would be part of the field; is a quote missing?"
                )

    def _lines_and_end(self) -> Iterator[str]:
        for line in self._lines:
            yield f"{line.rstrip(chr(13)).replace(chr(13), _BROKEN).replace(chr(10), _BROKEN)}\n"
        yield _END

    def _frame(self, cells: list[list[str | None]], lines: pl.Series, numbers: pl.Series) -> pl.DataFrame:
        schema = dict.fromkeys([*self._names, EXTRA], pl.String)
        return pl.DataFrame(cells, schema=schema, orient="row").with_columns(line=lines, row=numbers)
