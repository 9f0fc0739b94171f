"""write_error_report: what is wrong with which line of a file, as a CSV for whoever sent it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import polars as pl

from processors.storage import Storage
from processors.storage.cells import guarded
from processors.storage.file_key import FileKey

_SCHEMA: Final = {"line": pl.Int64, "field": pl.String, "problem": pl.String}


async def write_error_report(
    storage: Storage, business_id: int, import_id: str, problems: Sequence[dict[str, Any]]
) -> FileKey:
    """Stores it and returns its key. A second try writes the same file again."""
    key = FileKey.new(business_id, "csv", made_from=f"errors of import {import_id}")
    frame = pl.DataFrame(list(problems), schema=_SCHEMA, orient="row").sort("line", "field")
    # The problem may quote the file.
    text = frame.with_columns(guarded(pl.col("problem"))).write_csv()
    async with storage.write(key, name="import-errors.csv") as file:
        await file.write(text.encode("utf-8-sig"))  # spreadsheets take it for Latin without the mark
    return key
