"""StockList: the stock list that is uploaded in the demo, made of what the business database holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from processors.shared.database.tables import products, stock_levels

BUSINESS: Final = 1
"""Whose goods they are."""

ROWS: Final = 250
WRONG: Final = {7: "many", 40: "-3", 99: "1e99"}
"""Rows (counted from 0) whose quantity is invalid."""

NEW: Final = "SPIRIT-60"
"""A SKU that the business does not have yet."""


@dataclass
class StockList:
    """The list, and what must be in stock when it has been imported; `low` is the SKU that falls below its threshold,
    `steady` has much more than that.
    """

    text: str
    low: str
    steady: str
    expected: dict[str, int] = field(default_factory=dict)

    @property
    def wrong_lines(self) -> list[int]:
        """The lines of the file, the header being the first, that are wrong."""
        return [row + 2 for row in WRONG]


async def write_list(engine: AsyncEngine) -> StockList:
    """Writes a stock list as a spreadsheet would: every product gets two more, but for one nearly out."""
    level = select(products.c.sku, products.c.threshold, stock_levels.c.quantity).join(
        stock_levels, stock_levels.c.product_id == products.c.id
    )
    enough = level.where(
        products.c.business_id == BUSINESS,
        products.c.threshold > 1,
        stock_levels.c.quantity > 2 * products.c.threshold,
        stock_levels.c.below_since.is_(None),
    )
    async with engine.connect() as connection:
        rows = (await connection.execute(enough.order_by(products.c.sku).limit(ROWS))).all()
    lines, expected = ["Artikelnummer;Bestand;Bezeichnung;Preis"], {NEW: 5}
    for number, (sku, _threshold, quantity) in enumerate(rows):
        wanted = 1 if number == 0 else quantity + 2
        lines.append(f"{sku};{WRONG.get(number, wanted)};;")
        expected[sku] = quantity if number in WRONG else wanted
    lines.append(f'{NEW};5;"Wasserwaage, 60 cm";24,50')
    return StockList("\r\n".join(lines) + "\r\n", low=rows[0].sku, steady=rows[1].sku, expected=expected)


async def stock(engine: AsyncEngine, skus: list[str]) -> dict[str, int]:
    """What is in stock of the business' SKUs, asked of the database itself."""
    asked = (
        select(products.c.sku, stock_levels.c.quantity)
        .join(stock_levels, stock_levels.c.product_id == products.c.id)
        .where(products.c.business_id == BUSINESS, products.c.sku.in_(skus))
    )
    async with engine.connect() as connection:
        return {row.sku: row.quantity for row in await connection.execute(asked)}
