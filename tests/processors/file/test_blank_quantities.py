"""A row without a quantity: what it means is for the sender of the file to say, and it is refused until then."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select

from processors.file.checking import check_file
from processors.file.import_options import ImportOptions
from processors.file.refused import FileRefused
from processors.file.settings import FileSettings
from processors.shared.database import Database
from processors.shared.database.tables import products, stock_movements
from processors.shared.storage import Storages
from schemas import InventoryImported
from tests.processors.file.conftest import NOW, SHOP, levels, problems, put
from tests.processors.file.test_sheets import book

Ask = Callable[..., Awaitable[Any]]

pytestmark = pytest.mark.newest_redis

FIRST = b"sku,quantity,name,price\nA,5,Hammer,1\nB,6,Saw,1\nC,7,Nail,1\nD,8,Rasp,1\n"
HEAD = "sku,quantity,name,price\n"
LATER = f"{HEAD}A,,Sledge,2\nB,-,,\nC,N/A,,3\nD,9,,\n"


async def _prices(database: Database) -> dict[str, tuple[str, str]]:
    async with database.engine.connect() as connection:
        rows = (await connection.execute(select(products.c.sku, products.c.name, products.c.price))).all()
    return {sku: (name, str(price)) for sku, name, price in rows}


async def test_it_is_refused_unless_something_is_said(ask: Ask, shop: Database, storages: Storages) -> None:
    """As it always was: nothing of the row is written."""
    await ask(await put(storages, FIRST), InventoryImported)
    answer = await ask(await put(storages, LATER.encode()), InventoryImported)
    assert (answer.rows, answer.written, answer.refused) == (4, 1, 3)
    assert await levels(shop) == {"A": 5, "B": 6, "C": 7, "D": 9}
    assert [problem for _, _, problem in await problems(shop)] == [
        "is missing", "is not a whole number", "is not a whole number",
    ]  # fmt: skip
    assert (await _prices(shop))["A"] == ("Hammer", "1.00")


async def test_the_stock_is_kept(ask: Ask, shop: Database, storages: Storages) -> None:
    """The rest of the row is written; there is no movement. A product that is new has nothing to keep."""
    await ask(await put(storages, FIRST), InventoryImported)
    data = f"{LATER}E,,New,4\nF,,,\n"
    answer = await ask(await put(storages, data.encode(), blank_quantity="keep"), InventoryImported)
    assert (answer.rows, answer.written, answer.refused) == (6, 4, 2)
    assert (answer.products_new, answer.products_changed, answer.products_unchanged) == (0, 3, 1)
    assert await levels(shop) == {"A": 5, "B": 6, "C": 7, "D": 9}
    assert await _prices(shop) == {
        "A": ("Sledge", "2.00"), "B": ("Saw", "1.00"), "C": ("Nail", "3.00"), "D": ("Rasp", "1.00"),
    }  # fmt: skip
    assert await problems(shop) == [
        (6, "quantity", "is missing, and a new product needs one"),
        (7, "sku", "is unknown, and a new product needs a name"),
    ]
    async with shop.engine.connect() as connection:
        assert len((await connection.execute(select(stock_movements))).all()) == 5


async def test_a_product_without_stock_stays_so(ask: Ask, shop: Database, storages: Storages) -> None:
    """Nothing is opened for it."""
    async with shop.engine.begin() as connection:
        row = {"business_id": SHOP, "sku": "K", "name": "x", "price": 1, "created_at": NOW, "updated_at": NOW}
        await connection.execute(insert(products).values(row))
    answer = await ask(await put(storages, b"sku,quantity,name\nK,,y\n", blank_quantity="keep"), InventoryImported)
    assert (answer.products_changed, answer.refused) == (1, 0)
    assert await levels(shop) == {}


async def test_it_is_zero(ask: Ask, shop: Database, storages: Storages) -> None:
    """What is not available is no zero, and neither is a word."""
    await ask(await put(storages, FIRST), InventoryImported)
    data = f"{LATER}E,,New,4\nF,none,New,4\n"
    answer = await ask(await put(storages, data.encode(), blank_quantity="zero"), InventoryImported)
    assert (answer.rows, answer.written, answer.refused) == (6, 4, 2)
    assert await levels(shop) == {"A": 0, "B": 0, "C": 7, "D": 9, "E": 0}
    assert await problems(shop) == [(4, "quantity", "is not a whole number"), (7, "quantity", "is not a whole number")]


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
@pytest.mark.parametrize("blank", ["keep", "zero"])
async def test_locations_together(ask: Ask, shop: Database, storages: Storages, kind: str, blank: str) -> None:
    """Of stock that is kept in one location and counted in another the sum is not known."""
    await ask(await put(storages, FIRST), InventoryImported)
    rows = [
        ("SKU", "Location", "Quantity", "Name"), ("A", "Shop", None, "x"), ("A", "Store", 3, "x"),
        ("B", "Shop", None, "x"), ("B", "Store", None, "x"), ("C", "Shop", 1, "x"), ("C", "Store", 1, "x"),
    ]  # fmt: skip
    text = "\n".join(",".join("" if cell is None else str(cell) for cell in row) for row in rows)
    data = book(("Stock", rows)) if kind == "xlsx" else text.encode()
    answer = await ask(await put(storages, data, location="sum", blank_quantity=blank), InventoryImported)
    if blank == "zero":
        assert await levels(shop) == {"A": 3, "B": 0, "C": 2, "D": 8}
        assert (answer.written, answer.refused) == (6, 0)
    else:
        assert await levels(shop) == {"A": 5, "B": 6, "C": 2, "D": 8}
        assert (answer.written, answer.refused) == (4, 2)
        assert {problem for _, _, problem in await problems(shop)} == {
            "is blank for another location, and the sum is not known"
        }


async def test_check_shows_it(tmp_path: Path) -> None:
    """Before anything is uploaded. A word that is none of the three is refused."""
    path = tmp_path / "stock.csv"
    path.write_text(LATER)
    found = await check_file(path, {"blank_quantity": "keep"}, FileSettings())
    assert (found.result["good"], found.result["read_as"]["blank quantity"]) == (4, "keep")
    assert "blank quantity: keep" in found.lines()
    assert (await check_file(path, {}, FileSettings())).result["refused"] == 3
    with pytest.raises(FileRefused, match="blank_quantity is one of refuse, keep, zero, and not 'nought'"):
        ImportOptions.checked(blank_quantity="nought")
