"""write_xlsx: a report as XLSX, with a sheet and a chart for each of its parts, and one with all rows."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import polars as pl
import xlsxwriter
from xlsxwriter.worksheet import Worksheet

from processors.report.document import TONES, Chart, Column, Document, Kind, Section
from processors.report.formatting import sign
from processors.shared.storage.spreadsheet_escape import escape_formulas

SHEET_ROWS: Final = 1_048_576  # of a sheet, its first line included

_ROWS_AT_ONCE: Final = 20_000
_WIDTHS: Final[dict[Kind, int]] = {"text": 18, "state": 10, "money": 16, "day": 13}
_COLOURS: Final = {"good": "#1f9d78", "warning": "#b8730a", "bad": "#d0453f", "plain": "#2b5fd9"}
_SHAPES: Final = {"line": "line", "columns": "column", "bars": "bar", "shares": "doughnut"}


def write_xlsx(document: Document, path: Path, *, sheet_rows: int = SHEET_ROWS) -> None:
    """Writes it. Rows beyond what a sheet may have are left out, and the sheet says so."""
    _Workbook(document, path, sheet_rows).write()


class _Workbook:
    """One workbook that is being written, row by row, in constant memory."""

    def __init__(self, document: Document, path: Path, sheet_rows: int) -> None:
        self._document, self._sheet_rows = document, sheet_rows
        self._book = xlsxwriter.Workbook(
            str(path),
            {
                "constant_memory": True, "tmpdir": str(path.parent), "strings_to_formulas": False,
                "strings_to_urls": False, "strings_to_numbers": False,
            },
        )  # fmt: skip
        # The same report is the same file.
        self._book.set_properties({
            "title": document.title, "company": document.business, "created": document.made_at.replace(tzinfo=None),
        })  # fmt: skip
        money = {"num_format": f'"{sign(document.currency)}"#,##0.00;-"{sign(document.currency)}"#,##0.00'}
        forms: dict[Kind, dict[str, Any]] = {
            "text": {}, "state": {}, "count": {"num_format": "#,##0"}, "decimal": {"num_format": "#,##0.0"},
            "money": money, "share": {"num_format": "0.0%"}, "day": {"num_format": "d mmm yyyy"},
            "change": {"num_format": "[Color10]+0.0%;[Red]-0.0%;0.0%"},
        }  # fmt: skip
        self._formats = {kind: self._book.add_format(form) for kind, form in forms.items()}
        self._states = {
            state: self._book.add_format({"font_color": _COLOURS[tone], "bold": True}) for state, tone in TONES.items()
        }
        self._title = self._book.add_format({"bold": True, "font_size": 18, "font_color": "#16202e"})
        self._soft = self._book.add_format({"font_color": "#5b6675"})
        self._head = self._book.add_format({
            "bold": True, "font_color": "#ffffff", "bg_color": "#2b5fd9", "valign": "vcenter",
        })  # fmt: skip
        self._big = {
            kind: self._book.add_format({**form, "bold": True, "font_size": 13, "align": "left"})
            for kind, form in forms.items()
        }
        self._names: set[str] = set()

    def write(self) -> None:
        self._summary()
        for section in self._document.sections:
            if section.chart or (section.table and section.table.rows.height):
                self._section(section)
        self._details()
        self._book.close()

    def _summary(self) -> None:
        document, sheet = self._document, self._sheet("Summary")
        sheet.set_column(0, 0, 30)
        sheet.set_column(1, 1, 22)
        sheet.set_column(2, 3, 26)
        sheet.write_string(0, 0, document.title, self._title)
        sheet.write_string(1, 0, f"{document.business}, {document.about}", self._soft)
        for column, name in enumerate(("Figure", "Value", "Change", "")):
            sheet.write_string(3, column, name, self._head)
        row = 4
        for figure in document.figures:
            sheet.write_string(row, 0, figure.label)
            self._cell(sheet, row, 1, figure.value, figure.kind, self._big[figure.kind])
            if figure.change is not None:
                self._cell(sheet, row, 2, figure.change, "change")
            sheet.write_string(row, 3, figure.note, self._soft)
            row += 1
        texts = [
            *(f"{section.title}: {section.text}" for section in document.sections if section.text), *document.notes,
            f"Made on {document.made_at:%Y-%m-%d %H:%M %Z}.",
        ]  # fmt: skip
        for text in texts:
            row += 1
            sheet.write_string(row, 0, text, self._soft)

    def _section(self, section: Section) -> None:
        sheet = self._sheet(section.title)
        row, columns = 0, 0
        if section.table is not None and section.table.rows.height:
            table = section.table
            columns = len(table.columns)
            self._header(sheet, table.columns, table.rows.height)
            row = self._rows(sheet, table.rows, table.columns, 1)
            if table.note:
                row += 1
                sheet.write_string(row, 0, table.note, self._soft)
            row += 2
        if section.chart is not None:
            columns = columns or 1 + len(section.chart.series)
            self._chart(sheet, section.title, section.chart, row, columns + 1)

    def _chart(self, sheet: Worksheet, title: str, data: Chart, top: int, column: int) -> None:
        """Its numbers from a row on, and itself beside what is above."""
        if top == 0:
            sheet.set_column(0, 0, 18)
            sheet.set_column(1, len(data.series), 22)
        for number, name in enumerate(("", *(series.name for series in data.series))):
            sheet.write_string(top, number, name, self._head)
        for at, label in enumerate(data.labels):
            sheet.write_string(top + 1 + at, 0, label)
            for number, series in enumerate(data.series, 1):
                if (value := series.values[at]) is not None:
                    self._cell(sheet, top + 1 + at, number, value, data.kind)
        chart = self._book.add_chart({"type": _SHAPES[data.shape]})
        last = top + len(data.labels)
        for number, series in enumerate(data.series, 1):
            colour = "#a9b6c8" if series.faint else "#2b5fd9"
            drawn: dict[str, Any] = {
                "name": [sheet.name, top, number], "categories": [sheet.name, top + 1, 0, last, 0],
                "values": [sheet.name, top + 1, number, last, number], "gap": 60,
            }  # fmt: skip
            if data.shape == "line":
                drawn["line"] = {"color": colour, "width": 1.5 if series.faint else 2.5}
                drawn["line"] |= {"dash_type": "dash"} if series.faint else {}
            elif data.tones:
                drawn["points"] = [{"fill": {"color": _COLOURS[tone]}} for tone in data.tones]
            else:
                drawn["fill"] = {"color": colour}
            chart.add_series(drawn)
        chart.set_title({"name": title, "name_font": {"size": 13, "color": "#16202e"}, "overlay": False})
        chart.set_legend({"none": True} if len(data.series) == 1 and not data.tones else {"position": "bottom"})
        if data.shape == "bars":
            chart.set_y_axis({"reverse": True})
            chart.set_x_axis({"major_gridlines": {"visible": True, "line": {"color": "#e2e7ee"}}})
        elif data.shape != "shares":
            chart.set_y_axis(
                {"major_gridlines": {"visible": True, "line": {"color": "#e2e7ee"}}, "line": {"none": True}}
            )
        chart.set_size({"width": 640, "height": 340})
        sheet.insert_chart(1, column, chart)

    def _details(self) -> None:
        document, sheet = self._document, self._sheet("All products")
        columns, most = document.detail_columns, self._sheet_rows - 2
        row = self._header(sheet, columns, 1)
        cut = False
        for frame in document.details.collect_batches(
            chunk_size=_ROWS_AT_ONCE, maintain_order=True, engine="streaming"
        ):
            fits = frame.head(most + 1 - row)
            row = self._rows(sheet, fits, columns, row)
            if cut := fits.height < frame.height:
                break
        sheet.autofilter(0, 0, max(row - 1, 1), len(columns) - 1)
        if cut:
            sheet.write_string(row, 0, "There are more rows than a sheet may have: ask for the CSV.", self._soft)

    def _header(self, sheet: Worksheet, columns: Sequence[Column], rows: int) -> int:
        sheet.freeze_panes(1, 0)
        for number, column in enumerate(columns):
            width = 44 if column.key == "name" else _WIDTHS.get(column.kind, 12)
            sheet.set_column(number, number, max(width, len(column.title) + 4))
            sheet.write_string(0, number, column.title, self._head)
            if column.kind == "share" and rows > 1:
                bar = {"type": "data_bar", "bar_color": "#a9c3f7", "min_type": "num", "min_value": 0}
                sheet.conditional_format(1, number, rows, number, bar)
        return 1

    def _rows(self, sheet: Worksheet, frame: pl.DataFrame, columns: Sequence[Column], row: int) -> int:
        safe = frame.select(column.key for column in columns).with_columns(escape_formulas(pl.col(pl.String)))
        for values in safe.iter_rows():
            for number, (column, value) in enumerate(zip(columns, values, strict=True)):
                self._cell(sheet, row, number, value, column.kind)
            row += 1
        return row

    def _cell(self, sheet: Worksheet, row: int, number: int, value: Any, kind: Kind, form: Any = None) -> None:
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            return
        form = form or self._formats[kind]
        match kind:
            case "text":
                sheet.write_string(row, number, value)
            case "state":
                sheet.write_string(row, number, value, self._states.get(value))
            case "day":
                sheet.write_datetime(row, number, value, form)
            case "money":
                sheet.write_number(row, number, value / 100, form)
            case _:
                sheet.write_number(row, number, value, form)

    def _sheet(self, title: str) -> Worksheet:
        name = re.sub(r"[\[\]:*?/\\']", " ", title).strip()[:28] or "Sheet"
        if name.lower() in self._names:
            name = f"{name} {len(self._names)}"
        self._names.add(name.lower())
        return self._book.add_worksheet(name)
