"""Imports: every good row is in the database once, every bad one is in the report, and nothing is half done."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import insert, select

from processors.shared.database import Database
from processors.shared.database.tables import products, stock_movements
from processors.shared.storage import Storages
from processors.shared.storage.file_key import FileKey
from schemas import InventoryImported, InventoryImportFailed, StockCheckDue
from streams import Streams
from tests.processors.file.conftest import NOW, SHOP, levels, problems, published, put

Ask = Callable[..., Awaitable[Any]]

pytestmark = pytest.mark.newest_redis


async def _report(storages: Storages) -> str:
    files = [found async for found in storages.exports.ls() if found.key.endswith(".csv")]
    assert len(files) == 1
    return b"".join([block async for block in storages.exports.read(files[0].key)]).decode("utf-8-sig")


async def test_a_file_is_imported(ask: Ask, shop: Database, storages: Storages, streams: Streams) -> None:
    """New products are made, known ones described and counted anew; what did not change is no movement."""
    first = (
        b"SKU;Quantity;Name;Price;Min. stock\nA;5;Hammer;12,50;2\nB;0;Saw;1.234,00;\n\nC;7;Nail;0,5;1\nD;1;Screw;1;1\n"
    )
    answer = await ask(await put(storages, first), InventoryImported)
    assert (answer.rows, answer.written, answer.refused, answer.repeated, answer.errors_file) == (4, 4, 0, False, None)
    assert await levels(shop) == {"A": 5, "B": 0, "C": 7, "D": 1}
    assert await published(streams, StockCheckDue, "inventory") == [StockCheckDue(business_id=SHOP)]

    second = 'sku,on hand,product name\r\n"A","4",\r\nB,0,"Saw, 30 cm"\r\nE,3,Rasp\r\n'.encode("utf-16")
    answer = await ask(await put(storages, second), InventoryImported)
    assert answer.written == 3
    assert await levels(shop) == {"A": 4, "B": 0, "C": 7, "D": 1, "E": 3}
    async with shop.engine.connect() as connection:
        rows = (await connection.execute(select(products).order_by(products.c.sku))).all()
        moved = (await connection.execute(select(stock_movements).order_by(stock_movements.c.id))).all()
    assert [(row.sku, row.name, str(row.price), row.threshold) for row in rows] == [
        ("A", "Hammer", "12.50", 2), ("B", "Saw, 30 cm", "1234.00", 0), ("C", "Nail", "0.50", 1),
        ("D", "Screw", "1.00", 1), ("E", "Rasp", "0.00", 0),
    ]  # fmt: skip
    assert [(row.delta, row.quantity, row.reason) for row in moved] == [
        (5, 5, "import"), (7, 7, "import"), (1, 1, "import"), (-1, 4, "import"), (3, 3, "import"),
    ]  # fmt: skip


async def test_the_same_file_twice_is_imported_once(ask: Ask, shop: Database, storages: Storages) -> None:
    """Whatever it is called the second time; unless it is asked for, or another file was imported since."""
    data = b"sku,quantity,name\nA,5,Hammer\n"
    first = await ask(await put(storages, data, name="one.csv"), InventoryImported)
    other = await ask(await put(storages, b"sku,quantity,name\nA,6,Hammer\n"), InventoryImported)
    restored = await ask(await put(storages, data, name="two.csv"), InventoryImported)
    second = await ask(await put(storages, data, name="three.csv"), InventoryImported)
    assert (first.repeated, other.repeated, restored.repeated, second.repeated) == (False, False, False, True)
    assert (second.import_id, second.written) == (restored.import_id, 1)
    assert await levels(shop) == {"A": 5}
    again = await ask(await put(storages, data, again=True), InventoryImported)
    assert (again.repeated, again.written, again.products_unchanged) == (False, 1, 1)
    assert await levels(shop) == {"A": 5}


async def test_bad_rows_are_reported_with_their_lines(
    ask: Ask, shop: Database, storages: Storages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The good ones are imported. The report opens in a spreadsheet, and is where the event says."""
    rows = [
        "sku,quantity,name,price", "A,1,Hammer,1.00", ",2,Nameless,1", "B,-1,Saw,1", "C,NaN,Saw,1", "C2,,Saw,1",
        "D,99999999999999999999,Saw,1", "E,1.5,Saw,1", "F,1,=1+1,1", "G,1,Saw,free", "H,1,Saw,1,extra", "I,3,Nail",
        '"J","4","two', 'lines",1', "K,5,Twice,1", "K,6,Twice,1", "L,7,,1", "M,2,Saw,1e5",
    ]  # fmt: skip
    monkeypatch.setenv("FILE_ERRORS_SHARE", "1")
    answer = await ask(await put(storages, "\n".join(rows).encode()), InventoryImported)
    assert (answer.rows, answer.written, answer.refused) == (16, 2, 14)
    assert await levels(shop) == {"A": 1, "I": 3}
    expected = [
        (3, "sku", "is missing"), (4, "quantity", "is negative"), (5, "quantity", "is not a whole number"),
        (6, "quantity", "is missing"), (7, "quantity", "is more than 1000000000000"),
        (8, "quantity", "is not a whole number"), (9, "name", "is a formula"),
        (10, "price", "is no amount with at most two decimals"), (11, "row", "has more fields than the first line"),
        (13, "name", "has control characters"), (15, "sku", "is also on line 16"), (16, "sku", "is also on line 15"),
        (17, "sku", "is unknown, and a new product needs a name"),
        (18, "price", "is no amount with at most two decimals"),
    ]  # fmt: skip
    assert await problems(shop) == expected
    report = (await _report(storages)).splitlines()
    assert report[0] == "row,line,sku,column,value,problem,cure"
    assert report[1] == '3,3,,sku,,is missing,"fill the cell, or delete the row"'
    assert report[2] == "4,4,B,quantity,'-1,is negative,enter what is there: 0 or more"
    assert report[10].startswith("13,13,J,name,")
    assert report[12].startswith("14,15,K,sku,K,is also on line 16")  # a spreadsheet counts rows, an editor lines
    assert len(report) == 16  # a name over two lines is one row of them
    assert str(answer.errors_file).startswith(f"{SHOP}/")


