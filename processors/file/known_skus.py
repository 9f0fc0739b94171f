"""KnownSkus: which SKUs of a file its business has, and which of the others are one of those but for what gets lost on
the way through a spreadsheet.
"""

from __future__ import annotations

from typing import Any, Final

import orjson
import polars as pl
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from processors.file.problems import LOST_ZEROS, TWIN, UNCOUNTED, UNKNOWN, Problem
from processors.file.sku_text import folded
from processors.shared.database.tables import products

_PAGE: Final = 20_000
_UNKNOWN_ON_SQLITE: Final = """
    SELECT given.value FROM json_each(:skus) AS given
    WHERE NOT EXISTS (SELECT 1 FROM products p WHERE p.business_id = :business AND p.sku = given.value)
"""
_UNKNOWN_ON_POSTGRESQL: Final = """
    SELECT given.value FROM json_array_elements_text(CAST(:skus AS JSON)) AS given (value)
    WHERE NOT EXISTS (
        SELECT 1 FROM products p WHERE p.business_id = CAST(:business AS INTEGER) AND p.sku = given.value)
"""


class KnownSkus:
    """Takes the good rows of a file chunk by chunk. Without an engine nothing is known of the business, and nothing is
    found but what no SKU looks like.
    """

    def __init__(self, engine: AsyncEngine | None, business_id: int) -> None:
        self._engine, self._business_id = engine, business_id
        self._is_empty: bool | None = None
        self._unknown: list[pl.DataFrame] = []
        self.new = 0  # rows of products that are not there yet

    async def check(self, good: pl.DataFrame) -> list[Problem]:
        """The problems of a chunk's SKUs that the business does not have."""
        if good.is_empty():
            return []
        unknown = good
        if self._engine is not None:
            async with self._engine.connect() as connection:
                if self._is_empty is None:
                    first = select(products.c.id).where(products.c.business_id == self._business_id).limit(1)
                    self._is_empty = await connection.scalar(first) is None
                if not self._is_empty:
                    names = await self._without(connection, good["sku"].unique())
                    unknown = good.filter(pl.col("sku").is_in(names)) if names else good.clear()
        if unknown.is_empty():
            return []
        knows = pl.lit(self._engine is not None)
        wrong = unknown.with_columns(
            problem=pl.coalesce(
                "suspicion",
                pl.when(knows & pl.col("name").is_null()).then(pl.lit(UNKNOWN)),
                pl.when(knows & pl.col("quantity").is_null()).then(pl.lit(UNCOUNTED)),
            )
        )
        found = wrong.filter(pl.col("problem").is_not_null())
        if self._engine is not None and not self._is_empty:
            self._unknown.append(wrong.select("line", "row", "sku", "problem", fold=folded(pl.col("sku"))))
        self.new += wrong.height - found.height
        return [_problem(*row) for row in found.select("line", "row", "sku", "problem").iter_rows()]

    async def damaged(self, most: int) -> list[Problem]:
        """At the end: unknown SKUs that are a known one but for what spreadsheets change, `most` of them."""
        if self._engine is None or not self._unknown:
            return []
        unknown = pl.concat(self._unknown).filter(pl.col("fold") != "")
        found: list[Problem] = []
        last = ""
        page = (
            select(products.c.sku)
            .where(products.c.business_id == self._business_id)
            .order_by(products.c.sku)
            .limit(_PAGE)
        )
        async with self._engine.connect() as connection:
            while skus := list(await connection.scalars(page.where(products.c.sku > last))):
                last = skus[-1]
                known = pl.DataFrame({"known": skus}, schema={"known": pl.String})
                known = known.with_columns(fold=folded(pl.col("known"))).unique(
                    "fold", keep="first", maintain_order=True
                )
                for line, row, sku, _, _, twin in unknown.join(known, on="fold").head(most).iter_rows():
                    found.append(_problem(line, row, sku, LOST_ZEROS.format(twin)))
                if len(found) >= most:
                    break
        return found

    async def twins(self, rows: pl.DataFrame, most: int) -> list[Problem]:
        """The problems of SKUs that the business does not have, and of which the file has two that differ by what
        spreadsheets change. `rows` are those of `Twice.twins`.
        """
        if rows.is_empty():
            return []
        if self._engine is not None:
            async with self._engine.connect() as connection:
                names = await self._without(connection, rows["sku"].unique())
            rows = rows.filter(pl.col("sku").is_in(names))
        return [
            _problem(line, row, sku, TWIN.format(twin))
            for line, row, sku, twin in rows.head(most).select("line", "row", "sku", "twin").iter_rows()
        ]

    async def _without(self, connection: AsyncConnection, skus: pl.Series) -> list[str]:
        """Those of the SKUs that the business does not have."""
        statement = _UNKNOWN_ON_SQLITE if connection.dialect.name == "sqlite" else _UNKNOWN_ON_POSTGRESQL
        values = {"skus": orjson.dumps(skus.to_list()).decode(), "business": self._business_id}
        return list(await connection.scalars(text(statement), values))


def _problem(line: int, row: int, sku: str, problem: str) -> dict[str, Any]:
    if problem == UNCOUNTED:
        return {"line": line, "row": row, "field": "quantity", "sku": sku, "value": "", "problem": problem}
    return {"line": line, "row": row, "field": "sku", "sku": sku, "value": sku, "problem": problem}
