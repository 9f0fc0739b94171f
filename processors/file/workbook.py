"""Workbook: an export as XLSX, written row by row in constant memory."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import polars as pl
import xlsxwriter
from xlsxwriter.worksheet import Worksheet

from processors.shared.storage.spreadsheet_escape import escape_formulas

SHEET_ROWS: Final = 1_048_576  # of a sheet, its first line included: what is more goes on another

_WIDTHS: Final = {"sku": 18, "name": 44, "category": 18, "price": 12, "quantity": 12, "threshold": 12, "updated_at": 20}
_TEXTS: Final = ("sku", "name", "category")


class Workbook:
    """A workbook at `path`, complete after `close()`. Texts stay texts: nothing is a formula, a link or a date."""

    def __init__(self, path: Path, *, sheet_rows: int = SHEET_ROWS) -> None:
        self._book = xlsxwriter.Workbook(
            str(path),
            {
                "constant_memory": True,
                "tmpdir": str(path.parent),
                "strings_to_formulas": False,
                "strings_to_urls": False,
                "strings_to_numbers": False,
                "remove_timezone": True,
            },
        )
        self._bold = self._book.add_format({"bold": True, "bottom": 1})
        self._formats = {
            "price": self._book.add_format({"num_format": "#,##0.00"}),
            "quantity": self._book.add_format({"num_format": "#,##0"}),
            "threshold": self._book.add_format({"num_format": "#,##0"}),
            "updated_at": self._book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"}),
        }
        self._sheet_rows = sheet_rows
        self._sheets = 0
        self._next_sheet()

    def add(self, page: pl.DataFrame) -> None:
        """Appends rows."""
        safe = page.with_columns(escape_formulas(pl.col(pl.String)), pl.col("price").cast(pl.Float64))
        names = safe.columns
        for values in safe.iter_rows():
            if self._row == self._sheet_rows:
                self._end_sheet()
                self._next_sheet()
            for column, (name, value) in enumerate(zip(names, values, strict=True)):
                if name in _TEXTS:
                    self._sheet.write_string(self._row, column, value)
                elif name == "updated_at":
                    self._sheet.write_datetime(self._row, column, value, self._formats[name])
                else:
                    self._sheet.write_number(self._row, column, value, self._formats[name])
            self._row += 1

    def close(self) -> None:
        """Writes the file."""
        self._end_sheet()
        self._book.close()

    def _next_sheet(self) -> None:
        self._sheets += 1
        self._sheet: Worksheet = self._book.add_worksheet(f"Stock {self._sheets}" if self._sheets > 1 else "Stock")
        self._sheet.freeze_panes(1, 0)
        for column, (name, width) in enumerate(_WIDTHS.items()):
            self._sheet.set_column(column, column, width)
            self._sheet.write_string(0, column, name, self._bold)
        self._row = 1

    def _end_sheet(self) -> None:
        self._sheet.autofilter(0, 0, max(self._row - 1, 1), len(_WIDTHS) - 1)
