"""Exports: what is in the database is in the file, in every format, as other readers see it; nothing is a formula."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, get_args

import httpx
import openpyxl
import polars as pl
import pytest
from sqlalchemy import func, insert, select, update

from processors.file.cleanup import clean_up
from processors.file.settings import FileSettings
from processors.file.stock_pages import SCHEMA, stock_pages
from processors.file.workbook import Workbook
from processors.shared.database import Database
from processors.shared.database.tables import exports, products, stock_levels
from processors.shared.storage import Storages
from processors.shared.storage.download import download_app
from processors.shared.storage.file_key import FileKey
from schemas import ExportsCleanupDue, InventoryExported, InventoryExportRequested, InventoryImported
from schemas.files import ExportFormat
from streams import Streams
from tests.processors.file.conftest import NOW, SHOP, put
from tests.processors.links import link_to
from tests.support.waiting import wait_until

Ask = Callable[..., Awaitable[Any]]

FORMATS = get_args(ExportFormat)
FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", '"=1', "'=1", "=cmd|' /C calc'!A0"]
PLAIN = ["Säge, 30 cm", 'with "quotes"', "two\nlines", "a=b", "1-2", ""]


async def _fill(database: Database, count: int) -> list[tuple[str, str, int]]:
    """Products of two businesses; the names of one, in order, begin with whatever is dangerous."""
    names = FORMULAS + PLAIN
    rows = [
        {"business_id": SHOP, "sku": f"S{n:05d}", "name": names[n % len(names)], "category": "c", "threshold": n % 3,
         "price": Decimal(n) / 4, "created_at": NOW, "updated_at": NOW}
        for n in range(count)
    ]  # fmt: skip
    async with database.engine.begin() as connection:
        await connection.execute(insert(products), rows)
        ids = list(await connection.scalars(select(products.c.id).order_by(products.c.id)))
        levels = [{"product_id": id, "quantity": n, "updated_at": NOW} for n, id in enumerate(ids) if n % 7]
        await connection.execute(insert(stock_levels), levels)
    return [(row["sku"], row["name"], n if n % 7 else 0) for n, row in enumerate(rows)]  # type: ignore[misc]


async def _fetch(storages: Storages, url: Any) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=download_app(storages))) as client:
        return await client.get(str(url))


def _read(format: str, data: bytes) -> list[tuple[Any, ...]]:
    """SKU, name, quantity and price, as somebody else's reader has them."""
    if format == "csv":
        rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")))
        return [(row["sku"], row["name"], int(row["quantity"]), float(row["price"])) for row in rows]
    if format == "json":
        return [(row["sku"], row["name"], row["quantity"], row["price"]) for row in json.loads(data)]
    if format == "ndjson":
        return [(row["sku"], row["name"], row["quantity"], row["price"]) for row in map(json.loads, data.splitlines())]
    if format == "xlsx":
        sheet = openpyxl.load_workbook(io.BytesIO(data)).active
        assert sheet is not None
        assert {cell.data_type for row in sheet.iter_rows() for cell in row} <= {"s", "n", "d"}  # no formula
        return [(row[0], row[1] or "", row[4], row[3]) for row in sheet.iter_rows(min_row=2, values_only=True)]
    frame = pl.read_parquet(io.BytesIO(data))
    assert frame.schema == pl.Schema(SCHEMA)
    return [(row["sku"], row["name"], row["quantity"], float(row["price"])) for row in frame.iter_rows(named=True)]


@pytest.mark.newest_redis
async def test_an_export_holds_what_the_database_does(ask: Ask, shop: Database, storages: Storages) -> None:
    """In every format, behind its link. In those that spreadsheets open, what looks like a formula is text."""
    expected = await _fill(shop, 40)
    for format in FORMATS:
        answer = await ask(InventoryExportRequested(business_id=SHOP, format=format), InventoryExported)
        fetched = await _fetch(storages, await link_to(storages, answer))
        assert (answer.rows, answer.bytes, fetched.status_code) == (40, len(fetched.content), 200)
        named = fetched.headers["content-disposition"]
        assert f'filename="stock-shop-sohne-{datetime.now(UTC):%Y-}' in named
        assert f"filename*=UTF-8''stock-shop-s%C3%B6hne-{datetime.now(UTC):%Y-}" in named
        for (sku, name, quantity), found in zip(expected, _read(format, fetched.content), strict=True):
            escape_formulas = f"'{name}" if format in ("csv", "xlsx") and name in FORMULAS else name
            if format == "xlsx":
                escape_formulas = escape_formulas.replace("\r", "_x000D_") if "_x000D_" in found[1] else escape_formulas
            assert found == (sku, escape_formulas, quantity, int(sku[1:]) / 4), format


