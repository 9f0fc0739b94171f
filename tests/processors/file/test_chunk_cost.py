"""What it costs to write a chunk: it must not grow with the products, levels and movements that are already there."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import polars as pl
import pytest
from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncConnection

from processors.file.checked_rows import SCHEMA
from processors.file.stock_writer import Written, write_stock
from processors.shared.database import Database
from processors.shared.database.tables import businesses, products, stock_levels
from processors.shared.database.transaction import in_transaction
from tests.processors.file.conftest import business, database_url, postgres, postgres_url

__all__ = ["business", "database_url", "postgres", "postgres_url"]

ROWS: Final = 200  # of a chunk
NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
_READ: Final = """
    SELECT COALESCE(SUM(seq_tup_read + idx_tup_fetch), 0) FROM pg_stat_xact_user_tables
    WHERE relname IN ('products', 'stock_levels', 'stock_movements')
"""


def chunk(first: int, *, quantity: int = 5, name: str = "A product", rows: int = ROWS) -> pl.DataFrame:
    """Rows of the products from `first` on."""
    numbers = pl.int_range(rows, eager=True) + first
    same = {"name": name, "category": "Tools", "price": "1.50", "threshold": 3, "quantity": quantity, "merged": 1}
    frame = pl.DataFrame({"line": numbers + 2, "row": numbers + 2, "sku": numbers.cast(pl.String).str.zfill(8)})
    frame = frame.with_columns(**{field: pl.lit(value) for field, value in same.items()})
    return frame.cast(SCHEMA)  # type: ignore[arg-type]


async def stocked(database: Database, count: int) -> None:
    """A business with `count` products that no file has set."""
    async with database.engine.begin() as connection:
        await connection.execute(insert(businesses).values(id=1, name="Shop", currency="EUR", created_at=NOW))
        rows = [
            {
                "id": number + 1, "business_id": 1, "sku": f"{number:08d}", "name": "A product", "category": "Tools",
                "price": 1.5, "threshold": 3, "created_at": NOW, "updated_at": NOW,
            }
            for number in range(count)
        ]  # fmt: skip
        await connection.execute(insert(products), rows)
        levels = [{"product_id": row["id"], "quantity": 5, "updated_at": NOW} for row in rows]
        await connection.execute(insert(stock_levels), levels)
        if connection.dialect.name == "postgresql":
            await connection.execute(text("SELECT setval('products_id_seq', :last)"), {"last": count})


async def cost(database: Database, rows: pl.DataFrame, uploaded: int) -> tuple[int, Written]:
    """What a chunk takes, in hundreds of instructions of SQLite's machine or in rows that PostgreSQL has read: neither
    depends on how busy this machine is.
    """
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    async def write(connection: AsyncConnection) -> tuple[int, Written]:
        nonlocal steps
        if connection.dialect.name == "postgresql":
            before = int(await connection.scalar(text(_READ)) or 0)
            written = await write_stock(connection, 1, rows, "an-import", uploaded, uploaded + 1)
            return int(await connection.scalar(text(_READ)) or 0) - before, written
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        await driver.set_progress_handler(step, 100)
        try:
            steps = 0
            written = await write_stock(connection, 1, rows, "an-import", uploaded, uploaded + 1)
            return steps, written
        finally:
            await driver.set_progress_handler(None, 0)

    return await in_transaction(database.engine, write)


@pytest.mark.parametrize("there", [400, 20_000])
async def test_a_chunk_costs_as_much_in_a_large_business(business: Database, there: int) -> None:
    """New products, changed ones, and unchanged ones: some steps for each row, however many products there are."""
    await stocked(business, there)
    most = ROWS * (20 if business.engine.dialect.name == "postgresql" else 4.5)
    for uploaded, (rows, expected) in enumerate(
        [
            (chunk(there), Written(new=ROWS)),
            (chunk(100), Written()),
            (chunk(100, quantity=7), Written(changed=ROWS)),
            (chunk(100, name="Another name"), Written(changed=ROWS)),
            (pl.concat([chunk(there + ROWS, rows=100), chunk(200, rows=100)]), Written(new=100, changed=100)),
        ],
        1,
    ):
        spent, written = await cost(business, rows, uploaded)
        print(uploaded, spent, spent / ROWS)
        assert written == Written(expected.new, expected.changed, [])
        assert spent < most, (uploaded, spent)
