"""Imports whose processes are killed, as real processes: every row once, and little is read again."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Mapping
from pathlib import Path

import pytest
from sqlalchemy import func, select

from processors.shared.database import Database
from processors.shared.database.tables import imports, products, stock_levels, stock_movements
from processors.shared.storage import Storages
from schemas import InventoryImported
from streams import Streams
from tests.processors.file.conftest import published, put
from tests.support.child import Child, Spawn
from tests.support.waiting import wait_until

ROWS = 100_000
CHUNK = 500  # 200 of them: a life writes a few before it is noticed

pytestmark = pytest.mark.newest_redis


@pytest.mark.parametrize(
    ("database_url", "kills"),
    [
        pytest.param("sqlite", 2, marks=pytest.mark.timeout(150)),
        pytest.param("sqlite", 25, marks=[pytest.mark.slow, pytest.mark.timeout(600)]),
        pytest.param("postgresql", 25, marks=[pytest.mark.slow, pytest.mark.timeout(600)]),
    ],
    indirect=["database_url"],
)
async def test_an_import_that_is_killed_at_its_borders(
    kills: int,
    shop: Database,
    storages: Storages,
    streams: Streams,
    spawn: Spawn,
    environment: Mapping[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed again and again right after a chunk was committed, or while the next one is on its way.

    Exactly 100,000 products with the stock that the file says, one movement each, one event; the file is checked once,
    and of what was written no more than a chunk per kill is read again.
    """
    env = {
        **environment, "FILE_CHUNK_ROWS": str(CHUNK), "LOG_LEVEL": "DEBUG", "LOG_FORMAT": "json",
        "OTEL_SDK_DISABLED": "true", "STREAMS_LEASE": "0.6", "STREAMS_ACCEPT_RISK": "no-aof",
        "PYTHONPATH": str(Path(__file__).parents[3]), "POLARS_MAX_THREADS": "1",
    }  # fmt: skip
    lines = ["sku,quantity,name,price", *(f"SKU-{n:06d},{n % 977 + 1},Product {n},{n % 90}.50" for n in range(ROWS))]
    event = await put(storages, "\n".join(lines).encode())
    receipt = await streams.publish(event)

    async def position() -> int:
        async with shop.engine.connect() as connection:
            return int(await connection.scalar(select(func.sum(imports.c.rows_done))) or 0)

    children: list[Child] = [spawn("processors.file", env=env, name="first")]
    killed_at = [0]
    for number in range(kills):
        children.append(spawn("processors.file", env=env, name=f"successor-{number}"))

        try:
            async with asyncio.timeout(60):
                # More often than wait_until looks: it is to be killed close to a border.
                while await position() <= killed_at[-1]:  # noqa: ASYNC110 - it is a database that is asked
                    await asyncio.sleep(0.002)
        except TimeoutError:
            pytest.fail(f"no chunk after {killed_at}\n" + "\n".join(child.output() for child in children[-2:]))
        # Not a wait for anything: where in the next chunk it dies is to differ.
        await asyncio.sleep(random.choice([0, 0, 0.01, 0.03]))
        children[-2].kill()
        killed_at.append(await position())

    async def answered() -> list[InventoryImported]:
        return await published(streams, InventoryImported)

    (answer,) = await wait_until(answered, 100, children[-1].output)
    assert (answer.rows, answer.written, answer.refused) == (ROWS, ROWS, 0)
    async with shop.engine.connect() as connection:
        there = select(products.c.sku, stock_levels.c.quantity).join(stock_levels).order_by(products.c.sku)
        assert [(row.sku, row.quantity) for row in await connection.execute(there)] == [
            (f"SKU-{n:06d}", n % 977 + 1) for n in range(ROWS)
        ]
        moved = select(
            func.count(), func.count(stock_movements.c.product_id.distinct()), func.sum(stock_movements.c.delta)
        )
        total = sum(n % 977 + 1 for n in range(ROWS))
        assert tuple((await connection.execute(moved)).one()) == (ROWS, ROWS, total)

    logged = [json.loads(line) for child in children for line in child.stderr().splitlines() if line.startswith("{")]
    read = [line["lines"] for line in logged if line["event"] == "import.chunk_read"]
    again = sum(last - max(first, 2) + 1 for first, last in read) - ROWS  # the first line names the columns
    assert sum(line["event"] == "import.checked" for line in logged) == 1
    assert 0 <= again <= kills * CHUNK
    assert len(set(killed_at)) > kills // 2, killed_at  # they were killed at different places
    print(f"{kills} kills at {killed_at[1:]}: {again} rows read again; {receipt.id}")
    for child in children[-1:]:
        child.terminate()
        assert child.wait() == 0
