"""`python -m processors.report`: runs one consumer of the report processor until SIGTERM.

`python -m processors.report ask TYPE --business N --email ADDRESS` publishes that somebody wants a report.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from datetime import date
from typing import NoReturn, get_args

from pydantic import ValidationError

from observability import instrument
from processors.database.startup import prepare_or_exit
from processors.report import report
from processors.report.settings import ReportSettings
from processors.storage import Storages, StorageSettings
from schemas import ReportRequested
from schemas.reports import ReportFilters, ReportFormat, ReportType
from streams import Streams, StreamsError, Unavailable, run
from streams.failure import describe


def _arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m processors.report", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    ask = commands.add_parser("ask", help="publishes ReportRequested")
    ask.add_argument("type", choices=get_args(ReportType))
    ask.add_argument("--business", type=int, required=True, metavar="N")
    ask.add_argument("--email", required=True, metavar="ADDRESS", help="who is sent the link")
    ask.add_argument("--format", choices=get_args(ReportFormat), default="html")
    ask.add_argument(
        "--from", dest="first", type=date.fromisoformat, metavar="DAY", help="2026-10-01; of sales-analysis"
    )
    ask.add_argument("--to", dest="last", type=date.fromisoformat, metavar="DAY", help="the last day, itself included")
    ask.add_argument("--category", action="append", default=[], metavar="NAME", help="as often as there are some")
    ask.add_argument("--days", type=int, default=30, metavar="N", help="that the stock shall last; of stock-forecast")
    return parser.parse_args(arguments)


async def _publish(asked: argparse.Namespace) -> str:
    filters = ReportFilters(
        first_day=asked.first, last_day=asked.last, categories=asked.category, days_ahead=asked.days
    )
    event = ReportRequested(
        business_id=asked.business, report_type=asked.type, format=asked.format, filters=filters, user_email=asked.email
    )
    async with Streams() as streams:
        return (await streams.publish(event)).id


def main() -> NoReturn:
    """Runs what is asked for, and exits: 2 for wrong usage, 1 without a database, else as `streams.run` does."""
    try:
        if sys.argv[1:2] == ["ask"]:
            sys.stdout.write(f"{asyncio.run(_publish(_arguments(sys.argv[1:])))}\n")
            sys.exit(0)
        # A wrong setting is said here, in one line, rather than with the first report.
        ReportSettings.load()
        Storages(StorageSettings.load())
        prepare_or_exit()
    except (StreamsError, Unavailable, ValidationError) as error:
        sys.stderr.write(f"error: {describe(error) if isinstance(error, ValidationError) else error}\n")
        sys.exit(2)
    run(report, middleware=instrument("planning-bord-report"))


if __name__ == "__main__":
    main()
