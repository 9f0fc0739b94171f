"""`python -m processors.file`: runs one consumer of the file processor until SIGTERM.

`python -m processors.file check FILE` shows what an import of a file would do, and changes nothing;
`python -m processors.file upload FILE --business N` stores a file and publishes that it is there;
`python -m processors.file export --business N --format FORMAT` asks for an export.

`check` exits with 0 when every row is good, 1 when some would be refused, 3 when nothing would be imported. With
`--wait` `upload` and `export` exit with 0 when it is done, 3 when it failed, 4 when it has not ended in time. All exit
with 2 for wrong usage, or where there is no such business.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, get_args

import orjson
from pydantic import ValidationError
from sqlalchemy import Table, select
from sqlalchemy.exc import SQLAlchemyError

from observability import instrument
from processors.file import file, store_upload
from processors.file.checking import Checked, check_file
from processors.file.settings import FileSettings
from processors.shared.command_outcome import DONE, FAILED, Outcome, require_business, seconds_to_wait, show_published
from processors.shared.database import Database, open_database
from processors.shared.database.migration import prepare
from processors.shared.database.startup import prepare_or_exit
from processors.shared.database.tables import exports, imports
from processors.shared.storage import Storages, StorageSettings
from schemas import InventoryExportRequested
from schemas.files import BlankQuantity, ExportFormat
from streams import Event, Streams, StreamsError, Unavailable, run
from streams.messages import describe


def _arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m processors.file", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="shows how a file would be read, and what is wrong with it")
    check.add_argument("--business", type=int, metavar="N", help="whose SKUs and earlier choices count as well")
    check.add_argument("--json", action="store_true", help="one JSON object, with every problem")
    upload = commands.add_parser("upload", help="stores a file of stock and publishes InventoryImportUploaded")
    upload.add_argument("--again", action="store_true", help="also if the same file was the last one imported")
    for command in (check, upload):
        command.add_argument("file", type=Path)
        command.add_argument("--encoding", default="", metavar="NAME", help="of a CSV: mac-roman, cp1250, ...")
        command.add_argument("--decimal", default="", choices=(".", ","), help="the decimal sign of the numbers")
        command.add_argument("--sheet", default="", metavar="NAME", help="of a workbook; else the first one")
        command.add_argument(
            "--map", action="append", default=[], metavar="FIELD=COLUMN", type=_mapped,
            help="the column of a field: --map sku='Custom SKU'; an empty one leaves the field out",
        )  # fmt: skip
        command.add_argument("--location", default="", metavar="NAME", help="one of the file's locations, or sum")
        command.add_argument(
            "--blank-quantity", default="refuse", choices=get_args(BlankQuantity),
            help="what a row without a quantity means: refuse it (the default), keep the stock, or zero",
        )  # fmt: skip
    export = commands.add_parser("export", help="publishes InventoryExportRequested")
    export.add_argument("--format", choices=get_args(ExportFormat), default="csv")
    for command in (upload, export):
        command.add_argument(
            "--business", type=int, required=True, metavar="N", help="of those that processors.shared.database ls shows"
        )
        command.add_argument("--email", metavar="ADDRESS", help="recipient of the result")
        command.add_argument(
            "--wait", type=seconds_to_wait, nargs="?", const=300.0, metavar="SECONDS",
            help="until it has ended (300, if none are said)",
        )  # fmt: skip
    return parser.parse_args(arguments)


def _mapped(text: str) -> tuple[str, str]:
    name, equals, column = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not FIELD=COLUMN")
    return name.strip().lower(), column


def _options(asked: argparse.Namespace) -> dict[str, Any]:
    return {
        "encoding": asked.encoding, "decimal": asked.decimal, "sheet": asked.sheet, "map": dict(asked.map),
        "location": asked.location, "blank_quantity": asked.blank_quantity,
    }  # fmt: skip


async def _check(asked: argparse.Namespace) -> Checked:
    if not asked.file.is_file():
        raise StreamsError(f"{asked.file}: there is no such file")
    settings, options = FileSettings.load(), _options(asked)
    if asked.business is None:
        return await check_file(asked.file, options, settings)
    async with open_database() as database:
        await prepare(database.engine)
        return await check_file(asked.file, options, settings, database, asked.business)


async def _publish(asked: argparse.Namespace) -> int:
    event: Event
    async with open_database() as database, Streams() as streams:
        await require_business(database, asked.business)
        if asked.command == "upload":
            storages = Storages(StorageSettings.load())
            event = await store_upload(
                asked.file, asked.business, storages, user_email=asked.email, again=asked.again, database=database,
                **_options(asked),
            )  # fmt: skip
        else:
            event = InventoryExportRequested(business_id=asked.business, format=asked.format, user_email=asked.email)
        # With the business as its key: its files are imported in the order in which they were sent.
        id = (await streams.publish(event, key=str(asked.business))).id
        look = partial(_look, database, imports if asked.command == "upload" else exports, id)
        return await show_published(streams, id, group="file", look=look, seconds=asked.wait)


async def _look(database: Database, table: Table, event_id: str) -> Outcome | None:
    """How an import or an export has ended, by its row."""
    async with database.engine.connect() as connection:
        row = (await connection.execute(select(table).where(table.c.event_id == event_id[:128]))).first()
    if row is None or row.status not in ("done", "failed", "aborted"):
        return None
    if row.status != "done":
        return FAILED, {"outcome": "failed", "problem": row.error or "it failed"}
    if table is exports:
        return DONE, {"outcome": "done", "rows": row.rows, "bytes": row.bytes}
    return DONE, {"outcome": "done", "written": row.rows_done, "refused": row.rows_refused}


def main() -> NoReturn:
    """Runs what is asked for, and exits: 2 for wrong usage, 1 without a database, else as `streams.run` does."""
    try:
        if sys.argv[1:]:
            asked = _arguments(sys.argv[1:])
            if asked.command == "check":
                checked = asyncio.run(_check(asked))
                text = orjson.dumps(checked.result).decode() if asked.json else "\n".join(checked.lines())
                sys.stdout.write(f"{text}\n")
                sys.exit(checked.exit_code)
            sys.exit(asyncio.run(_publish(asked)))
        # A wrong setting is said here, in one line, rather than with the first file.
        FileSettings.load()
        Storages(StorageSettings.load())
        prepare_or_exit()
        middleware = instrument("planning-bord-file")
    except (StreamsError, SQLAlchemyError, Unavailable, ValidationError) as error:
        sys.stderr.write(f"error: {error if isinstance(error, StreamsError | Unavailable) else describe(error)}\n")
        sys.exit(2)
    run(file, middleware=middleware)


if __name__ == "__main__":
    main()
