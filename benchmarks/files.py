"""`python -m benchmarks.files`: imports and exports a million rows through a running file processor, and prints rates,
ratios and the memory of the process. The floor is what a program would do that only has to get it done: polars reads
the whole file, and sqlite3 inserts the rows, in transactions of the same size.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import polars as pl
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table
from sqlalchemy import insert

from processors.file import store_upload
from processors.shared.database import Database
from processors.shared.database.migration import upgrade
from processors.shared.database.tables import businesses
from processors.shared.storage import Storages, StorageSettings
from schemas import InventoryExported, InventoryExportRequested, InventoryImported
from schemas.files import ExportFormat
from streams import Event, Settings, Streams
from streams.errors import exit_on_error
from streams.redis.embedded import EmbeddedRedis, find_servers

CHUNK: Final = 5_000
MOST_RSS: Final = 300  # MiB
MOST_SHEET_RSS: Final = 400  # MiB, of an import of a workbook
LEAST_RATIO: Final = 0.5
_PATIENCE: Final = 600.0  # seconds


def make_file(path: Path, rows: int, *, quoted: bool) -> None:
    """A file as an inventory system writes it; `quoted` with commas in the names, which another reader reads."""
    numbers = pl.int_range(rows, eager=True)
    pl.DataFrame({
        "sku": "SKU-" + numbers.cast(pl.String).str.zfill(8),
        "quantity": numbers % 977 + 1,
        "name": "Product number " + numbers.cast(pl.String) + (", assorted" if quoted else " assorted"),
        "category": "category " + (numbers % 40).cast(pl.String),
        "price": (((numbers % 9000) + 50) / 100).round(2),
        "threshold": numbers % 20,
    }).write_csv(path)  # fmt: skip


def make_workbook(path: Path, rows: int) -> None:
    """The same as a workbook, as a spreadsheet writes it: texts are shared, numbers are numbers."""
    import xlsxwriter

    with xlsxwriter.Workbook(path, {"constant_memory": False}) as book:
        sheet = book.add_worksheet("Stock")
        sheet.write_row(0, 0, ["sku", "quantity", "name", "category", "price", "threshold"])
        for n in range(rows):
            values = [
                f"XL-{n:08d}",
                n % 977 + 1,
                f"Product number {n}",
                f"category {n % 40}",
                (n % 9000 + 50) / 100,
                n % 20,
            ]
            sheet.write_row(n + 1, 0, values)


def import_barely(path: Path, database: Path) -> None:
    """The floor."""
    frame = pl.read_csv(path)
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        for start in range(0, frame.height, CHUNK):
            rows = frame[start : start + CHUNK].rows()
            keyed = list(enumerate(rows, start + 1))
            connection.executemany(
                "INSERT INTO products (id, business_id, sku, name, category, price, threshold, created_at, updated_at) "
                "VALUES (?, 1, ?, ?, ?, ?, ?, ?, ?)",
                [(id, sku, name, kind, price, least, now, now) for id, (sku, _, name, kind, price, least) in keyed],
            )
            connection.executemany(
                "INSERT INTO stock_levels (product_id, quantity, version, updated_at) VALUES (?, ?, 1, ?)",
                [(id, row[1], now) for id, row in keyed],
            )
            connection.executemany(
                "INSERT INTO stock_movements (product_id, delta, quantity, reason, reference, moved_at) "
                "VALUES (?, ?, ?, 'import', 'x', ?)",
                [(id, row[1], row[1], now) for id, row in keyed],
            )
            connection.commit()


async def prepare(database: Path) -> None:
    """Empty tables with one business."""
    opened = Database(f"sqlite:///{database}")
    await upgrade(opened.engine)
    async with opened.engine.begin() as connection:
        row = {"id": 1, "name": "Shop", "currency": "EUR", "created_at": datetime.now(UTC)}
        await connection.execute(insert(businesses).values(**row))
    await opened.aclose()


class Running:
    """A file processor as a process of its own."""

    def __init__(self, env: Mapping[str, str], log: Path, streams: Streams) -> None:
        self._streams, self._log = streams, log
        with log.open("wb") as written:
            self._process = subprocess.Popen([sys.executable, "-m", "processors.file"], env=env, stderr=written)

    async def answer(self, event: Event, kind: type[Event]) -> tuple[Any, float]:
        """The event that follows, and the seconds until it was there."""
        while b"consumer.started" not in self._log.read_bytes():
            assert self._process.poll() is None, self._log.read_text()
            await asyncio.sleep(0.05)
        stream = self._streams.keys.stream("files")
        last = (await self._streams.redis.xrevrange(stream, count=1) or [(b"0", {})])[0][0]
        began = time.perf_counter()
        await self._streams.publish(event)
        while time.perf_counter() - began < _PATIENCE:
            for _, fields in await self._streams.redis.xrange(stream, b"(" + last):
                type = fields[b"type"].decode()
                assert type != "InventoryImportFailed", fields
                if type == kind.type:
                    return kind.decode(fields[b"data"], kind.version), time.perf_counter() - began
            assert self._process.poll() is None, self._log.read_text()
            await asyncio.sleep(0.05)
        raise AssertionError(f"no {kind.type} within {_PATIENCE} s")

    def end(self) -> float:
        """Ends it, and says how many MiB it had at most."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        most = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
        self._process.terminate()
        self._process.wait(30)
        return most / 1024

    def kill(self) -> None:
        """Ends it at once, if it runs."""
        if self._process.poll() is None:
            self._process.kill()


