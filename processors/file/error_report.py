"""write_error_report: what is wrong with which row of a file and what to do about it, for its sender: as CSV, as
the file was written, so that the same program opens it, and as a workbook.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import polars as pl
import xlsxwriter

from processors.file.problems import cure_of
from processors.shared.storage import Storage
from processors.shared.storage.file_key import FileKey
from processors.shared.storage.spreadsheet_escape import escape_formulas

_SCHEMA: Final = {
    "row": pl.Int64, "line": pl.Int64, "sku": pl.String, "column": pl.String, "value": pl.String, "problem": pl.String,
    "cure": pl.String,
}  # fmt: skip
_WIDTHS: Final = {"row": 8, "line": 8, "sku": 20, "column": 20, "value": 24, "problem": 48, "cure": 60}


@dataclass(frozen=True, slots=True)
class Report:
    """The problems of an import, and the `Dialect` of its file as JSON, or nothing."""

    business_id: int
    import_id: str
    problems: Sequence[Mapping[str, Any]]
    dialect: Mapping[str, Any]

    def frame(self) -> pl.DataFrame:
        """A row for each problem. `row` counts as a spreadsheet does, `line` as an editor; `column` is the file's
        name.
        """
        names = {name: self.dialect["cells"][number] for name, number in self.dialect.get("columns", {}).items()}
        rows = [
            {
                "row": problem["row"] or None, "line": problem["line"], "sku": problem["sku"] or None,
                "column": names.get(problem["field"]) or problem["field"], "value": problem["value"] or None,
                "problem": problem["problem"], "cure": cure_of(problem["problem"]),
            }
            for problem in self.problems
        ]  # fmt: skip
        frame = pl.DataFrame(rows, schema=_SCHEMA, orient="row").sort("line", "column")
        # What the file holds is quoted here, and what a spreadsheet opens must not calculate.
        return frame.with_columns(escape_formulas(pl.col(pl.String)))


async def write_error_report(storage: Storage, report: Report) -> FileKey:
    """Stores it twice, as CSV and as a workbook, and returns the key of that which is of the file's own kind. A second
    try writes the same files again.
    """
    frame = report.frame()
    is_sheet = bool(report.dialect.get("sheet"))
    text = frame.write_csv(separator=report.dialect.get("delimiter") or ",", line_terminator="\r\n")
    book = await asyncio.to_thread(_workbook, frame)
    csv_key, book_key = (_key(report.business_id, report.import_id, suffix) for suffix in ("csv", "xlsx"))
    for key, data in ((csv_key, text.encode("utf-8-sig")), (book_key, book)):
        # With the mark: spreadsheets take it for Latin without.
        async with storage.write(key, name=f"import-errors{key[key.rindex('.') :]}") as file:
            await file.write(data)
    return book_key if is_sheet else csv_key


def report_keys(business_id: int, import_id: str, error_file: str) -> tuple[FileKey, FileKey]:
    """The keys of the report in the file's own format, and as a workbook."""
    return FileKey.checked(error_file), _key(business_id, import_id, "xlsx")


def _key(business_id: int, import_id: str, suffix: str) -> FileKey:
    return FileKey.new(business_id, suffix, made_from=f"errors of import {import_id}")


def _workbook(frame: pl.DataFrame) -> bytes:
    with TemporaryDirectory(prefix="report-") as directory:
        packed = io.BytesIO()
        book = xlsxwriter.Workbook(
            packed,
            {
                "tmpdir": str(Path(directory)), "strings_to_formulas": False, "strings_to_urls": False,
                "strings_to_numbers": False,
            },
        )  # fmt: skip
        sheet, bold = book.add_worksheet("Problems"), book.add_format({"bold": True, "bottom": 1})
        sheet.freeze_panes(1, 0)
        for column, (name, width) in enumerate(_WIDTHS.items()):
            sheet.set_column(column, column, width)
            sheet.write_string(0, column, name, bold)
        for number, values in enumerate(frame.iter_rows(), 1):
            for column, value in enumerate(values):
                if isinstance(value, int):
                    sheet.write_number(number, column, value)
                elif value:
                    sheet.write_string(number, column, value)
        sheet.autofilter(0, 0, max(frame.height, 1), len(_WIDTHS) - 1)
        book.close()
        return packed.getvalue()
