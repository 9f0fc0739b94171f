"""survey: reads a whole file before anything of it is written, and says what is wrong with it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl
from sqlalchemy.ext.asyncio import AsyncEngine

from processors.database.atomically import atomically
from processors.file.csv_chunks import CsvChunks
from processors.file.dialect import HEAD, Dialect, read_dialect
from processors.file.refused import FileRefused
from processors.file.row_check import RowCheck, check_rows
from processors.file.settings import FileSettings
from processors.file.stock_writer import unknown_lines
from processors.storage import Found, Storage
from schemas import InventoryImportUploaded
from streams import Progress

MOST_PROBLEMS: Final = 10_000
"""Rows with something wrong that are looked for; a file with more is given up there."""

_READ_AT_ONCE: Final = 20_000  # rows: nothing is written, and fewer at a time would take polars longer

UNKNOWN: Final = {"field": "sku", "problem": "is unknown, and a new product needs a name"}


@dataclass(slots=True)
class Survey:
    """How the file is written, how many rows it has, and what is wrong with which: `line`, `field`, `problem`."""

    dialect: Dialect
    rows: int = 0
    problems: list[dict[str, Any]] = field(default_factory=list)
    is_complete: bool = True

    @property
    def refused(self) -> int:
        """Rows with something wrong."""
        return len({problem["line"] for problem in self.problems})

    def is_too_bad(self, settings: FileSettings) -> bool:
        """Whether so much is wrong that nothing should be written."""
        return not self.is_complete or self.refused > max(
            settings.file_errors_few, settings.file_errors_share * self.rows
        )


async def survey(
    event: InventoryImportUploaded,
    found: Found,
    storage: Storage,
    engine: AsyncEngine,
    progress: Progress,
) -> Survey:
    """Checks every row of a file, and that it is the file of its event.

    Raises `FileRefused` for what is no CSV file, has no rows, or is not the file that was uploaded. It keeps 16 bytes
    per row, to find SKUs that are named twice.
    """
    digest = hashlib.sha256()
    head = (
        b"".join([block async for block in storage.read(found.key, 0, min(found.bytes, HEAD))]) if found.bytes else b""
    )
    dialect = read_dialect(head, is_all=found.bytes <= HEAD)
    made = Survey(dialect)
    chunks = CsvChunks(
        _hashed(storage, found, dialect.position, digest), dialect, position=dialect.position, line=dialect.line,
        size=found.bytes,
    )  # fmt: skip
    seen: list[pl.DataFrame] = []
    while (chunk := await chunks.next(_READ_AT_ONCE)) is not None:
        check = await asyncio.to_thread(check_rows, chunk.rows, dialect)
        made.rows += check.rows
        made.problems += check.problems.to_dicts()
        made.problems += await _unknown(engine, event.business_id, check)
        seen.append(check.good.select("line", pl.col("sku").hash()))
        await progress.set(chunk.position // 2, found.bytes, "checking")
        if made.refused > MOST_PROBLEMS:
            made.is_complete = False
            return made
    if digest.hexdigest() != event.sha256:
        raise FileRefused("the file is not the one that was uploaded: its sha256 differs")
    if made.rows == 0:
        raise FileRefused("the file has a first line, and no rows")
    made.problems += await asyncio.to_thread(_named_twice, seen)
    # A SKU that is named twice may be unknown as well: one of the two is enough for its line.
    first = {(problem["line"], problem["field"]): problem for problem in reversed(made.problems)}
    made.problems = sorted(first.values(), key=lambda problem: problem["line"])
    made.is_complete = made.refused <= MOST_PROBLEMS
    return made


async def _hashed(storage: Storage, found: Found, position: int, digest: Any) -> AsyncIterator[bytes]:
    """The file from a position on, hashed from its first byte."""
    before = position
    async for block in storage.read(found.key):
        digest.update(block)
        if before >= len(block):
            before -= len(block)
            continue
        yield block[before:]
        before = 0


async def _unknown(engine: AsyncEngine, business_id: int, check: RowCheck) -> list[dict[str, Any]]:
    if check.good["name"].null_count() == 0:
        return []
    lines = await atomically(engine, lambda connection: unknown_lines(connection, business_id, check.good))
    return [{"line": line, **UNKNOWN} for line in lines]


def _named_twice(seen: list[pl.DataFrame]) -> list[dict[str, Any]]:
    """Each row whose SKU another row has too: which of them is meant is not ours to say."""
    # Sorting takes a third of the memory that a table of a million hashes does; most files end here.
    hashes = pl.concat([chunk["sku"] for chunk in seen]).sort()
    repeated = hashes.filter(hashes == hashes.shift()).unique()
    if repeated.is_empty():
        return []
    twice = pl.concat([chunk.filter(pl.col("sku").is_in(repeated.implode())) for chunk in seen])
    lines = pl.col("line")
    named = twice.head(MOST_PROBLEMS * 2).select(
        lines,
        # The first of the others: the first row is told of the second one.
        other=pl.when(lines == lines.min().over("sku"))
        .then(lines.sort().slice(1, 1).first().over("sku"))
        .otherwise(lines.min().over("sku")),
    )
    return [
        {"line": line, "field": "sku", "problem": f"is also in line {other}" if other else "is in the file twice"}
        for line, other in named.iter_rows()
    ]
