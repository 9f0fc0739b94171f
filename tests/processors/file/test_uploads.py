"""What becomes of several files of one business, of SKUs that a spreadsheet has changed, and of imports that crash."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import insert, select

from processors.file import file, importing
from processors.shared.database import Database
from processors.shared.database.tables import exports, imports, products, stock_levels
from processors.shared.storage import Storages
from schemas import (
    InventoryExported,
    InventoryExportFailed,
    InventoryExportRequested,
    InventoryImported,
    InventoryImportFailed,
)
from streams import Streams
from tests.processors.file.conftest import NOW, SHOP, levels, problems, published, put
from tests.streams.conftest import StartConsumer
from tests.support.holders import Held
from tests.support.waiting import wait_until

Ask = Callable[..., Awaitable[Any]]

pytestmark = pytest.mark.newest_redis


async def _have(database: Database, *skus: str) -> None:
    rows = [
        {"business_id": SHOP, "sku": sku, "name": "known", "price": 1, "created_at": NOW, "updated_at": NOW}
        for sku in skus
    ]
    async with database.engine.begin() as connection:
        await connection.execute(insert(products), rows)


@pytest.mark.parametrize("key", ["1", ""])
async def test_a_correction_is_not_overwritten(
    streams: Streams,
    start: StartConsumer,
    shop: Database,
    storages: Storages,
    key: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A large file and, at once, a small one that corrects it: with the business as their key, and without any."""
    monkeypatch.setenv("FILE_CHUNK_ROWS", "200")
    large = "sku,quantity,name\n" + "".join(f"S{n:05d},1,Saw\n" for n in range(3_000))
    small = "sku,quantity\n" + "".join(f"S{n:05d},2\n" for n in range(0, 3_000, 10))
    events = [await put(storages, large.encode()), await put(storages, small.encode())]
    for _ in range(2):
        await start(file)
    for event in events:
        await streams.publish(event, key=key)

    async def both() -> bool:
        return len(await published(streams, InventoryImported)) == 2

    await wait_until(both, 25)
    assert await levels(shop) == {f"S{n:05d}": 1 if n % 10 else 2 for n in range(3_000)}
    assert {(event.rows, event.refused) for event in await published(streams, InventoryImported)} == {
        (3000, 0),
        (300, 0),
    }


async def test_an_earlier_upload_that_comes_late_sets_nothing_that_a_later_one_has(
    shop: Database, storages: Storages, streams: Streams
) -> None:
    """It was in the hands of a process that died: what the later one has set, changed or not, stays."""
    from processors.file.settings import FileSettings
    from streams import Delivery, Progress
    from streams.messages.message import Message

    async def run(data: bytes, place: int) -> importing.ImportRecord:
        event = await put(storages, data)
        message = Message.for_event(event, source="/test", target=streams.keys.stream("files"), id=f"e{place}")
        progress = Progress(Delivery(message, Held("file"), source=message.target, entry_id=b"1-0", count=1), streams)
        made = importing.StockImport(event, f"e{place}", shop, storages, FileSettings.load(), progress, place)
        try:
            return await made.run()
        finally:
            await progress.end()

    await run(b"sku,quantity,name\nA,1,x\nB,2,x\nC,3,x\n", 10)
    await run(b"sku,quantity,name\nA,5,later\nB,2,x\n", 30)
    late = await run(b"sku,quantity,name\nA,7,late\nB,8,late\nC,9,late\nD,4,late\n", 20)
    assert await levels(shop) == {"A": 5, "B": 2, "C": 9, "D": 4}
    assert (late.written, late.new, late.changed, late.unchanged) == (4, 1, 1, 2)
    async with shop.engine.connect() as connection:
        query = select(products.c.sku, products.c.name).order_by(products.c.sku)
        assert [tuple(row) for row in await connection.execute(query)] == [
            ("A", "later"), ("B", "x"), ("C", "late"), ("D", "late"),
        ]  # fmt: skip


DAMAGED = {
    "4.00638E+12": "was shortened", "4,0064E+12": "was shortened", "4006381333931000": "was shortened",
    "12345.0": "was shortened", "02. Jan": "looks like a date", "Jan 02": "looks like a date",
    "12-Dez": "looks like a date", "Summe": "looks like a total", "Grand total:": "looks like a total",
    "# see below": "looks like a comment", "EXAMPLE-SKU": "looks like a line of a template",
    "123": "is unknown, and is '00123' but for", "abc 1": "is unknown, and is 'ABC 1' but for",
    "ABC1": "is unknown, and is 'ABC 1' but for", "x‑9": "is unknown, and is 'X-9' but for",
    "ＡＢＣ 1": "is unknown, and is 'ABC 1' but for",
}  # fmt: skip


