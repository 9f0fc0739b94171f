"""Twice: finds the rows whose SKU another row has too: which of them is meant is not ours to say."""

from __future__ import annotations

import polars as pl

from processors.file.locations import Locations
from processors.file.problems import Problem


class Twice:
    """Keeps of each row where it is, its SKU, and a hash of its location."""

    def __init__(self) -> None:
        self._seen: list[pl.DataFrame] = []

    def add(self, good: pl.DataFrame) -> None:
        """Takes rows that are good by themselves."""
        place = pl.col("line", "row").cast(pl.UInt32)
        location = (
            pl.lit(None, pl.UInt64) if good["location"].null_count() == good.height else pl.col("location").hash()
        )
        self._seen.append(good.select(place, "sku", location=location))

    def problems(self, locations: Locations, most: int) -> list[Problem]:
        """A problem for each of the rows. Where locations are summed up, a SKU may be there once in each.

        Raises `FileRefused` for a file with several locations of which none was chosen.
        """
        if not self._seen:
            return []
        # Sorting takes a third of the memory that a table of a million hashes does; most files end here.
        hashes = pl.concat([chunk["sku"].hash() for chunk in self._seen]).sort()
        repeated = hashes.filter(hashes == hashes.shift()).unique()
        if repeated.is_empty():
            return []
        twice = pl.concat([chunk.filter(pl.col("sku").hash().is_in(repeated.implode())) for chunk in self._seen])
        twice = twice.filter(pl.len().over("sku") > 1)
        by = ["sku"]
        if locations.is_summed:
            by = ["sku", "location"]
            twice = twice.filter(pl.len().over(by) > 1)
        elif locations.has_several and twice["location"].n_unique() > 1:
            locations.ask()
        lines = pl.col("line")
        named = twice.head(most * 2).select(
            lines,
            "row",
            "sku",
            # The first of the others: the first row names the second one.
            other=pl.when(lines == lines.min().over(by))
            .then(lines.sort().slice(1, 1).first().over(by))
            .otherwise(lines.min().over(by)),
        )
        return [
            {
                "line": line, "row": row, "field": "sku", "sku": sku, "value": sku,
                "problem": f"is also in line {other}" if other else "is in the file twice",
            }
            for line, row, sku, other in named.iter_rows()
        ]  # fmt: skip
