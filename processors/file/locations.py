"""Locations: a file that counts a product in several places. Its sender says which of them is meant, or all
together.
"""

from __future__ import annotations

from typing import Final, NoReturn

import polars as pl

from processors.file.dialect import Dialect
from processors.file.header import SUM, plain, which_location
from processors.file.problems import Problem
from processors.file.refused import FileRefused
from processors.file.row_check import GOOD
from processors.file.sku_text import clean_text
from schemas.inventory import MOST_STOCK

_MOST_NAMES: Final = 100


class Locations:
    """The locations of a file's rows, if it has a column for them. `elsewhere` counts rows of other locations."""

    def __init__(self, dialect: Dialect) -> None:
        column = dialect.columns.get("location")
        self._column = None if column is None else str(column)
        self._wanted = dialect.location
        self.is_summed = self._column is not None and plain(self._wanted) == SUM
        self._names: dict[str, None] = {}
        self._held: list[pl.DataFrame] = []
        self.elsewhere = 0

    @property
    def has_several(self) -> bool:
        """Whether the rows are of more than one, and none was chosen."""
        return len(self._names) > 1 and not self._wanted

    def chosen(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows of the chosen location; all of them where none was chosen."""
        if self._column is None:
            return rows
        cells = clean_text(rows[self._column])
        for name in cells.drop_nulls().unique(maintain_order=True).head(_MOST_NAMES):
            if len(self._names) < _MOST_NAMES:
                self._names.setdefault(name)
        if not self._wanted or self.is_summed:
            return rows
        wanted = plain(self._wanted)
        names = [name for name in cells.drop_nulls().unique() if plain(name) == wanted]
        kept = rows.filter(cells.is_in(names).fill_null(False))
        self.elsewhere += rows.height - kept.height
        return kept

    def refuse_unknown(self) -> None:
        """Raises `FileRefused` when the chosen location is none of the file's."""
        if self.elsewhere:
            names = ", ".join(repr(name[:30]) for name in list(self._names)[:8])
            raise FileRefused(f"there is no location {self._wanted[:40]!r} in the file; it has {names}")

    def ask(self) -> NoReturn:
        """Raises `FileRefused` with the question."""
        raise FileRefused(which_location(list(self._names)))

    def add(self, good: pl.DataFrame) -> None:
        """Keeps rows to be summed up."""
        self._held.append(good)

    def summed(self, problems: list[Problem]) -> tuple[pl.DataFrame, list[Problem]]:
        """A row for each SKU with the sum of its quantities, and the problems of rows whose sum cannot be known,
        because another row of their SKU has a problem.
        """
        rows = pl.concat(self._held) if self._held else pl.DataFrame(schema=GOOD)
        lines = {problem["line"] for problem in problems}
        at_fault = {problem["sku"]: problem["line"] for problem in reversed(problems) if problem["sku"]}
        at_fault |= dict(rows.filter(pl.col("line").is_in(lines)).select("sku", "line").iter_rows())
        rows = rows.filter(~pl.col("line").is_in(lines))
        lost = rows.filter(pl.col("sku").is_in(list(at_fault)))
        wrong = [
            _problem(line, row, sku, f"belongs to the product of line {at_fault[sku]}, which has a problem")
            for line, row, sku in lost.select("line", "row", "sku").iter_rows()
        ]
        kept = rows.filter(~pl.col("sku").is_in(list(at_fault)))
        # Stock that is to be kept is that of all locations: with a count of some, the sum is not known.
        uncounted = pl.col("quantity").is_null()
        mixed = kept.filter(uncounted.any().over("sku") & ~uncounted.all().over("sku"))
        wrong += [
            _problem(line, row, sku, "is blank for another location, and the sum is not known")
            for line, row, sku in mixed.select("line", "row", "sku").iter_rows()
        ]
        kept = kept.filter(~pl.col("sku").is_in(mixed["sku"].unique().to_list()))
        known = pl.col("name", "category", "price", "threshold").drop_nulls().first()
        quantity = pl.when(uncounted.any()).then(None).otherwise(pl.col("quantity").sum()).alias("quantity")
        sums = kept.group_by("sku", maintain_order=True).agg(
            pl.col("line", "row", "location", "suspicion").first(), known, quantity, pl.col("merged").sum()
        )
        much = sums.filter(pl.col("quantity") > MOST_STOCK)["sku"]
        for line, row, sku in kept.filter(pl.col("sku").is_in(much)).select("line", "row", "sku").iter_rows():
            wrong.append(_problem(line, row, sku, f"is more than {MOST_STOCK} in all locations together"))
        return sums.filter(~pl.col("sku").is_in(much)).select(list(GOOD)), wrong


def _problem(line: int, row: int, sku: str, problem: str) -> Problem:
    return {"line": line, "row": row, "field": "quantity", "sku": sku, "value": "", "problem": problem}
