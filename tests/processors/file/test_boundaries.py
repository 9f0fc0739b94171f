"""Boundary values of imported files: the last one that is taken, and the first one that is not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import select

from processors.shared.database import Database
from processors.shared.database.tables import products
from processors.shared.storage import Storages
from schemas import InventoryImported
from schemas.inventory import MOST_STOCK
from tests.processors.file.conftest import problems, put

Ask = Callable[..., Awaitable[Any]]

pytestmark = pytest.mark.newest_redis

TAKEN = (
    ("price", "9999999999.99"), ("price", "00009999999999.99"), ("price", "0"), ("price", "0.01"),
    ("quantity", str(MOST_STOCK)), ("quantity", f"000{MOST_STOCK}"), ("quantity", "0"),
    ("threshold", str(2**31 - 1)), ("threshold", "0"), ("sku", "S" * 64), ("name", "N" * 200), ("category", "C" * 64),
)  # fmt: skip
REFUSED = (
    ("price", "10000000000"), ("price", "010000000000.00"), ("price", "-0.01"), ("price", "0.001"),
    ("quantity", str(MOST_STOCK + 1)), ("quantity", f"{MOST_STOCK}0"), ("quantity", "-1"),
    ("threshold", str(2**31)), ("threshold", "-1"), ("sku", "S" * 65), ("name", "N" * 201), ("category", "C" * 65),
)  # fmt: skip


def _file(cells: tuple[tuple[str, str], ...]) -> bytes:
    names = ("sku", "quantity", "name", "category", "price", "threshold")
    rows = [
        {"sku": f"K{number}", "quantity": "1", "name": "Nail", "category": "x", "price": "1", "threshold": "1"}
        | {field: value}
        for number, (field, value) in enumerate(cells)
    ]
    return "\n".join([",".join(names), *(",".join(row[name] for name in names) for row in rows)]).encode()


async def test_the_last_values_that_are_taken(ask: Ask, shop: Database, storages: Storages) -> None:
    answer = await ask(await put(storages, _file(TAKEN)), InventoryImported)
    assert (answer.written, answer.refused) == (len(TAKEN), 0)
    assert await problems(shop) == []


async def test_the_first_values_that_are_not(
    ask: Ask, shop: Database, storages: Storages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each by its own rule, and nothing else of its row."""
    monkeypatch.setenv("FILE_ERRORS_SHARE", "1")
    good = (("sku", "good"),)
    answer = await ask(await put(storages, _file(REFUSED + good)), InventoryImported)
    assert (answer.written, answer.refused) == (1, len(REFUSED))
    found = await problems(shop)
    assert [(line, field) for line, field, _ in found] == [
        (line, field) for line, (field, _) in enumerate(REFUSED, start=2)
    ]


@pytest.mark.parametrize("field", ["name", "category", "price", "threshold"])
async def test_a_file_that_changes_one_thing_only_changes_it(
    ask: Ask, shop: Database, storages: Storages, field: str
) -> None:
    """Each of the four by itself: what is compared is what is written."""
    await ask(await put(storages, _file((("sku", "A"),))), InventoryImported)
    value = {"name": "Screw", "category": "y", "price": "2.50", "threshold": "7"}[field]
    changed = f"sku,quantity,{field}\nA,1,{value}\n".encode()
    await ask(await put(storages, changed), InventoryImported)
    async with shop.engine.connect() as connection:
        product = (await connection.execute(select(products))).one()
    expected = {"name": "Nail", "category": "x", "price": "1.00", "threshold": "1"} | {field: value}
    assert {name: str(getattr(product, name)) for name in expected} == expected
