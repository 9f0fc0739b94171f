"""write_csv: all rows of a report as CSV, for spreadsheets and programs."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from processors.report.document import Column, Document
from processors.shared.storage.spreadsheet_escape import escape_formulas

_DIGITS = {"decimal": 2, "share": 4, "change": 4}


def write_csv(document: Document, path: Path) -> None:
    """Writes it, in bounded memory.

    With a byte order mark, without which spreadsheets take it for Latin, and with lines as RFC 4180 has them. Amounts
    have two decimals and no currency, shares are of 1.
    """
    columns = [_plain(column).alias(_header(column)) for column in document.detail_columns]
    document.details.select(columns).sink_csv(
        path, include_bom=True, line_terminator="\r\n", date_format="%Y-%m-%d", engine="streaming"
    )


def _header(column: Column) -> str:
    return re.sub(r"[^a-z0-9]+", "_", column.title.lower()).strip("_")


def _plain(column: Column) -> pl.Expr:
    values = pl.col(column.key)
    match column.kind:
        case "text" | "state":
            return escape_formulas(values)
        case "money":
            return values.cast(pl.Decimal(38, 2)) / 100
        case "decimal" | "share" | "change":
            return values.round(_DIGITS[column.kind])
        case "count" | "day":
            return values
