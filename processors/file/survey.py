"""survey: reads a whole file before anything of it is written, says what is wrong with it, and keeps the rows that
can be written as they are to be written.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Final

import polars as pl
from sqlalchemy.ext.asyncio import AsyncEngine

from processors.file.checked_rows import PartWriter
from processors.file.csv_rows import CsvRows
from processors.file.decimals import Evidence
from processors.file.dialect import HEAD, Dialect, read_dialect
from processors.file.encoding import EncodingScan
from processors.file.header import may_be_flag
from processors.file.import_options import ImportOptions
from processors.file.known_skus import KnownSkus
from processors.file.locations import Locations
from processors.file.misplaced import refuse_second_table
from processors.file.open_book import MARK
from processors.file.problems import Problem
from processors.file.refused import FileRefused
from processors.file.row_check import RowCheck, check_rows
from processors.file.settings import FileSettings
from processors.file.sheet_rows import SheetRows, read_sheet
from processors.file.twice import Twice
from processors.file.upload_source import UploadSource

MOST_PROBLEMS: Final = 10_000
"""Rows with something wrong that are looked for; a file with more is refused there."""

_READ_AT_ONCE: Final = 20_000  # rows: fewer at a time would take polars longer
_SHEET_ROWS_AT_ONCE: Final = 5_000
_PREVIEW: Final = 10  # rows

OpenParts = Callable[[], AbstractAsyncContextManager[PartWriter]]
Reading = Callable[[int], Awaitable[None]]


@dataclass(slots=True)
class Survey:
    """How the file is written, how many rows it has, and what is wrong with which.

    `new` rows would make a product; `elsewhere` are the rows of other locations than the chosen one. `preview` are the
    first rows as they would be written.
    """

    dialect: Dialect
    rows: int = 0
    problems: list[Problem] = field(default_factory=list)
    is_complete: bool = True
    new: int = 0
    elsewhere: int = 0
    preview: pl.DataFrame | None = None

    @property
    def refused(self) -> int:
        """Rows with something wrong."""
        return len({problem["line"] for problem in self.problems})

    def is_too_bad(self, settings: FileSettings) -> bool:
        """Whether so much is wrong that nothing should be written."""
        refused = self.refused
        most = max(settings.file_errors_few, settings.file_errors_share * self.rows)
        return not self.is_complete or refused > most or refused == self.rows

    def why(self) -> str:
        """The words for the sender of a file of which nothing is written."""
        much = f"{self.refused} of {self.rows} rows" if self.is_complete else f"more than {self.refused - 1} rows"
        return f"{much} cannot be imported, so nothing was"


async def survey(
    source: UploadSource,
    options: ImportOptions,
    *,
    sha256: str = "",
    engine: AsyncEngine | None = None,
    business_id: int = 0,
    open_parts: OpenParts | None = None,
    reading: Reading | None = None,
) -> Survey:
    """Checks every row of a file, and that it is the file of its event.

    Raises `FileRefused` for what is no file of stock, has no rows, is not the file that was uploaded, or cannot be read
    in one way only. It keeps some 50 bytes per row, to find SKUs that are named twice; where locations are summed up,
    the rows. Where only a later row says how numbers are written, the file is read twice.
    """
    dialect = await _look(source, options, sha256)
    evidence = Evidence()
    made = _Pass(source, dialect, options.decimal or None, evidence, KnownSkus(engine, business_id), reading, options)
    async with open_parts() if open_parts else nullcontext() as parts:
        result = await made.run(parts)
    if made.is_open and (decimal := evidence.decimal(is_comma=dialect.is_comma)):
        made = _Pass(source, dialect, decimal, Evidence(), KnownSkus(engine, business_id), reading, options)
        async with open_parts() if open_parts else nullcontext() as parts:
            result = await made.run(parts)
    return result


async def _look(source: UploadSource, options: ImportOptions, sha256: str) -> Dialect:
    """Reads the file once for its hash and its encoding, and its beginning for the rest."""
    digest, scan, head = hashlib.sha256(), EncodingScan(options.encoding), b""

    def feed(block: bytes) -> None:
        digest.update(block)
        if not head.startswith(MARK):
            scan.feed(block)

    async for block in source.blocks():
        if len(head) < HEAD:
            head += block[: HEAD - len(head)]
        await asyncio.to_thread(feed, block)
    if sha256 and digest.hexdigest() != sha256:
        raise FileRefused("the file is not the one that was uploaded: its sha256 differs")
    if head.startswith(MARK):
        async with source.as_path() as path:
            return await asyncio.to_thread(read_sheet, path, options)
    is_all = source.size <= HEAD
    await asyncio.to_thread(read_dialect, head, is_all=is_all, options=options)  # that it is text, before its encoding
    encoding = scan.end()
    return await asyncio.to_thread(read_dialect, head, is_all=is_all, options=options, encoding=encoding)


class _Pass:
    """One reading of the rows of a file."""

    def __init__(
        self, source: UploadSource, dialect: Dialect, decimal: str | None, evidence: Evidence, known: KnownSkus,
        reading: Reading | None, options: ImportOptions,
    ) -> None:  # fmt: skip
        self._source, self._decimal, self._evidence, self._known = source, decimal, evidence, known
        self._is_chosen = decimal is not None
        self._reading, self._blank = reading, options.blank_quantity
        self._is_mapped = "quantity" in options.for_header(dialect.cells)[0]
        self._made = Survey(dialect)
        self._twice = Twice()
        self._locations = Locations(dialect)
        self._is_counted = False  # a row has more than one
        self.is_open = False

    async def run(self, parts: PartWriter | None) -> Survey:
        made = self._made
        async with self._chunks() as chunks:
            async for rows in chunks:
                await self._take(rows, parts)
                if made.refused > MOST_PROBLEMS and not self.is_open:
                    made.is_complete = False
                    return made
        if made.rows == 0:
            self._locations.refuse_unknown()
            raise FileRefused("the file has a first line, and no rows")
        self._refuse_flags()
        made.problems += await asyncio.to_thread(self._twice.problems, self._locations, MOST_PROBLEMS)
        made.problems += await self._known.damaged(MOST_PROBLEMS)
        made.problems += await self._known.twins(await asyncio.to_thread(self._twice.twins), MOST_PROBLEMS)
        if self._locations.is_summed:
            summed, wrong = await asyncio.to_thread(self._locations.summed, made.problems)
            made.problems += wrong
            made.preview = summed.head(_PREVIEW)
            if parts is not None:
                await parts.add(summed)
        if parts is not None:
            await parts.end()
        # A SKU that is named twice may be unknown as well: one of the two is enough for its line.
        first = {(problem["line"], problem["field"]): problem for problem in reversed(made.problems)}
        made.problems = sorted(first.values(), key=lambda problem: (problem["line"], problem["field"]))
        made.is_complete = made.refused <= MOST_PROBLEMS
        if made.preview is not None:
            made.preview = made.preview.filter(~pl.col("line").is_in([problem["line"] for problem in made.problems]))
        made.elsewhere, made.new = self._locations.elsewhere, self._known.new
        made.dialect = replace(made.dialect, decimal=self._decimal or "")
        return made

    async def _take(self, rows: pl.DataFrame, parts: PartWriter | None) -> None:
        made = self._made
        rows = self._locations.chosen(rows)
        check = await asyncio.to_thread(self._check, rows)
        made.rows += check.rows
        before = len(made.problems)
        if len(made.problems) <= 2 * MOST_PROBLEMS:
            made.problems += check.problems.to_dicts()
        if contradiction := self._evidence.contradiction() if not self._is_chosen else "":
            raise FileRefused(contradiction)
        refuse_second_table(made.problems[before:])
        made.problems += await self._known.check(check.good)
        self._twice.add(check.good)
        self._is_counted = self._is_counted or bool((check.good["quantity"] > 1).any())
        if made.preview is None or made.preview.height < _PREVIEW:
            held = [made.preview] if made.preview is not None else []
            made.preview = pl.concat([*held, check.good.head(_PREVIEW)]).head(_PREVIEW)
        if self._locations.is_summed:
            self._locations.add(check.good)
        elif parts is not None:
            await parts.add(check.good)

    def _check(self, rows: pl.DataFrame) -> RowCheck:
        check = check_rows(rows, self._made.dialect, self._decimal, self._evidence, self._blank)
        self.is_open = self.is_open or check.is_open
        if self._decimal is None and len(self._evidence.found) == 1:
            # What comes is read so; what came before is read again, if it had two readings.
            self._decimal = next(iter(self._evidence.found))
        return check

    def _refuse_flags(self) -> None:
        """Raises `FileRefused` for a column that may hold counts, or yes and no."""
        name = self._made.dialect.column_name("quantity")
        if not self._is_mapped and self._made.rows > 1 and not self._is_counted and may_be_flag(name):
            raise FileRefused(
                f"the column {name[:40]!r} holds nothing but 0 and 1, and may say whether there is any, and not how "
                f"many: if it is the quantity, say so: map quantity={name[:40]!r}"
            )

    @asynccontextmanager
    async def _chunks(self) -> AsyncIterator[AsyncIterator[pl.DataFrame]]:
        dialect = self._made.dialect
        if not dialect.sheet:
            rows = CsvRows(self._source.blocks(), dialect)
            yield self._each(rows, _READ_AT_ONCE)
            return
        async with self._source.as_path() as path:
            sheet = SheetRows(path, dialect)
            try:
                yield self._each(sheet, _SHEET_ROWS_AT_ONCE)
            finally:
                sheet.close()

    async def _each(self, rows: CsvRows | SheetRows, most: int) -> AsyncIterator[pl.DataFrame]:
        while (frame := await rows.next(most)) is not None:
            yield frame
            if self._reading is not None:
                await self._reading(rows.bytes)
