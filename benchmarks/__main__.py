"""`make bench`: each measurement in a fresh process on an empty Redis; medians and ratios of floor and engine."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import redis
import structlog
from rich.console import Console
from rich.table import Table

from benchmarks import engine, floor
from streams import Settings
from streams.errors import exit_on_error
from streams.redis.embedded import EmbeddedRedis, find_servers

WORK: Final = {
    "drain": 100_000,
    "drain_batch": 100_000,
    "publish_one": 5_000,
    "publish_tasks": 20_000,
    "publish_many": 50_000,
}
SIDES: Final = {"floor": floor, "engine": engine}
TITLES: Final = {
    "drain": "drain, no-op handler, traces unsampled",
    "drain_batch": "drain by a batch handler of 500",
    "publish_one": "publish, one by one",
    "publish_tasks": "publish, 50 tasks",
    "publish_many": "publish_many / pipeline of 500",
}


def measure(side: str, work: str, url: str, count: int) -> float:
    """Runs one measurement in a process of its own on an emptied Redis; events per second."""
    with redis.from_url(url) as client:
        client.flushall()
    command = [sys.executable, "-m", "benchmarks", "--one", side, work, url, str(count)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    return float(done.stdout)


def run_one(side: str, work: str, url: str, count: str) -> None:
    """The child's side of `measure`."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    measured = getattr(SIDES[side], work)
    gc.collect()
    gc.freeze()  # as the runner does; for both sides
    try:
        import uvloop
    except ImportError:
        print(asyncio.run(measured(url, int(count))))
    else:
        print(uvloop.run(measured(url, int(count))))


def main() -> None:
    """Measures everything and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="runs of each pair (default 3)")
    parser.add_argument("--scale", type=float, default=1.0, help="multiply the number of events")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--one", nargs=4, metavar=("SIDE", "WORK", "URL", "COUNT"), help=argparse.SUPPRESS)
    parser.add_argument("work", nargs="*", choices=[[], *WORK], help="which measurements (default: all)")
    options = parser.parse_args()
    if options.one:
        run_one(*options.one)
        return
    binary = find_servers()[-1]
    rows = []
    with tempfile.TemporaryDirectory(prefix="streams-bench-", dir="/tmp") as directory:
        server = EmbeddedRedis(Path(directory), binary, args=["--appendonly", "no"])
        url = server.start()
        try:
            for work in options.work or WORK:
                count = max(1000, int(WORK[work] * options.scale))
                pairs = [tuple(measure(side, work, url, count) for side in SIDES) for _ in range(options.runs)]
                ratios = sorted(mine / theirs for theirs, mine in pairs)
                rows.append(
                    {
                        "work": work,
                        "events": count,
                        "floor_per_s": round(statistics.median(pair[0] for pair in pairs)),
                        "engine_per_s": round(statistics.median(pair[1] for pair in pairs)),
                        "ratio": round(statistics.median(ratios), 3),
                        "ratio_min": round(ratios[0], 3),
                        "ratio_max": round(ratios[-1], 3),
                    }
                )
        finally:
            server.stop()
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    table = Table(title=f"engine / hand-written floor, {binary}, {options.runs} pairs, no persistence")
    for column in ("work", "events", "floor /s", "engine /s", "ratio", "min", "max"):
        table.add_column(column, justify="left" if column == "work" else "right")
    for row in rows:
        table.add_row(
            TITLES[str(row["work"])],
            *(f"{row[name]:,}" for name in ("events", "floor_per_s", "engine_per_s")),
            *(f"{row[name]:.2f}" for name in ("ratio", "ratio_min", "ratio_max")),
        )
    Console().print(table)


if __name__ == "__main__":
    with exit_on_error():
        Settings.load()  # a wrong setting is one line, before anything is started
        main()
