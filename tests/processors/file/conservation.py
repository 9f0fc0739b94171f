"""Conservation: every row of a file is written or refused, every row that is written is in the database, and what the
event says is what the database says. The fixtures of the tests ask for it when a test has ended, whatever the test is.

The rows of a file are read here once more, by the standard library and without the importer's readers.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import openpyxl
import orjson
import polars as pl
from sqlalchemy import distinct, func, select

from processors.file.checked_rows import SCHEMA, PartWriter, read_parts
from processors.file.header import plain
from processors.file.import_options import ImportOptions
from processors.file.sku_text import clean_skus, unguarded
from processors.file.survey import Survey, survey
from processors.file.upload_source import LocalSource
from processors.shared.database import Database
from processors.shared.database.tables import import_errors, imports, products, stock_levels, stock_movements
from processors.shared.storage import Storages
from processors.shared.storage.file_key import FileKey
from schemas import InventoryImported, InventoryImportFailed
from streams import Event

Row = tuple[int, str, str]
"""A row of a file: its line, its SKU and its quantity, as the file has them."""

_TOGETHER: Final = "sum"  # the location that is all of them
_NOTHING: Final = re.compile(r"(?:[-\u2013\u2014]+|n/?a|n\.a\.)?", re.IGNORECASE)  # quantities that can mean: as it is


def rows_of(data: bytes, dialect: dict[str, Any]) -> list[Row]:
    """The rows of a file that hold something: below its header, and of the location that was chosen."""
    used = {column for name, column in dialect["columns"].items() if name != "location"}
    used |= {*dialect["quantities"], *dialect["instead"].values()}
    place, wanted = dialect["columns"].get("location"), plain(dialect["location"])
    found = []
    for line, cells in _sheet(data, dialect) if dialect["sheet"] else _lines(data, dialect):
        texts = [str(cell).strip() if cell is not None else "" for cell in cells]
        texts += [""] * (len(dialect["cells"]) - len(texts))
        extra = [] if dialect["sheet"] else texts[len(dialect["cells"]) :]
        if not any(texts[column] for column in used) and not any(extra):
            continue
        if place is not None and wanted not in ("", _TOGETHER) and plain(texts[place]) != wanted:
            continue
        quantity = texts[dialect["quantities"][0]] if len(dialect["quantities"]) == 1 else ""
        found.append((line, texts[dialect["columns"]["sku"]], "" if dialect["instead"] else quantity))
    return found


def _sheet(data: bytes, dialect: dict[str, Any]) -> list[tuple[int, Sequence[Any]]]:
    book = openpyxl.load_workbook(io.BytesIO(data), data_only=True)
    rows = book[dialect["sheet"]].iter_rows(values_only=True)
    return [(number, cells) for number, cells in enumerate(rows, 1) if number > dialect["row"]]


def _lines(data: bytes, dialect: dict[str, Any]) -> list[tuple[int, Sequence[Any]]]:
    text = data.decode(dialect["encoding"]).removeprefix("\ufeff").removesuffix("\x1a")
    # What ends a line is what ends the first one: another sign within a line is text.
    lines = [re.sub(r"[\r\n]", " ", line.rstrip("\r")) + "\n" for line in text.split(dialect["newline"])]
    first = dialect["line"]
    reader = csv.reader(lines[first:], delimiter=dialect["delimiter"])
    found, before = [], 0
    for cells in reader:
        found.append((first + before + 1, cells))
        before = reader.line_num
    return found


async def surveyed(path: Path, options: ImportOptions, storages: Storages) -> tuple[Survey, pl.DataFrame]:
    """Surveys a file, and returns the rows that would be written as well. Each row is one of them, or refused."""
    key = FileKey.new(1, "arrow", made_from="a survey")

    @asynccontextmanager
    async def parts() -> AsyncIterator[PartWriter]:
        async with storages.exports.write(key) as file:
            yield PartWriter(file, 7)

    made = await survey(LocalSource(path), options, open_parts=parts)
    found = [part.rows async for part in read_parts(storages.exports, key, 0)]
    lines = {problem["line"] for problem in made.problems}
    rows = pl.concat(found) if found else pl.DataFrame(schema=SCHEMA)
    good = rows.filter(~pl.col("line").is_in(list(lines)))
    told = f"{made.rows} rows, {good.height} of them good, {made.refused} refused, {len(lines)} lines"
    assert len(rows_of(path.read_bytes(), made.dialect.as_json())) == made.rows, told
    assert not made.is_complete or good["merged"].sum() + made.refused == made.rows, told
    return made, good


async def assert_conserved(database: Database, storages: Storages, events: Sequence[Event] = ()) -> int:
    """Looks at every import of a database, and at the events about them; returns how many imports there are."""
    async with database.engine.connect() as connection:
        found = (await connection.execute(select(imports))).all()
        for row in found:
            wrong = import_errors.c.import_id == row.id
            lines = set(await connection.scalars(select(import_errors.c.line).where(wrong)))
            moved = select(func.count(distinct(stock_movements.c.product_id)), func.count())
            moved = moved.where(stock_movements.c.reason == "import", stock_movements.c.reference == row.id)
            moved_products, movements = (await connection.execute(moved)).one()
            if row.status in ("aborted", "failed") and row.rows_done == 0:
                assert movements == 0, f"{row.id}: nothing was written, and there are movements"
            assert movements <= row.rows_new + row.rows_changed <= row.rows_done or row.status == "checking", row
            if row.status != "done":
                continue
            assert movements == moved_products, f"{row.id}: a row was written twice"
            options = orjson.loads(row.options)
            if "dialect" not in options:  # a row that a test has made up
                assert row.rows_done == 0, row
                continue
            rows = await _read(storages, row, options["dialect"])
            if rows is None:
                continue
            told = f"{row.id}: {len(rows)} rows, {row.rows_done} written, {row.rows_refused} refused"
            assert len(rows) == row.rows_done + row.rows_refused == options["rows"], told
            assert lines <= {line for line, _, _ in rows}, told
            good = [found for found in rows if found[0] not in lines]
            if plain(options["dialect"]["location"]) != _TOGETHER:
                assert len(good) == row.rows_done, told
            await _assert_written(connection, row, good, options["dialect"])
    for event in events:
        _assert_told(event, {row.id: row for row in found})
    return len(found)


async def _read(storages: Storages, row: Any, dialect: dict[str, Any]) -> list[Row] | None:
    """None for a file that is gone, or is another one now."""
    try:
        data = b"".join([block async for block in storages.uploads.read(FileKey(row.file))])
    except FileNotFoundError:
        return None
    return rows_of(data, dialect) if hashlib.sha256(data).hexdigest() == row.sha256 else None


async def _assert_written(connection: Any, row: Any, good: Sequence[Row], dialect: dict[str, Any]) -> None:
    """Each row's product has a stock that this file has set, or a later one; and it is what the row says."""
    query = select(products.c.sku, stock_levels.c.quantity, stock_levels.c.uploaded).outerjoin(stock_levels)
    there = {
        sku: (quantity, uploaded)
        for sku, quantity, uploaded in await connection.execute(query.where(products.c.business_id == row.business_id))
    }
    own = (stock_movements.c.product_id == products.c.id) & (products.c.business_id == row.business_id)
    moves = select(products.c.sku, stock_movements.c.quantity, stock_movements.c.reference, stock_movements.c.reason)
    moves = moves.join(stock_movements, own)
    movements = [*await connection.execute(moves.order_by(stock_movements.c.id))]
    moved = {move.sku: move.quantity for move in movements if move.reference == row.id}
    last = {move.sku: move.quantity for move in movements}
    others = {move.sku for move in movements if move.reason != "import"}
    skus = unguarded(clean_skus(pl.Series([sku for _, sku, _ in good], dtype=pl.String))).to_list()
    for (line, raw, cell), sku in zip(good, skus, strict=True):
        if dialect["sheet"] and sku not in there:
            continue  # a number whose format has leading zeros, say: the tests of workbooks look at those
        assert sku in there, f"line {line}: {raw!r} was written, and there is no such product"
        quantity, uploaded = there[sku]
        is_blank = _NOTHING.fullmatch(cell) is not None
        if quantity is None and is_blank:
            continue  # a blank cell that keeps the stock, of a product that has none
        if not is_blank:
            assert (uploaded or 0) >= row.uploaded, f"line {line}: {sku!r} was not written"
        assert quantity == last.get(sku, 0), f"{sku!r}: the stock is not what the last movement has made of it"
        if uploaded == row.uploaded and re.fullmatch("[0-9]{1,9}", cell) and not dialect["location"]:
            # What became of it since, a sale say, has movements of its own.
            written = moved[sku] if sku in moved else int(cell) if sku in others else quantity
            assert written == int(cell), f"line {line}: {sku!r} has {written} and not {cell}"


def _assert_told(event: Event, rows: dict[str, Any]) -> None:
    """An event that is about an import says of it what the database does."""
    if isinstance(event, InventoryImported):
        row = rows[event.import_id]
        assert event.rows == event.written + event.refused, event
        assert event.written == event.products_new + event.products_changed + event.products_unchanged, event
        told = (event.written, event.refused, event.products_new, event.products_changed)
        assert told == (row.rows_done, row.rows_refused, row.rows_new, row.rows_changed), event
    elif isinstance(event, InventoryImportFailed) and event.import_id in rows:
        row = rows[event.import_id]
        if row.status in ("aborted", "failed"):  # it was not begun anew since
            assert (event.written, event.refused) == (row.rows_done, row.rows_refused), event
