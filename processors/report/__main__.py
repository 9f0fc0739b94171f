"""`python -m processors.report`: runs one consumer of the report processor until SIGTERM.

`python -m processors.report ask TYPE --business N --email ADDRESS` asks for a report; with `--wait` it prints the link
to it. `python -m processors.report ask --help` has its options.

Exit codes: 0 it is asked for (with --wait: it is there), 2 wrong usage or no such business, 3 it failed, 4 it is not
there in time.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from datetime import UTC, date, datetime
from typing import NoReturn, get_args

from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from observability import instrument
from processors.report import report
from processors.report.generating import outcome_of
from processors.report.settings import ReportSettings
from processors.shared.command_outcome import DONE, FAILED, Outcome, require_business, seconds_to_wait, show_published
from processors.shared.database import open_database
from processors.shared.database.startup import prepare_or_exit
from processors.shared.storage import Storages, StorageSettings
from schemas import ReportRequested
from schemas.reports import ReportFilters, ReportFormat, ReportType
from streams import Streams, StreamsError, Unavailable, run
from streams.messages import describe


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no day; write 2026-10-01") from None


def _arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m processors.report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", metavar="ask")
    ask = commands.add_parser("ask", help="publishes ReportRequested, and prints its id")
    ask.add_argument("type", choices=get_args(ReportType))
    ask.add_argument(
        "--business",
        type=int,
        required=True,
        metavar="N",
        help="of those that python -m processors.shared.database ls shows",
    )
    ask.add_argument("--email", required=True, metavar="ADDRESS", help="recipient of the link")
    ask.add_argument("--format", choices=get_args(ReportFormat), default="html")
    ask.add_argument("--from", dest="first", type=_day, metavar="DAY", help="2026-10-01; of sales-analysis")
    ask.add_argument("--to", dest="last", type=_day, metavar="DAY", help="the last day, itself included")
    ask.add_argument("--category", action="append", default=[], metavar="NAME", help="as often as there are some")
    ask.add_argument("--days", type=int, default=30, metavar="N", help="that the stock shall last; of stock-forecast")
    ask.add_argument(
        "--wait",
        type=seconds_to_wait,
        nargs="?",
        const=300.0,
        metavar="SECONDS",
        help="until it is there (300, if none are said)",
    )
    return parser.parse_args(arguments)


async def _ask(asked: argparse.Namespace) -> int:
    filters = ReportFilters(
        first_day=asked.first, last_day=asked.last, categories=asked.category, days_ahead=asked.days
    )
    event = ReportRequested(
        business_id=asked.business, report_type=asked.type, format=asked.format, filters=filters, user_email=asked.email
    )
    storages = Storages(StorageSettings.load())  # a wrong setting is an error before anything is published
    async with open_database() as database, Streams() as streams:
        await require_business(database, asked.business)
        id = (await streams.publish(event)).id

        async def look() -> Outcome | None:
            found = await outcome_of(event, id, database, storages)
            if found is None:
                return None
            if isinstance(found, str):
                return FAILED, {"outcome": "failed", "problem": found}
            url = await storages.link("reports", found.file, found.file_name, made_at=datetime.now(UTC))
            return DONE, {"outcome": "done", "title": found.title, "bytes": found.bytes, "url": url}

        return await show_published(streams, id, group="report", look=look, seconds=asked.wait)


def main() -> NoReturn:
    """Runs what is asked for, and exits: 2 for wrong usage, 1 without a database, else as `streams.run` does."""
    try:
        if sys.argv[1:]:
            asked = _arguments(sys.argv[1:])
            if asked.command == "ask":
                sys.exit(asyncio.run(_ask(asked)))
        # A wrong setting is said here, in one line, rather than with the first report.
        ReportSettings.load()
        Storages(StorageSettings.load())
        prepare_or_exit()
        middleware = instrument("planning-bord-report")
    except (StreamsError, SQLAlchemyError, Unavailable, ValidationError) as error:
        sys.stderr.write(f"error: {error if isinstance(error, StreamsError | Unavailable) else describe(error)}\n")
        sys.exit(2)
    run(report, middleware=middleware)


if __name__ == "__main__":
    main()
