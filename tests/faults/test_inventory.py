"""`python -m processors.inventory` is killed in the middle of its work: stock is exact, on both databases."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from sqlalchemy import func, select

from examples.fakes.supplier import FakeSupplier
from processors.shared.database import Database
from processors.shared.database.tables import stock_movements
from schemas import InventoryBulkUpdateRequested, InventorySyncRequested
from schemas.inventory import StockChange
from streams import Streams
from tests.faults.conftest import ROOT
from tests.processors.inventory.conftest import SHOP, add, levels, shop, supplier_environment
from tests.processors.shared.database.conftest import business
from tests.sql.conftest import database_url, postgres, postgres_url
from tests.support.child import Child, Spawn
from tests.support.waiting import wait_until

__all__ = ["business", "database_url", "postgres", "postgres_url", "shop"]

pytestmark = [pytest.mark.newest_redis, pytest.mark.timeout(180)]

UPDATES, SKUS = 300, 10

# A start takes seconds on a busy machine: a few kills in the normal run, many in `make slow`.
MANY = [2, pytest.param(20, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]


@pytest.fixture
def worker_env(database_url: str) -> Mapping[str, str]:
    """Its database, and a lease that its successor does not wait for long; no limit that the kills reach."""
    return {
        "DATABASE_URL": database_url, "PYTHONPATH": str(ROOT), "STREAMS_LEASE": "0.5", "STREAMS_DELIVERIES": "100",
        "STREAMS_CONCURRENCY": "4", "OTEL_SDK_DISABLED": "true",
    }  # fmt: skip


async def handled(streams: Streams) -> int:
    """Events the group has settled."""
    pending = lag = 0
    for key in (streams.keys.stream("inventory"), streams.keys.inbox("inventory")):
        for info in await streams.redis.xinfo_groups(key) if await streams.redis.exists(key) else []:
            if info["name"] == b"inventory":
                pending, lag = pending + info["pending"], lag + (info["lag"] or 0)
    return 0 if pending or lag or await streams.redis.zcard(streams.keys.due()) else 1


@pytest.mark.parametrize("kills", MANY)
async def test_stock_is_exact_whenever_it_is_killed(
    streams: Streams, shop: Database, spawn: Spawn, worker_env: Mapping[str, str], kills: int
) -> None:
    """Bulk updates that take and give: each happens once, and is told of once."""
    chance = random.Random(4)
    skus = [f"S{number}" for number in range(SKUS)]
    for sku in skus:
        await add(shop, sku, 100_000, threshold=0)
    expected = dict.fromkeys(skus, 100_000)
    requests = []
    for _ in range(UPDATES):
        deltas = {sku: chance.randint(-9, 9) or 1 for sku in chance.sample(skus, 4)}
        for sku, delta in deltas.items():
            expected[sku] += delta
        items = [StockChange(sku=sku, delta=delta) for sku, delta in deltas.items()]
        requests.append(InventoryBulkUpdateRequested(business_id=SHOP, items=items))
    await streams.publish_many(requests)

    async def movements() -> int:
        async with shop.engine.connect() as connection:
            return await connection.scalar(select(func.count()).select_from(stock_movements)) or 0

    done = await movements()
    child: Child = spawn("processors.inventory", env=worker_env)
    for _ in range(kills):
        goal = min(done + UPDATES * 3 // kills, SKUS + UPDATES * 4 - 60)
        await wait_until(lambda goal=goal: _reached(movements, goal), timeout=60, message=child.output)
        child.kill()
        done = await movements()
        child = spawn("processors.inventory", env=worker_env)
    await wait_until(lambda: handled(streams), timeout=60, message=child.output)
    child.terminate()
    assert child.wait() == 0, child.output()

    assert done > SKUS, "it was killed in the middle"
    assert await levels(shop) == expected
    assert await movements() == SKUS + UPDATES * 4
    told = await _told(streams, "InventoryUpdated")
    assert sum(len(data["changed"]) for data in told.values()) == UPDATES * 4
    assert len(told) == UPDATES
    assert await streams.redis.xlen(streams.keys.dead("inventory")) == 0


@pytest.mark.parametrize("kills", [1, pytest.param(10, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
async def test_a_sync_goes_on_where_it_was_killed(
    streams: Streams, shop: Database, spawn: Spawn, worker_env: Mapping[str, str], kills: int
) -> None:
    """30 pages and some kills: every product once, and no page again but the one that was under way."""
    supplier = FakeSupplier(token="s3cret")
    environment = {**worker_env, **supplier_environment(await supplier.start())}
    for number in range(300):
        supplier.stock(f"S{number:03d}", number + 1)
    await streams.publish(
        InventorySyncRequested(business_id=SHOP, external_system="acme", sync_type="full"), key=str(SHOP)
    )
    child = spawn("processors.inventory", env=environment)
    for kill in range(kills):
        await wait_until(
            lambda goal=(kill + 1) * 25 // kills: len(supplier.asked) >= goal, timeout=60, message=child.output
        )
        child.kill()
        child = spawn("processors.inventory", env=environment)
    (synced,) = (await wait_until(lambda: _told(streams, "InventorySynced"), timeout=60, message=child.output)).values()
    child.terminate()
    assert child.wait() == 0, child.output()
    await supplier.aclose()

    assert (synced["pages"], synced["items"], synced["changed"], synced["complete"]) == (30, 300, 300, True)
    assert await levels(shop) == {f"S{number:03d}": number + 1 for number in range(300)}
    assert len(supplier.asked) <= 30 + kills


async def _reached(movements: Any, goal: int) -> bool:
    return bool(await movements() >= goal)


async def _told(streams: Streams, kind: str) -> dict[bytes, Any]:
    """The events of a type by their ids: what was told twice under one id was told once."""
    entries = await streams.redis.xrange(streams.keys.stream("inventory"))
    return {fields[b"id"]: orjson.loads(fields[b"data"]) for _, fields in entries if fields[b"type"] == kind.encode()}
