"""What is wrong with the rows of an import, in the database: for its report, and for what must not be written."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from processors.file.problems import Problem
from processors.shared.database.tables import import_errors


async def note_problems(connection: AsyncConnection, import_id: str, problems: Sequence[Problem]) -> None:
    """Keeps what is wrong with rows, for the report."""
    if problems:
        rows = [
            {
                "import_id": import_id, "line": problem["line"], "field": problem["field"], "row": problem["row"],
                "sku": (problem["sku"] or "")[:64], "value": (problem["value"] or "")[:100],
                "problem": problem["problem"][:500],
            }
            for problem in problems
        ]  # fmt: skip
        await connection.execute(insert(import_errors), rows)


async def replace_problems(connection: AsyncConnection, import_id: str, problems: Sequence[Problem]) -> None:
    """The same instead of what was kept before, by a process that died."""
    await connection.execute(delete(import_errors).where(import_errors.c.import_id == import_id))
    await note_problems(connection, import_id, problems)


async def refused_lines(connection: AsyncConnection, import_id: str, lines: pl.Series) -> list[int]:
    """Those of the lines that have something wrong."""
    found = await connection.scalars(
        select(import_errors.c.line)
        .where(import_errors.c.import_id == import_id, import_errors.c.line.between(lines.min(), lines.max()))
        .distinct()
    )
    return list(found)
