"""SheetRows: the rows of an Excel workbook (XLSX) as frames of text, a chunk at a time, as `CsvRows` has them.

The sheet is read as a stream; of what is packed in the file no more is unpacked than `open_book.MOST_UNPACKED`.
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

import polars as pl

from processors.file.csv_rows import EXTRA
from processors.file.decimals import TYPED
from processors.file.dialect import HEADER_WITHIN, Dialect, find_header
from processors.file.header import missing
from processors.file.import_options import ImportOptions
from processors.file.open_book import BROKEN, OpenBook, damaged
from processors.file.refused import FileRefused

_MOST_SHEETS: Final = 20  # that are looked at
_DIGITS: Final = 15  # that a spreadsheet keeps of a number


def read_sheet(path: Path, options: ImportOptions) -> Dialect:
    """Finds out how a workbook is written: which sheet is meant, and where its header is. Raises `FileRefused`."""
    with OpenBook(path) as opened:
        book = opened.book
        sheet = _sheet(book, options.sheet)
        try:
            records = _records(sheet)
            others = [] if options.sheet else [other for other in _shown(book) if other.title != sheet.title]
            stocks = [other.title for other in others[:_MOST_SHEETS] if _is_stock(other, options)]
        except (zipfile.BadZipFile, *BROKEN) as error:
            raise FileRefused(damaged(error)) from None
        if not any(records):
            raise FileRefused(f"the sheet {sheet.title!r} is empty{_others(book, sheet)}")
        _, header, last = find_header(records, options)
        if not header.is_complete:
            raise FileRefused(f"{missing(header)} (sheet {sheet.title[:40]!r}{_others(book, sheet)})")
        if len(records) <= last + 1:
            raise FileRefused(f"the sheet {sheet.title[:40]!r} has a first line, and no rows")
        if stocks:
            names = ", ".join(repr(title[:31]) for title in [sheet.title, *stocks][:8])
            raise FileRefused(f"several sheets hold stock: {names}; choose one with sheet={sheet.title[:31]!r}")
    return Dialect(
        "", "", "", last + 1, last + 1, header.columns, header.cells, header.quantities, header.instead, header.numbers,
        sheet=sheet.title, location=options.for_header(header.cells)[1],
    )  # fmt: skip


class SheetRows:
    """Reads the rows of `dialect.sheet` in the workbook at `path`."""

    def __init__(self, path: Path, dialect: Dialect) -> None:
        self._open = OpenBook(path)
        self._dialect = dialect
        self._rows = enumerate(_cells(self._open.book[dialect.sheet], is_stale=self._open.is_stale), 1)
        self._names = [str(number) for number in dialect.used]
        self._sku = dialect.columns["sku"]
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
                if self._sku < len(cells) and (shown := _shown_as(cells[self._sku])):
                    texts[used.index(self._sku)] = f"{cells[self._sku].value} [shown as {shown}]"
                if any(texts):
                    found.append([*texts, None])
                    numbers.append(number)
                    if len(found) == rows:
                        break
        except (zipfile.BadZipFile, *BROKEN) as error:
            raise FileRefused(damaged(error)) from None
        if not found:
            return None
        schema = dict.fromkeys([*self._names, EXTRA], pl.String)
        lines = pl.Series(numbers, dtype=pl.Int64)
        return pl.DataFrame(found, schema=schema, orient="row").with_columns(line=lines, row=lines)


def _records(sheet: Any) -> list[list[str]]:
    """The first rows as text, without blank cells at their ends."""
    records = [
        ["" if value is None else str(value).strip() for value in row]
        for row in islice(_values(sheet), HEADER_WITHIN * 2)
    ]
    for record in records:
        while record and not record[-1]:
            record.pop()
    return records


def _is_stock(sheet: Any, options: ImportOptions) -> bool:
    """Whether a sheet that was not chosen could as well be the one that is meant."""
    records = _records(sheet)
    try:
        _, header, last = find_header(records, options)
    except FileRefused:
        return False
    return header.is_complete and len(records) > last + 1


def _shown(book: Any) -> list[Any]:
    return [sheet for sheet in book.worksheets if getattr(sheet, "sheet_state", "visible") == "visible"]


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
    return (_shown(book) or list(sheets.values()))[0]


def _others(book: Any, sheet: Any) -> str:
    others = [other.title[:31] for other in book.worksheets if other.title != sheet.title]
    return f"; choose another one with sheet=: {', '.join(map(repr, others[:8]))}" if others else ""


def _cells(sheet: Any, *, is_stale: bool = False) -> Iterator[tuple[Any, ...]]:
    """The rows. openpyxl gives no value for a formula without one, as for a blank cell: such a cell is `=` here."""
    from openpyxl.worksheet._reader import FORMULA_TAG, VALUE_TAG, WorkSheetParser

    class Parser(WorkSheetParser):
        def parse_cell(self, element: Any) -> Any:
            made = super().parse_cell(element)
            if element.find(FORMULA_TAG) is not None:
                # A formula whose text is empty is blank: that is a value.
                is_text = element.get("t") == "str" and element.find(VALUE_TAG) is not None
                if is_stale or (made["value"] is None and not is_text):
                    made |= {"value": "=", "data_type": "s"}
            return made

    sheet.reset_dimensions()  # what a sheet says of its own size may be a lie
    book, following = sheet.parent, 1
    # As openpyxl's own reader of rows, with another parser; and what is out of order is refused and not left out. The
    # private names are those that its reader uses: openpyxl has no public way to see a formula without a value.
    with sheet._get_source() as source:  # noqa: SLF001 - see above
        parser = Parser(
            source,
            sheet._shared_strings,  # noqa: SLF001 - see above
            data_only=True,
            epoch=book.epoch,
            date_formats=book._date_formats,  # noqa: SLF001 - see above
            timedelta_formats=book._timedelta_formats,  # noqa: SLF001 - see above
        )
        for number, row in parser.parse():
            if number < following:
                raise ValueError("the rows of a sheet stand in their order, each once")
            for _ in range(following, number):
                yield ()
            yield sheet._get_row(row)  # noqa: SLF001 - see above
            following = number + 1


def _values(sheet: Any) -> Iterator[list[Any]]:
    for row in _cells(sheet):
        yield [cell.value for cell in row]


def _text(cell: Any) -> str | None:
    """A cell as text: what it is shown as, but for how it is rounded. Numbers are marked: they have one reading."""
    value = cell.value
    if value is None or value == "":
        return None
    kind = type(value)
    if kind in (int, float) and "%" in (cell.number_format or ""):
        return f"{value * 100:g}%"  # a share counts nothing
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
    return f"{TYPED}{value}"


def _shown_as(cell: Any) -> str:
    """The format of a number that is shown with other signs than its own, as ART-0012; nothing for any other."""
    if type(cell.value) not in (int, float):
        return ""
    shown = re.sub(r"\[[^\]]*\]|_.|\*.", "", (cell.number_format or "General").partition(";")[0])
    is_other = re.search(r'"[^"]*[^"\s]|\\[^ ]|[0#?][-/:][0#?]', shown)
    return shown[:40] if is_other else ""