async def test_a_changed_sku_is_no_new_product(
    ask: Ask, shop: Database, storages: Storages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless the business has the very one. What nobody sees is no difference."""
    monkeypatch.setenv("FILE_ERRORS_SHARE", "1")
    await _have(shop, "00123", "ABC 1", "X-9", "MÜ-1", "1E5", "MAR-12")
    rows = [*(f'"{sku}",1,New' for sku in DAMAGED), "1E5,5,x", "MAR-12,6,x", "REALLY-NEW,7,x"]
    rows += ["ABC\u00a01,8,x", "X-9\u200b,9,x", "MU\u0308-1,10,x", "00123,11,x"]
    answer = await ask(await put(storages, ("sku,quantity,name\n" + "\n".join(rows)).encode()), InventoryImported)
    assert (answer.products_new, answer.products_changed, answer.refused) == (1, 6, len(DAMAGED))
    assert await levels(shop) == {
        "1E5": 5, "MAR-12": 6, "REALLY-NEW": 7, "ABC 1": 8, "X-9": 9, "MÜ-1": 10, "00123": 11,
    }  # fmt: skip
    found = [problem for _, field, problem in await problems(shop) if field == "sku"]
    for problem, expected in zip(found, DAMAGED.values(), strict=True):
        assert problem.startswith(expected), (problem, expected)
    same = await ask(await put(storages, b"sku,quantity,name\nREALLY-NEW,7,x\nABC 1,9,\n"), InventoryImported)
    assert (same.products_new, same.products_changed, same.products_unchanged) == (0, 1, 1)


async def test_control_characters_become_no_sku(ask: Ask, shop: Database, storages: Storages) -> None:
    """Whatever could not stand in the subject of an alert."""
    rows = ["A\u009615", "B\u2028x", "C\u0007x", "=?utf-8?q?=0aBcc:x?=", "D"]
    data = "sku,quantity,name\n" + "".join(f"{sku},1,x\n" for sku in rows)
    answer = await ask(await put(storages, data.encode()), InventoryImported)
    assert (answer.written, answer.refused) == (1, 4)
    assert await levels(shop) == {"D": 1}


async def test_a_small_file_of_which_all_is_wrong_has_failed(ask: Ask, shop: Database, storages: Storages) -> None:
    """However few rows may be wrong in any file: an import of nothing is none."""
    answer = await ask(
        await put(storages, b"sku,quantity,name\nA,x,y\nB,z,y\n"), InventoryImported, InventoryImportFailed
    )
    assert isinstance(answer, InventoryImportFailed)
    assert (answer.problem, answer.written) == ("2 of 2 rows cannot be imported, so nothing was", 0)
    assert answer.errors_xlsx_file is not None


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_whoever_waits_hears_of_a_crash(
    ask: Ask, shop: Database, storages: Storages, streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the last try: an event with the reason in words, the row says failed, and the dead letter is there too. A
    replay of it goes on where it was.
    """
    broken = True
    real = importing.write_stock

    async def crashes(*given: Any) -> Any:
        if broken:
            raise ZeroDivisionError("a bug that quotes SECRET-SKU")
        return await real(*given)

    monkeypatch.setattr(importing, "write_stock", crashes)
    event = await put(storages, b"sku,quantity,name\nA,1,x\n", user_email="ada@example.com")
    failed = await ask(event, InventoryImportFailed)
    assert "something went wrong at our side (ZeroDivisionError), and was tried 3 times" in failed.problem
    assert "SECRET" not in failed.problem
    assert failed.user_email == "ada@example.com"
    async with shop.engine.connect() as connection:
        row = (await connection.execute(select(imports))).one()
    assert (row.status, row.error, row.id) == ("failed", failed.problem, failed.import_id)

    async def dead() -> bool:
        return await streams.redis.xlen(streams.keys.dead("file")) == 1

    await wait_until(dead, 10)
    broken = False
    await streams.dead_letters("file").replay()

    async def imported() -> list[InventoryImported]:
        return await published(streams, InventoryImported)

    (answer,) = await wait_until(imported, 15)
    assert (answer.import_id, answer.written) == (failed.import_id, 1)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_an_export_that_crashes_is_heard_of(ask: Ask, shop: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for an export."""
    from processors.file import exporting

    real = exporting.count_products

    async def crashes(*given: Any) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(exporting, "count_products", crashes)
    failed = await ask(InventoryExportRequested(business_id=SHOP), InventoryExportFailed)
    assert "something went wrong at our side" in failed.problem
    async with shop.engine.connect() as connection:
        row = (await connection.execute(select(exports))).one()
    assert (row.status, row.error, row.id) == ("failed", failed.problem, failed.export_id)
    monkeypatch.setattr(exporting, "count_products", real)
    assert (await ask(InventoryExportRequested(business_id=SHOP), InventoryExported)).rows == 0


async def test_an_unknown_business_is_heard_of(ask: Ask, storages: Storages) -> None:
    """It is the publisher's mistake, and the one who waits is told all the same."""
    good = await put(storages, b"sku,quantity,name\nA,1,x\n")
    failed = await ask(good.model_copy(update={"business_id": 99}), InventoryImportFailed)
    assert failed.problem == "there is no business 99"


async def test_the_loop_goes_on_while_a_file_is_looked_at(storages: Storages) -> None:
    """Whatever the file: a cell of 64 kB of spaces once took 37 seconds of everybody's time."""
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    ticking = asyncio.ensure_future(tick())
    await put(storages, b"sku;quantity;name;price\nA;1;x;" + b" " * 65_000 + b"x\n")
    ticking.cancel()
    assert ticks > 5


async def test_levels_know_their_upload(ask: Ask, shop: Database, storages: Storages) -> None:
    """What no file has set has none."""
    await _have(shop, "MANUAL")
    async with shop.engine.begin() as connection:
        id = await connection.scalar(select(products.c.id))
        await connection.execute(insert(stock_levels).values(product_id=id, quantity=0, updated_at=NOW))
    await ask(await put(storages, b"sku,quantity,name\nA,1,x\n"), InventoryImported)
    async with shop.engine.connect() as connection:
        query = select(products.c.sku, stock_levels.c.uploaded).join(stock_levels).order_by(products.c.sku)
        (one, other) = (await connection.execute(query)).all()
    assert one.uploaded > 0
    assert other.uploaded is None
