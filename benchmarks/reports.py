"""`python -m benchmarks.reports`: analyses five million sales through a running report processor, and prints the ratio
to the bare polars query and the memory of the process.

The bare query reads the same rows with `polars.read_database`, and sums them by product and by day. A second floor is
the least that any report could do: SQL adds up, and nothing is compared, drawn or stored.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final, get_args

import polars as pl
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table
from sqlalchemy import insert

from processors.shared.database import Database
from processors.shared.database.migration import upgrade
from processors.shared.database.tables import businesses, products, stock_levels
from schemas import ReportFailed, ReportGenerated, ReportRequested
from schemas.reports import ReportFilters, ReportFormat
from streams import Settings, Streams
from streams.errors import exit_on_error
from streams.redis.embedded import EmbeddedRedis, find_servers

LEAST_RATIO: Final = 0.8
MOST_RSS: Final = 300  # MiB
PRODUCTS: Final = 2_000
DAYS: Final = 548
FIRST: Final = date(2025, 5, 1)
LAST: Final = FIRST + timedelta(days=DAYS - 1)
_PATIENCE: Final = 600.0  # seconds
_CHUNK: Final = 250_000
_WHERE: Final = f"WHERE business_id = 1 AND sold_at >= '{FIRST}' AND sold_at < '{LAST + timedelta(days=1)}'"


async def prepare(database: Path, count: int) -> None:
    """One business with 2,000 products and all the sales, spread evenly over 18 months."""
    opened, now = Database(f"sqlite:///{database}"), datetime(2025, 1, 1, tzinfo=UTC)
    await upgrade(opened.engine)
    goods = [
        {"id": n + 1, "business_id": 1, "sku": f"SKU-{n:05d}", "name": f"Product {n}", "category": f"Category {n % 20}",
         "price": 5, "threshold": 3, "created_at": now, "updated_at": now}
        for n in range(PRODUCTS)
    ]  # fmt: skip
    async with opened.engine.begin() as connection:
        await connection.execute(insert(businesses).values(id=1, name="Shop", currency="EUR", created_at=now))
        await connection.execute(insert(products), goods)
        levels = [{"product_id": row["id"], "quantity": 50, "updated_at": now} for row in goods]
        await connection.execute(insert(stock_levels), levels)
    await opened.aclose()
    seconds = DAYS * 86_400 / count
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        for start in range(0, count, _CHUNK):
            n = pl.int_range(start, min(start + _CHUNK, count), eager=True)
            at = pl.lit(FIRST).cast(pl.Datetime("us")) + pl.duration(microseconds=(n * seconds * 1e6).cast(pl.Int64))
            rows = pl.select(
                product=n * 7_919 % PRODUCTS + 1, quantity=n % 4 + 1, price=(n * 31 % 9_000 + 50) / 100,
                at=at.dt.strftime("%Y-%m-%d %H:%M:%S.%6f"),
            )  # fmt: skip
            connection.executemany(
                "INSERT INTO sales (business_id, product_id, quantity, unit_price, sold_at) VALUES (1, ?, ?, ?, ?)",
                rows.iter_rows(),
            )


def query_barely(database: Path) -> int:
    """The bare polars query; returns the revenue in cents."""
    with sqlite3.connect(database) as connection:
        rows = pl.read_database(
            f"SELECT product_id, quantity, unit_price, substr(sold_at, 1, 10) AS day FROM sales {_WHERE}",  # noqa: S608 - our own constant
            connection,
        )
    revenue = pl.col("quantity") * (pl.col("unit_price") * 100).round().cast(pl.Int64)
    sales = rows.lazy().select("product_id", "quantity", pl.col("day").str.to_date(), revenue=revenue)
    by_product, by_day = pl.collect_all(
        [sales.group_by(key).agg(pl.len(), pl.col("quantity", "revenue").sum()) for key in ("product_id", "day")]
    )
    assert by_day.height == DAYS
    return int(by_product["revenue"].sum())


def add_barely(database: Path) -> int:
    """What SQL alone needs; returns the same."""
    sums = "COUNT(*), SUM(quantity), SUM(quantity * CAST(ROUND(unit_price * 100) AS INTEGER))"
    with sqlite3.connect(database) as connection:
        found = [
            connection.execute(f"SELECT {key}, {sums} FROM sales {_WHERE} GROUP BY 1").fetchall()  # noqa: S608 - our own constants
            for key in ("product_id", "substr(sold_at, 1, 10)")
        ]
    return sum(int(row[3]) for row in found[0])


def measure_floor(name: str, database: Path) -> tuple[float, float, float, int]:
    """Seconds, seconds of CPU, MiB and revenue of a floor, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.reports", "--floor", name, str(database)]
    took, cpu, rss, revenue = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(took), float(cpu), float(rss), int(revenue)


