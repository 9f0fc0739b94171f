"""SheetRows: the rows of an Excel workbook (XLSX) as frames of text, a chunk at a time, as `CsvRows` has them.

The sheet is read as a stream; of what is packed in the file no more is unpacked than `MOST_UNPACKED`.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import re
import zipfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final
from xml.etree.ElementTree import ParseError

import polars as pl

from processors.file.csv_rows import EXTRA
from processors.file.decimals import TYPED
from processors.file.dialect import HEADER_WITHIN, Dialect, find_header, what_it_is
from processors.file.header import missing
from processors.file.import_options import ImportOptions
from processors.file.refused import FileRefused

MARK: Final = b"PK\x03\x04"
"""What a workbook begins with, as any ZIP archive does."""

MOST_UNPACKED: Final = 400 * 1024 * 1024  # bytes of a workbook's parts; 200,000 rows of ten columns have about 90 MB
_MOST_STRINGS: Final = 100 * 1024 * 1024  # bytes: they are held in memory
_MOST_PARTS: Final = 2_000
_DIGITS: Final = 15  # that a spreadsheet keeps of a number
_BROKEN: Final = (
    KeyError,
    ValueError,
    TypeError,
    IndexError,
    AttributeError,
    OSError,
    EOFError,
    ParseError,
    SyntaxError,
)
_DOCUMENT_TYPE: Final = (b"<!DOCTYPE", b"<!ENTITY", "<!DOCTYPE".encode("utf-16-le"), "<!DOCTYPE".encode("utf-16-be"))


class OpenBook:
    """A workbook that is read as a stream. Raises `FileRefused` for what is none, or unpacks to too much."""

    def __init__(self, path: Path) -> None:
        import openpyxl

        _check_archive(path)
        self._file = path.open("rb")  # by what it holds: the name says nothing
        try:
            self.book: Any = openpyxl.load_workbook(self._file, read_only=True, data_only=True, keep_links=False)
        except (zipfile.BadZipFile, *_BROKEN) as error:
            self._file.close()
            raise FileRefused(_damaged(error)) from None

    def close(self) -> None:
        """Closes the file."""
        self.book.close()
        self._file.close()

    def __enter__(self) -> Any:
        return self.book

    def __exit__(self, *_: object) -> None:
        self.close()


def _damaged(error: Exception) -> str:
    return f"the workbook is damaged ({type(error).__name__}): save it anew, or as CSV UTF-8"


def read_sheet(path: Path, options: ImportOptions) -> Dialect:
    """Finds out how a workbook is written: which sheet is meant, and where its header is. Raises `FileRefused`."""
    with OpenBook(path) as book:
        sheet = _sheet(book, options.sheet)
        try:
            records = [
                ["" if value is None else str(value).strip() for value in row]
                for row in islice(_values(sheet), HEADER_WITHIN * 2)
            ]
        except (zipfile.BadZipFile, *_BROKEN) as error:
            raise FileRefused(_damaged(error)) from None
        for record in records:
            while record and not record[-1]:
                record.pop()
        if not any(records):
            raise FileRefused(f"the sheet {sheet.title!r} is empty{_others(book, sheet)}")
        _, header, last = find_header(records, options)
        if not header.is_complete:
            raise FileRefused(f"{missing(header)} (sheet {sheet.title[:40]!r}{_others(book, sheet)})")
        if len(records) <= last + 1:
            raise FileRefused(f"the sheet {sheet.title[:40]!r} has a first line, and no rows")
    return Dialect(
        "", "", "", last + 1, last + 1, header.columns, header.cells, header.quantities, header.instead, header.numbers,
        sheet=sheet.title, location=options.for_header(header.cells)[1],
    )  # fmt: skip


class SheetRows:
    """Reads the rows of `dialect.sheet` in the workbook at `path`."""

    def __init__(self, path: Path, dialect: Dialect) -> None:
        self._open = OpenBook(path)
        self._dialect = dialect
        self._rows = enumerate(_cells(self._open.book[dialect.sheet]), 1)
        self._names = [str(number) for number in dialect.used]
        self.bytes = 0  # not known of a packed file

    async def next(self, rows: int) -> pl.DataFrame | None:
        """As `CsvRows.next`; `line` is the row."""
        return await asyncio.to_thread(self._next, rows)

    def close(self) -> None:
        """Closes the file."""
        self._open.close()

    def _next(self, rows: int) -> pl.DataFrame | None:
        used, found, numbers = self._dialect.used, [], []
        try:
            for number, cells in self._rows:
                if number <= self._dialect.row:
                    continue
                texts = [_text(cells[column]) if column < len(cells) else None for column in used]
                if any(texts):
                    found.append([*texts, None])
                    numbers.append(number)
                    if len(found) == rows:
                        break
        except (zipfile.BadZipFile, *_BROKEN) as error:
            raise FileRefused(_damaged(error)) from None
        if not found:
            return None
        schema = dict.fromkeys([*self._names, EXTRA], pl.String)
        lines = pl.Series(numbers, dtype=pl.Int64)
        return pl.DataFrame(found, schema=schema, orient="row").with_columns(line=lines, row=lines)


def _check_archive(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(4096)
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            names = {part.filename for part in parts}
            if "xl/workbook.bin" in names:
                raise FileRefused("the file is an Excel workbook in binary (.xlsb): save it as .xlsx or CSV UTF-8")
            if "content.xml" in names and "mimetype" in names:
                raise FileRefused("the file is an OpenDocument spreadsheet (.ods): save it as .xlsx or CSV UTF-8")
            if "xl/workbook.xml" not in names:
                raise FileRefused(what_it_is(head))
            strings = sum(part.file_size for part in parts if part.filename.lower().endswith("sharedstrings.xml"))
            # What a part says of its size is what is read of it, not more.
            if (
                len(parts) > _MOST_PARTS
                or sum(part.file_size for part in parts) > MOST_UNPACKED
                or strings > _MOST_STRINGS
            ):
                raise FileRefused("the workbook holds too much to be unpacked: save the sheet as CSV UTF-8")
            if len(names) != len(parts):
                raise FileRefused("the workbook is damaged: it has two parts of one name")
            for part in parts:
                if part.filename.lower().endswith((".xml", ".rels")):
                    with archive.open(part) as opened:
                        begins = opened.read(4096)
                    if any(mark in begins for mark in _DOCUMENT_TYPE):
                        raise FileRefused("the workbook has a document type, which no workbook needs: save it anew")
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        if isinstance(error, FileRefused):
            raise
        raise FileRefused(what_it_is(head)) from None


def _sheet(book: Any, wanted: str) -> Any:
    sheets = {sheet.title: sheet for sheet in book.worksheets}
    if not sheets:
        raise FileRefused("the workbook has no sheet of cells")
    if wanted:
        found = [sheet for title, sheet in sheets.items() if title.strip().casefold() == wanted.casefold()]
        if not found:
            raise FileRefused(
                f"there is no sheet {wanted[:40]!r}; the workbook has {', '.join(map(repr, list(sheets)[:8]))}"
            )
        return found[0]
    shown = [sheet for sheet in sheets.values() if getattr(sheet, "sheet_state", "visible") == "visible"]
    return (shown or list(sheets.values()))[0]


def _others(book: Any, sheet: Any) -> str:
    others = [other.title[:31] for other in book.worksheets if other.title != sheet.title]
    return f"; choose another one with sheet=: {', '.join(map(repr, others[:8]))}" if others else ""


def _cells(sheet: Any) -> Iterator[tuple[Any, ...]]:
    sheet.reset_dimensions()  # what a sheet says of its own size may be a lie
    return iter(sheet.iter_rows())


def _values(sheet: Any) -> Iterator[list[Any]]:
    for row in _cells(sheet):
        yield [cell.value for cell in row]


def _text(cell: Any) -> str | None:
    """A cell as text: what it is shown as, but for how it is rounded. Numbers are marked: they have one reading."""
    value = cell.value
    if value is None or value == "":
        return None
    kind = type(value)
    if kind is str:
        return str(value.replace(TYPED, "\x1e"))
    if kind is int:
        zeros = re.fullmatch(r"0{2,64}", cell.number_format or "")
        return str(value).zfill(len(zeros[0])) if zeros and value >= 0 else f"{TYPED}{value}"
    if kind is bool:
        return "TRUE" if value else "FALSE"
    if kind is float:
        text = f"{value:.{_DIGITS}g}"
        if "e" in text and abs(value) < 1e18:
            text = f"{value:.{_DIGITS}f}".rstrip("0").rstrip(".")
        return TYPED + text
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return TYPED + value.isoformat(" ") if isinstance(value, dt.datetime) else TYPED + value.isoformat()
    return str(value)