@pytest.mark.newest_redis
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_an_exported_csv_can_be_imported(ask: Ask, shop: Database, storages: Storages) -> None:
    """Guarded cells come back as they were."""
    expected = [row for row in await _fill(shop, 40) if row[1].isprintable()]
    answer = await ask(InventoryExportRequested(business_id=SHOP), InventoryExported)
    data = (await _fetch(storages, await link_to(storages, answer))).content
    async with shop.engine.begin() as connection:
        await connection.execute(update(stock_levels).values(quantity=77))
        await connection.execute(update(products).values(name="changed"))
    imported = await ask(await put(storages, data), InventoryImported)
    assert imported.written == len(expected)
    async with shop.engine.connect() as connection:
        rows = (await connection.execute(
            select(products.c.sku, products.c.name, stock_levels.c.quantity)
            .join(stock_levels).where(products.c.name != "changed").order_by(products.c.sku)
        )).all()  # fmt: skip
    assert [tuple(row) for row in rows] == [(sku, name, quantity) for sku, name, quantity in expected if name]


@pytest.mark.newest_redis
async def test_a_business_without_products_has_an_empty_export(ask: Ask, storages: Storages) -> None:
    """A file that opens, with its first line."""
    for format in FORMATS:
        answer = await ask(InventoryExportRequested(business_id=SHOP, format=format), InventoryExported)
        assert answer.rows == 0
        assert _read(format, (await _fetch(storages, await link_to(storages, answer))).content) == []


async def test_pages_are_of_one_moment(shop: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is changed, added or removed meanwhile is in none of them."""
    monkeypatch.setattr("processors.file.stock_pages.PAGE", 10)
    await _fill(shop, 35)
    seen = []
    async for page in stock_pages(shop.engine, SHOP):
        seen += page["quantity"].to_list()
        if len(seen) == 10:
            async with shop.engine.begin() as connection:
                await connection.execute(update(stock_levels).values(quantity=1_000))
                await connection.execute(update(products).values(business_id=SHOP, name="changed"))
    assert seen == [n if n % 7 else 0 for n in range(35)]


def test_a_workbook_goes_on_on_another_sheet(tmp_path: Any) -> None:
    """XLSX has a greatest number of rows."""
    book = Workbook(tmp_path / "x.xlsx", sheet_rows=4)
    row = ("A", "Saw", "", Decimal("1.50"), 3, 0, NOW)
    book.add(pl.DataFrame([row] * 7, schema=SCHEMA, orient="row"))
    book.close()
    read = openpyxl.load_workbook(tmp_path / "x.xlsx")
    assert [(sheet.title, sheet.max_row) for sheet in read.worksheets] == [("Stock", 4), ("Stock 2", 4), ("Stock 3", 2)]


@pytest.mark.newest_redis
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_failed_export_leaves_no_file(
    shop: Database, storages: Storages, streams: Streams, start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk in the middle of it: no half file, no row that says done; the next attempt makes it."""
    from processors.file import file
    from processors.shared.storage.file_writer import FileWriter

    await _fill(shop, 10)
    failed: list[int] = []
    original = FileWriter.write

    async def full(self: FileWriter, data: bytes) -> None:
        await original(self, data)
        if len(failed) < 2 and self.bytes > 100:
            failed.append(self.bytes)
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(FileWriter, "write", full)
    await start(file)
    await streams.publish(InventoryExportRequested(business_id=SHOP, format="ndjson"))

    async def done() -> Any:
        async with shop.engine.connect() as connection:
            return (await connection.execute(select(exports).where(exports.c.status == "done"))).first()

    row = await wait_until(done, 20)
    files = [found async for found in storages.exports.ls()]
    assert len(failed) == 2
    assert [(found.key, found.bytes) for found in files] == [(row.file, row.bytes)]
    assert storages.exports.leftovers(datetime.now(UTC) + timedelta(days=1)) == []


@pytest.mark.newest_redis
async def test_old_exports_are_removed(ask: Ask, shop: Database, storages: Storages, streams: Streams) -> None:
    """By age and by number, with the drafts that dead processes have left; the newest stay."""
    for _ in range(4):
        await ask(InventoryExportRequested(business_id=SHOP), InventoryExported)
    keys = [found.key async for found in storages.exports.ls()]
    async with shop.engine.begin() as connection:
        rows = (await connection.execute(select(exports.c.id, exports.c.file).order_by(exports.c.created_at))).all()
        await connection.execute(
            update(exports).where(exports.c.id == rows[0].id).values(created_at=datetime.now(UTC) - timedelta(days=31))
        )
    assert sorted(keys) == sorted(row.file for row in rows)
    await clean_up(shop, storages.exports, FileSettings())
    assert {found.key async for found in storages.exports.ls()} == {row.file for row in rows[1:]}
    await clean_up(shop, storages.exports, FileSettings(file_exports_most=1))
    assert [found.key async for found in storages.exports.ls()] == [rows[3].file]
    async with shop.engine.connect() as connection:
        left = await connection.scalar(select(func.count()).where(exports.c.status == "removed"))
    assert left == 3
    await streams.publish(ExportsCleanupDue(), priority="low")

    async def settled() -> bool:
        (group,) = await streams.redis.xinfo_groups(streams.keys.stream("files", "low"))
        return not group["pending"] and not group["lag"]

    await wait_until(settled, 20)
    assert (await storages.exports.find(FileKey.checked(rows[3].file))).bytes > 0