@contextmanager
def running(env: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A report processor as a process of its own, once it consumes."""
    with log.open("wb") as written:
        process = subprocess.Popen([sys.executable, "-m", "processors.report"], env=env, stderr=written)
    try:
        while b"consumer.started" not in log.read_bytes():
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        process.wait(30)


def cpu_of(process: subprocess.Popen[bytes]) -> float:
    """The seconds of CPU that it has had."""
    used = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, used)) / os.sysconf("SC_CLK_TCK")


def most_memory(process: subprocess.Popen[bytes]) -> float:
    """How many MiB it had at most."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


async def answer(streams: Streams, event: ReportRequested) -> tuple[Any, float]:
    """The event that follows, and the seconds until it was there."""
    stream, seen = streams.keys.stream("reports"), 0
    seen = await streams.redis.xlen(stream)
    began = time.perf_counter()
    await streams.publish(event)
    while time.perf_counter() - began < _PATIENCE:
        for _, fields in (await streams.redis.xrange(stream))[seen:]:
            assert fields[b"type"] != ReportFailed.type.encode(), fields
            if fields[b"type"] == ReportGenerated.type.encode():
                return ReportGenerated.decode(fields[b"data"], 1), time.perf_counter() - began
        await asyncio.sleep(0.02)
    raise AssertionError(f"no report within {_PATIENCE} s")


def revenue_of(home: Path) -> int:
    """What the CSV that was made says, in cents."""
    (made,) = (home / "reports").glob("*/*.csv")
    return int((pl.read_csv(made)["revenue"] * 100).round().cast(pl.Int64).sum())


async def measure(count: int, formats: list[ReportFormat], home: Path, redis_url: str) -> Table:
    """Everything, one after the other, each in a fresh process."""
    names = ("work", "seconds", "of the floor", "CPU", "of the floor's", "RSS (MiB)")
    table = Table(*names, title=f"{count:,} sales, SQLite")
    database = home / "business.db"
    await prepare(database, count)
    before, before_cpu, bare_rss, revenue = measure_floor("polars", database)
    env = {
        **os.environ, "REDIS_URL": redis_url, "DATABASE_URL": f"sqlite:///{database}", "STREAMS_HOME": str(home),
        "STREAMS_ACCEPT_RISK": "no-aof", "LOG_FORMAT": "json", "OTEL_SDK_DISABLED": "true", "TMPDIR": str(home),
    }  # fmt: skip
    settings = Settings(redis_url=SecretStr(redis_url), accept_risk=frozenset({"no-aof"}))
    found = []
    async with Streams(settings=settings) as streams:
        for format in formats:
            event = ReportRequested(
                business_id=1, report_type="sales-analysis", format=format, user_email="ada@example.com",
                filters=ReportFilters(first_day=FIRST, last_day=LAST),
            )  # fmt: skip
            with running(env, home / "log") as process:
                used = cpu_of(process)
                _, took = await answer(streams, event)
                found.append((format, took, cpu_of(process) - used, most_memory(process)))
    assert "csv" not in formats or revenue_of(home) == revenue
    # Once before and once after, because others may use the machine; the faster one is what counts.
    after, after_cpu, _, _ = measure_floor("polars", database)
    bare, cpu = min(before, after), min(before_cpu, after_cpu)
    *least, same = measure_floor("sql", database)
    assert same == revenue
    rows = [("floor: read_database + polars", bare, cpu, bare_rss), ("SQL alone", *least)]
    rows += [(f"sales-analysis as {format}", *figures) for format, *figures in found]
    for name, took, used, rss in rows:
        table.add_row(name, f"{took:.1f}", f"{bare / took:.2f}", f"{used:.1f}", f"{cpu / used:.2f}", f"{rss:.0f}")
        if name.startswith("sales") and (rss > MOST_RSS or bare / took < LEAST_RATIO):
            table.caption = f"{name}: over {MOST_RSS} MiB, or under {LEAST_RATIO} of the floor"
    return table


def main() -> None:
    """Runs the benchmark and prints a table; exit code 1 when a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reports", description=__doc__)
    parser.add_argument("--sales", type=int, default=5_000_000)
    parser.add_argument("--format", action="append", choices=get_args(ReportFormat), help="default: each of them")
    parser.add_argument("--floor", nargs=2, metavar=("NAME", "DATABASE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.floor:
        name, database = options.floor
        began, used = time.perf_counter(), time.process_time()
        revenue = {"polars": query_barely, "sql": add_barely}[name](Path(database))
        took = time.perf_counter() - began
        print(took, time.process_time() - used, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, revenue)
        return
    with tempfile.TemporaryDirectory(prefix="streams-bench-", dir="/tmp") as directory:
        server = EmbeddedRedis(Path(directory) / "redis", find_servers()[-1], args=["--appendonly", "no"])
        (Path(directory) / "redis").mkdir()
        url = server.start()
        try:
            table = asyncio.run(
                measure(options.sales, options.format or list(get_args(ReportFormat)), Path(directory), url)
            )
        finally:
            server.stop()
    Console().print(table)
    sys.exit(1 if table.caption else 0)


if __name__ == "__main__":
    with exit_on_error():
        Settings.load()  # a wrong setting is one line, before anything is started
        main()
