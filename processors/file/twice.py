"""Twice: finds the rows whose SKU another row has too: which of them is meant is not ours to say."""

from __future__ import annotations

import polars as pl

from processors.file.locations import Locations
from processors.file.problems import Problem
from processors.file.sku_text import folded


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

    def twins(self) -> pl.DataFrame:
        """Rows whose SKU is another row's but for case, spaces and leading zeros: `line`, `row`, `sku`, `twin`."""
        hashes = pl.concat([_plain(chunk["sku"]) for chunk in self._seen]).sort()
        repeated = hashes.filter(hashes == hashes.shift()).unique()
        schema = {"line": pl.UInt32, "row": pl.UInt32, "sku": pl.String}
        if repeated.is_empty():
            return pl.DataFrame(schema={**schema, "twin": pl.String})
        rows = pl.concat([chunk.filter(_plain(chunk["sku"]).is_in(repeated.implode())) for chunk in self._seen])
        rows = rows.select("line", "row", "sku", fold=folded(pl.col("sku"))).sort("line")
        rows = rows.filter(pl.col("sku").n_unique().over("fold") > 1)
        first, last = pl.col("sku").min().over("fold"), pl.col("sku").max().over("fold")
        return rows.with_columns(twin=pl.when(pl.col("sku") == first).then(last).otherwise(first)).drop("fold")

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
                "problem": f"is also on line {other}" if other else "is in the file twice",
            }
            for line, row, sku, other in named.iter_rows()
        ]  # fmt: skip


def _plain(skus: pl.Series) -> pl.Series:
    """A hash of what may be left of each SKU: a cheap one, which is the same for more of them than `folded` is."""
    sku = pl.col("sku")
    if skus.str.contains(r"[^\x00-\x7f]").any():
        sku = folded(sku)
    plain = sku.str.to_lowercase()
    if skus.str.contains("[ ']").any():
        plain = plain.str.replace_all("[ ']", "")
    plain = plain.str.strip_chars_start("0")
    return skus.to_frame("sku").select(plain.hash().alias("hash")).to_series()