async def test_too_many_errors_are_no_import(ask: Ask, shop: Database, storages: Storages) -> None:
    """Nothing was written, the report says why, the original is there; a corrected file is another one."""
    rows = ["sku,quantity,name", *(f"S{n},{n if n > 11 else 'many'},Saw" for n in range(1, 101))]
    event = await put(storages, "\n".join(rows).encode())
    answer = await ask(event, InventoryImportFailed)
    assert answer.problem == "11 of 100 rows cannot be imported, so nothing was"
    assert (answer.refused, len((await _report(storages)).splitlines())) == (11, 12)
    assert await levels(shop) == {}
    assert (await storages.uploads.find(FileKey.checked(event.file))).bytes > 0
    # The same file, for whoever has raised the limit meanwhile: it is looked at anew.
    again = await ask(await put(storages, "\n".join(rows).encode()), InventoryImportFailed)
    assert again.import_id == answer.import_id
    rows[1] = "S1,1,Saw"
    answer = await ask(await put(storages, "\n".join(rows).encode()), InventoryImported)
    assert (answer.written, answer.refused) == (90, 10)


async def test_without_names_only_what_is_known_is_counted(ask: Ask, shop: Database, storages: Storages) -> None:
    """A mistyped SKU does not become a product; the wrong business' file is refused as a whole."""
    async with shop.engine.begin() as connection:
        rows = [
            {"business_id": SHOP, "sku": f"S{n}", "name": "x", "price": 1, "created_at": NOW, "updated_at": NOW}
            for n in range(30)
        ]
        await connection.execute(insert(products), rows)
    good = "\n".join(["sku\tquantity", *(f"S{n}\t{n}" for n in range(30)), "T1\t5"])
    answer = await ask(await put(storages, good.encode()), InventoryImported)
    assert (answer.written, answer.refused) == (30, 1)
    assert await levels(shop) == {f"S{n}": n for n in range(30)}
    other = "\n".join(["sku|quantity", *(f"T{n}|{n}" for n in range(30))])
    answer = await ask(await put(storages, other.encode()), InventoryImportFailed)
    assert answer.problem == "30 of 30 rows cannot be imported, so nothing was"
