"""The made-up history is the same again from its number, and looks like a business."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import func, select

from processors.shared.database import Database
from processors.shared.database.migration import upgrade
from processors.shared.database.sample_data.seed import DAYS, seed
from processors.shared.database.tables import businesses, products, sales, stock_levels, stock_movements
from streams import StreamsError
from tests.support.child import Spawn

UNTIL = datetime(2026, 7, 1, tzinfo=UTC)


async def fingerprint(database: Database) -> tuple[object, ...]:
    """What one number must make, in a few figures."""
    async with database.engine.connect() as connection:
        first = (await connection.execute(select(products.c.sku, products.c.name, products.c.price).limit(5))).all()
        total = await connection.scalar(select(func.sum(sales.c.quantity * sales.c.unit_price)))
        level = await connection.scalar(select(func.sum(stock_levels.c.quantity)))
    return tuple(map(tuple, first)), round(Decimal(total), 2), level


async def test_a_number_makes_one_history(business: Database, tmp_path: Path) -> None:
    """On PostgreSQL as on SQLite; another number makes another one; a full database is left alone."""
    made = await seed(business.engine, number=3, skus=60, sold=3_000, until=UNTIL)
    assert made == (3, 60, 3_000)

    others = []
    for number in (3, 4):
        other = Database(f"sqlite:///{tmp_path}/other-{number}.db")
        await upgrade(other.engine)
        await seed(other.engine, number=number, skus=60, sold=3_000, until=UNTIL)
        others.append(await fingerprint(other))
        await other.aclose()
    assert await fingerprint(business) == others[0] != others[1]

    with pytest.raises(StreamsError, match="3 businesses already"):
        await seed(business.engine)


async def test_it_looks_like_a_business(business: Database) -> None:
    """Sales in the last 18 months, more on some days of the week, more in the season, and stock that adds up."""
    await seed(business.engine, skus=200, sold=20_000, until=UNTIL)
    async with business.engine.connect() as connection:
        rows = (await connection.execute(
            select(businesses.c.name, products.c.category, sales.c.sold_at, sales.c.unit_price)
            .join(products, products.c.id == sales.c.product_id)
            .join(businesses, businesses.c.id == sales.c.business_id)
        )).all()  # fmt: skip
        off = (await connection.execute(
            select(stock_movements.c.product_id)
            .join(stock_levels, stock_levels.c.product_id == stock_movements.c.product_id)
            .group_by(stock_movements.c.product_id, stock_levels.c.quantity)
            .having(func.sum(stock_movements.c.delta) != stock_levels.c.quantity)
        )).all()  # fmt: skip
        unknown = await connection.scalar(
            select(func.count())
            .select_from(stock_levels)
            .join(products, products.c.id == stock_levels.c.product_id)
            .where(stock_levels.c.quantity < products.c.threshold, stock_levels.c.below_since.is_(None))
        )
    assert off == []
    assert unknown is not None
    assert len(rows) == 20_000
    assert min(row.sold_at for row in rows) >= UNTIL - timedelta(days=DAYS)
    assert max(row.sold_at for row in rows) < UNTIL
    assert all(isinstance(row.unit_price, Decimal) and row.unit_price > 0 for row in rows)

    hardware = Counter(row.sold_at.weekday() for row in rows if row.name.startswith("Alder"))
    assert hardware[0] > 5 * hardware[6], "the trade does not come on Sundays"
    garden = Counter(row.sold_at.month for row in rows if row.category == "Garden" and row.sold_at.year == 2025)
    assert garden[5] > 2 * garden[11], "nobody plants in November"


@pytest.mark.timeout(150)
def test_the_command_makes_the_whole_set_in_seconds(spawn: Spawn, tmp_path: Path) -> None:
    """`python -m processors.shared.database seed`, as the demo calls it."""
    root = str(Path(__file__).parents[4])
    env = {"PYTHONPATH": root, "DATABASE_URL": f"sqlite:///{tmp_path}/b.db"}
    child = spawn("processors.shared.database", "seed", "--seed", "9", env=env)
    assert child.wait(100) == 0, child.output()
    found = re.fullmatch(r"3 businesses, 2000 products, 200000 sales in [\d.]+ s\n", child.stdout())
    assert found, child.output()

    again = spawn("processors.shared.database", "seed", env=env)
    assert again.wait(40) == 1
    assert again.stderr() == "error: the database has 3 businesses already; seed fills an empty one only\n"