@asynccontextmanager
async def running(env: Mapping[str, str], home: Path) -> AsyncIterator[Running]:
    """A processor, and a client of its Redis."""
    settings = Settings(redis_url=SecretStr(env["REDIS_URL"]), accept_risk=frozenset({"no-aof"}))
    async with Streams(settings=settings) as streams:
        process = Running(env, home / "log", streams)
        try:
            yield process
        finally:
            process.kill()


async def measure_floor(file: Path, database: Path) -> tuple[float, float]:
    """Seconds and MiB of the floor, in a process of its own on empty tables."""
    await prepare(database)
    command = [sys.executable, "-m", "benchmarks.files", "--floor", str(file), str(database)]
    took, rss = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(took), float(rss)


async def measure(
    rows: int, formats: list[ExportFormat], home: Path, redis_url: str, *, quoted: bool, sheet_rows: int
) -> Table:
    """Everything, one after the other, each in a fresh process."""
    table = Table("work", "seconds", "rows/s", "of the floor", "RSS (MiB)", title=f"{rows} rows, SQLite")
    file, database = home / "stock.csv", home / "business.db"
    make_file(file, rows, quoted=quoted)
    await prepare(database)
    before, bare_rss = await measure_floor(file, home / "before.db")
    env = {
        **os.environ, "REDIS_URL": redis_url, "DATABASE_URL": f"sqlite:///{database}", "STREAMS_HOME": str(home),
        "STREAMS_ACCEPT_RISK": "no-aof", "MAX_FILE_SIZE": str(2**30), "LOG_FORMAT": "json", "OTEL_SDK_DISABLED": "true",
        "FILE_CHUNK_ROWS": str(CHUNK),
    }  # fmt: skip
    os.environ.update({"STREAMS_HOME": str(home), "MAX_FILE_SIZE": env["MAX_FILE_SIZE"]})
    event = await store_upload(file, 1, Storages(StorageSettings.load()))
    async with running(env, home) as process:
        answer, took = await process.answer(event, InventoryImported)
        rss = process.end()
    assert answer.written == rows
    # Once before and once after, because others may use the machine; the faster one is what counts.
    bare = min(before, (await measure_floor(file, home / "after.db"))[0])
    table.add_row("floor: polars + sqlite3", f"{bare:.1f}", f"{rows / bare:.0f}", "1.00", f"{bare_rss:.0f}")
    table.add_row("import", f"{took:.1f}", f"{rows / took:.0f}", f"{bare / took:.2f}", f"{rss:.0f}")
    _judge("import", rss, bare / took)
    if sheet_rows:
        book = home / "stock.xlsx"
        await asyncio.to_thread(make_workbook, book, sheet_rows)
        event = await store_upload(book, 1, Storages(StorageSettings.load()))
        async with running(env, home) as process:
            answer, took = await process.answer(event, InventoryImported)
            rss = process.end()
        assert answer.written == sheet_rows
        rows += sheet_rows
        table.add_row(
            f"import of {sheet_rows} rows as xlsx", f"{took:.1f}", f"{sheet_rows / took:.0f}", "", f"{rss:.0f}"
        )
        if rss >= MOST_SHEET_RSS:
            print(f"MISSED: import of a workbook: {rss:.0f} MiB (under {MOST_SHEET_RSS})")
    for format in formats:
        async with running(env, home) as process:
            asked = InventoryExportRequested(business_id=1, format=format)
            answer, took = await process.answer(asked, InventoryExported)
            rss = process.end()
        assert answer.rows == rows
        table.add_row(f"export as {format}", f"{took:.1f}", f"{rows / took:.0f}", "", f"{rss:.0f}")
        _judge(f"export as {format}", rss)
    return table


def _judge(work: str, rss: float, ratio: float = LEAST_RATIO) -> None:
    sys.stderr.write(f"{work} is measured: {rss:.0f} MiB\n")
    if rss >= MOST_RSS or ratio < LEAST_RATIO:
        print(f"MISSED: {work}: {rss:.0f} MiB (under {MOST_RSS}), {ratio:.2f} of the floor (at least {LEAST_RATIO})")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--sheet-rows", type=int, default=200_000, help="of the workbook that is imported; 0 for none")
    parser.add_argument("--formats", default="csv,parquet,ndjson,xlsx")
    parser.add_argument("--quoted", action="store_true", help="with names in quotes")
    parser.add_argument("--floor", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.floor:
        import resource

        began = time.perf_counter()
        import_barely(*options.floor)
        print(time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    newest = max(find_servers(), key=lambda server: server.version)
    with tempfile.TemporaryDirectory(prefix="bench-files-") as directory:
        home = Path(directory)
        (home / "redis").mkdir()
        server = EmbeddedRedis(home / "redis", newest)
        try:
            table = asyncio.run(
                measure(
                    options.rows,
                    [format for format in options.formats.split(",") if format],
                    home,
                    server.start(),
                    quoted=options.quoted,
                    sheet_rows=options.sheet_rows,
                )
            )
        finally:
            server.stop()
    Console().print(table)


if __name__ == "__main__":
    with exit_on_error():
        Settings.load()  # a wrong setting is one line, before anything is started
        main()
