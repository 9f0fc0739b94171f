"""Excel workbooks: their cells are what a person sees in them, and what is packed in them has bounds."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Awaitable, Callable, Sequence
from datetime import date
from typing import Any

import openpyxl
import pytest
from sqlalchemy import select

from processors.file import FileRefused, open_book
from processors.shared.database import Database
from processors.shared.database.tables import products
from processors.shared.storage import Storages
from schemas import InventoryImported
from tests.processors.file.conftest import levels, problems, put

Ask = Callable[..., Awaitable[Any]]


def book(*sheets: tuple[str, Sequence[Sequence[Any]]], change: Callable[[Any], None] | None = None) -> bytes:
    """A workbook of sheets; `change` may do the rest."""
    made = openpyxl.Workbook()
    assert made.active is not None
    made.remove(made.active)
    for title, rows in sheets:
        sheet = made.create_sheet(title)
        for row in rows:
            sheet.append(list(row))
    if change is not None:
        change(made)
    packed = io.BytesIO()
    made.save(packed)
    return packed.getvalue()


HEAD = ("SKU", "Name", "Quantity", "Price")


@pytest.mark.newest_redis
async def test_cells_are_what_they_show(
    ask: Ask, shop: Database, storages: Storages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers have one reading, whatever the text beside them; leading zeros of a format are there; dates, errors and
    formulas without a value are no numbers.
    """
    monkeypatch.setenv("FILE_ERRORS_SHARE", "1")

    def change(made: Any) -> None:
        made["Stock"]["A2"].number_format = "00000"
        made["Stock"].merge_cells("A11:D11")

    rows: list[Sequence[Any]] = [
        HEAD, (123, "Zeros", 1000, 12.5), (4006381333931, "EAN", 7.0, 19.989999999999998),
        ("T-1", "Text", "1.000", "2,50"),
        (1234567890123456789, "Long", 1, 1), ("D-1", "Date", date(2026, 1, 12), 1), ("E-1", "Error", "#N/A", 1),
        ("F-1", "Formula", "=1+1", 1), ("H-1", "Half", 1.5, 1), (date(2026, 1, 2), "Dated", 1, 1), ("a merged note",),
        ("B-1", "Bool", True, 1),
    ]  # fmt: skip
    data = book(("Stock", rows), change=change)
    answer = await ask(await put(storages, data, name="stock.xlsx"), InventoryImported)
    assert await levels(shop) == {"00123": 1000, "4006381333931": 7, "T-1": 1000}
    assert (answer.rows, answer.written, answer.refused) == (11, 3, 8)
    found = await problems(shop)
    assert [(line, field) for line, field, _ in found] == [
        (5, "sku"), (6, "quantity"), (7, "quantity"), (8, "quantity"), (9, "quantity"), (10, "sku"), (11, "quantity"),
        (12, "quantity"),
    ]  # fmt: skip
    assert found[0][2].startswith("was shortened by a spreadsheet")
    assert str(answer.errors_file).endswith(".xlsx")
    async with shop.engine.connect() as connection:
        query = select(products.c.price).order_by(products.c.sku)
        assert [str(price) for price in await connection.scalars(query)] == ["12.50", "19.99", "2.50"]


async def test_which_sheet(storages: Storages) -> None:
    """The first that is shown, or the chosen one; a refusal names the others."""

    def hide(made: Any) -> None:
        made["Secret"].sheet_state = "hidden"

    rows = [HEAD, ("A", "x", 1, 1)]
    hidden = book(("Secret", [("nothing",)]), ("Stock", rows), change=hide)
    assert (await put(storages, hidden)).file.endswith(".xlsx")
    data = book(("Info", [("Read me",)]), ("Stock", rows))
    with pytest.raises(
        FileRefused, match=r"names no column .* \(sheet 'Info'; choose another one with sheet=: 'Stock'\)"
    ):
        await put(storages, data)
    assert (await put(storages, data, sheet="stock")).sheet == "stock"
    with pytest.raises(FileRefused, match="there is no sheet 'Lager'; the workbook has 'Info', 'Stock'"):
        await put(storages, data, sheet="Lager")


def _packed(**parts: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name.replace("__", "/").replace("_xml", ".xml"), data)
    return packed.getvalue()


def _changed(name: str, data: Callable[[bytes], bytes]) -> bytes:
    """A good workbook of which one part is another."""
    source, packed = zipfile.ZipFile(io.BytesIO(book(("Stock", [HEAD, ("A", "x", 1, 1)])))), io.BytesIO()
    with source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for part in source.namelist():
            archive.writestr(part, data(source.read(part)) if part == name else source.read(part))
    return packed.getvalue()


SHEET = "xl/worksheets/sheet1.xml"
BAD = {
    "a bomb": (_changed(SHEET, lambda data: data + b" " * 450_000_000), "holds too much to be unpacked"),
    "a document type": (
        _changed(SHEET, lambda data: b'<!DOCTYPE x [<!ENTITY a "b">]>' + data), "has a document type",
    ),
    "half a sheet": (_changed(SHEET, lambda data: data[: len(data) // 2]), "the workbook is damaged"),
    "no sheet": (_packed(xl__workbook_xml=b"<a/>", content_xml=b""), "the workbook is damaged"),
    "OpenDocument": (_packed(mimetype=b"application/x", content_xml=b"<a/>"), r"OpenDocument spreadsheet \(.ods\)"),
    "binary": (_packed(**{"xl__workbook.bin": b"x", "xl__workbook_xml": b"<a/>"}), r"binary \(.xlsb\)"),
    "an archive": (_packed(stock_xml=b"<a/>"), "no text but seems to be"),
    "cut off": (book(("Stock", [HEAD, ("A", "x", 1, 1)]))[:3000], "no text but seems to be"),
    "old": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(4000), r"old Excel workbook \(.xls\), or one with a password"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
async def test_what_is_no_workbook_of_stock_is_refused(storages: Storages, case: str) -> None:
    """At the door, in words; nothing is stored."""
    data, message = BAD[case]
    with pytest.raises(FileRefused, match=message):
        await put(storages, data)
    assert [found async for found in storages.uploads.ls()] == []


async def test_a_cell_far_away_takes_no_memory(storages: Storages) -> None:
    """A sheet is as large as its cells are many, whatever it says of itself."""
    data = _changed(
        SHEET,
        lambda sheet: sheet.replace(
            b"</sheetData>", b'<row r="1048576"><c r="XFD1048576"><v>1</v></c></row></sheetData>'
        ),
    )
    assert (await put(storages, data)).file.endswith(".xlsx")
    assert open_book.MOST_UNPACKED < 2**30
