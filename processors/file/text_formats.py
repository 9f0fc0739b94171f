"""The formats that are written as they come: CSV, JSON and NDJSON."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

import polars as pl

from processors.shared.storage.spreadsheet_escape import escape_formulas
from schemas.files import ExportFormat

TEXT_FORMATS: Final[tuple[ExportFormat, ...]] = ("csv", "json", "ndjson")


async def as_text(format: ExportFormat, pages: AsyncIterator[pl.DataFrame]) -> AsyncGenerator[bytes, None]:
    """The bytes of the file, a page at a time."""
    writer = {"csv": _csv, "json": _json, "ndjson": _ndjson}[format]
    async for part in writer(pages):
        yield part.encode()


async def _csv(pages: AsyncIterator[pl.DataFrame]) -> AsyncIterator[str]:
    """With a byte order mark, without which spreadsheets take it for Latin, and with lines as RFC 4180 has them."""
    yield "\ufeff"
    has_header = True
    async for page in pages:
        safe = page.with_columns(escape_formulas(pl.col(pl.String)))
        # In quotes: where a semicolon separates cells, one within a name would begin a cell, and a formula with it.
        yield safe.write_csv(
            include_header=has_header, line_terminator="\r\n", datetime_format="%Y-%m-%dT%H:%M:%SZ",
            quote_style="non_numeric",
        )  # fmt: skip
        has_header = False
    if has_header:
        from processors.file.stock_pages import SCHEMA

        yield ",".join(SCHEMA) + "\r\n"


async def _ndjson(pages: AsyncIterator[pl.DataFrame]) -> AsyncIterator[str]:
    async for page in pages:
        # A JSON number: the prices have two decimals, which a float keeps.
        timed = page.with_columns(
            pl.col("price").cast(pl.Float64), pl.col("updated_at").dt.strftime("%Y-%m-%dT%H:%M:%SZ")
        )
        yield timed.write_ndjson()


async def _json(pages: AsyncIterator[pl.DataFrame]) -> AsyncIterator[str]:
    """One array. Lines of NDJSON are its elements: a line break within a text is escaped."""
    before = "[\n"
    async for lines in _ndjson(pages):
        yield before + lines.removesuffix("\n").replace("\n", ",\n")
        before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"
