"""`python -m processors.file`: runs one consumer of the file processor until SIGTERM.

`python -m processors.file upload FILE --business N` stores a file and publishes that it is there;
`python -m processors.file export --business N --format FORMAT` asks for an export.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import NoReturn, get_args

from pydantic import ValidationError

from observability import instrument
from processors.database.startup import prepare_or_exit
from processors.file import file, store_upload
from processors.file.settings import FileSettings
from processors.storage import Storages, StorageSettings
from schemas import Event, InventoryExportRequested
from schemas.files import ExportFormat
from streams import Streams, StreamsError, Unavailable, run
from streams.failure import describe

_COMMANDS = ("upload", "export")


def _arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m processors.file", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    upload = commands.add_parser("upload", help="stores a CSV of stock and publishes InventoryImportUploaded")
    upload.add_argument("file", type=Path)
    upload.add_argument("--again", action="store_true", help="also if the same file was imported before")
    export = commands.add_parser("export", help="publishes InventoryExportRequested")
    export.add_argument("--format", choices=get_args(ExportFormat), default="csv")
    for command in (upload, export):
        command.add_argument("--business", type=int, required=True, metavar="N")
        command.add_argument("--email", metavar="ADDRESS", help="who is told how it ended")
    return parser.parse_args(arguments)


async def _publish(asked: argparse.Namespace) -> str:
    event: Event
    if asked.command == "upload":
        storages = Storages(StorageSettings.load())
        event = await store_upload(asked.file, asked.business, storages, user_email=asked.email, again=asked.again)
    else:
        event = InventoryExportRequested(business_id=asked.business, format=asked.format, user_email=asked.email)
    async with Streams() as streams:
        return (await streams.publish(event)).id


def main() -> NoReturn:
    """Runs what is asked for, and exits: 2 for wrong usage, 1 without a database, else as `streams.run` does."""
    try:
        if sys.argv[1:2] and sys.argv[1] in _COMMANDS:
            sys.stdout.write(f"{asyncio.run(_publish(_arguments(sys.argv[1:])))}\n")
            sys.exit(0)
        # A wrong setting is said here, in one line, rather than with the first file.
        FileSettings.load()
        Storages(StorageSettings.load())
        prepare_or_exit()
    except (StreamsError, Unavailable, ValidationError) as error:
        sys.stderr.write(f"error: {describe(error) if isinstance(error, ValidationError) else error}\n")
        sys.exit(2)
    run(file, middleware=instrument("planning-bord-file"))


if __name__ == "__main__":
    main()
