"""The files that shops' systems write, each made up in the layout of one of them: its stock is imported as it stands
there, or there is a question that the manager of a shop can answer.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import insert, select

from processors.file import FileRefused, store_upload
from processors.shared.database import Database
from processors.shared.database.tables import businesses, products, stock_levels
from processors.shared.storage import Storages
from schemas import InventoryImported, InventoryImportFailed
from tests.processors.file.conftest import NOW

Ask = Callable[..., Awaitable[Any]]

LAYOUTS: Final = Path(__file__).parent / "layouts"
# By file: the stock that is right, some prices, how many rows are no products, and the question with its answer.
EXPECTED: Final[dict[str, dict[str, Any]]] = json.loads((LAYOUTS / "layouts.json").read_text("utf-8"))

pytestmark = pytest.mark.newest_redis


def test_there_is_a_file_for_each_layout() -> None:
    """And nothing beside them."""
    found = {path.name for path in LAYOUTS.iterdir()} - {"layouts.json"}
    assert found == set(EXPECTED)
    assert len(found) >= 27


async def _ask_at(ask: Ask, storages: Storages, database: Database, path: Path, business: int, **said: Any) -> Any:
    """What becomes of an upload, at the door or behind it: an answer, or the words of a refusal."""
    try:
        event = await store_upload(path, business, storages, database=database, **said)
    except FileRefused as refused:
        return str(refused)
    answer = await ask(event, InventoryImported, InventoryImportFailed)
    return answer.problem if isinstance(answer, InventoryImportFailed) else answer


@pytest.mark.timeout(120)
async def test_each_layout_is_imported(ask: Ask, shop: Database, storages: Storages) -> None:
    """Each for a business of its own. Rows in are rows written and refused. An answer that was given once is known when
    a file with the same first line comes again.
    """
    for business, (name, expected) in enumerate(sorted(EXPECTED.items()), 100):
        async with shop.engine.begin() as connection:
            row = {"id": business, "name": name, "currency": "EUR", "created_at": NOW}
            await connection.execute(insert(businesses).values(row))
            known = [
                {"business_id": business, "sku": sku, "name": sku, "price": 0, "created_at": NOW, "updated_at": NOW}
                for sku in expected.get("known", [])
            ]
            if known:
                await connection.execute(insert(products), known)
        path, said = LAYOUTS / name, expected.get("options", {})
        if "asks" in expected:
            assert expected["asks"] in await _ask_at(ask, storages, shop, path, business), name
        answer = await _ask_at(ask, storages, shop, path, business, **said)
        assert isinstance(answer, InventoryImported), (name, answer)
        assert answer.refused == expected.get("refused", 0), name
        assert answer.rows == answer.written + answer.refused, name
        assert answer.written == answer.products_new + answer.products_changed + answer.products_unchanged, name
        stock, prices = await _stock(shop, business)
        assert stock == expected["stock"], name
        assert {sku: prices[sku] for sku in expected.get("prices", {})} == {
            sku: Decimal(price) for sku, price in expected.get("prices", {}).items()
        }, name
        if "location" in said:
            again = await store_upload(path, business, storages, database=shop, again=True)
            assert again.location == ""  # nothing is said this time
            answer = await ask(again, InventoryImported, InventoryImportFailed)
            assert isinstance(answer, InventoryImported), (name, answer)
            assert answer.products_unchanged == answer.written, name


async def _stock(database: Database, business: int) -> tuple[dict[str, int], dict[str, Decimal]]:
    query = (
        select(products.c.sku, stock_levels.c.quantity, products.c.price)
        .join(stock_levels)
        .where(products.c.business_id == business)
    )
    async with database.engine.connect() as connection:
        rows = (await connection.execute(query)).all()
    return {row.sku: row.quantity for row in rows}, {row.sku: row.price for row in rows}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_mapping_is_remembered(ask: Ask, shop: Database, storages: Storages, tmp_path: Path) -> None:
    """For files with the same first line, of the same business, and nowhere else."""
    path = tmp_path / "own.csv"
    path.write_text("Kennwort,Zahl,Text\nA,5,Hammer\n")
    refusal = await _ask_at(ask, storages, shop, path, 1)
    assert "names no column for sku and quantity; it has 'Kennwort', 'Zahl', 'Text'; say which it is: map" in refusal
    wrong = await _ask_at(ask, storages, shop, path, 1, map={"sku": "Kenwort"})
    assert "no column is called 'Kenwort', which sku is mapped to; the file has 'Kennwort', 'Zahl', 'Text'" in wrong
    said = {"sku": "Kennwort", "quantity": "zahl", "name": "#3"}
    answer = await _ask_at(ask, storages, shop, path, 1, map=said)
    assert (answer.written, answer.products_new) == (1, 1)
    path.write_text("KENNWORT,Zahl,Text\nA,7,Hammer\n")
    answer = await _ask_at(ask, storages, shop, path, 1)
    assert isinstance(answer, InventoryImported), answer
    assert (answer.written, answer.products_changed) == (1, 1)
    assert (await _stock(shop, 1))[0] == {"A": 7}
    path.write_text("Kennwort,Zahl,Anderes\nA,9,Hammer\n")
    assert "names no column" in await _ask_at(ask, storages, shop, path, 1)
