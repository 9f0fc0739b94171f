"""prepare_or_exit: what a processor does about the business database before it runs."""

from __future__ import annotations

import asyncio
import sys

from sqlalchemy.exc import SQLAlchemyError

from processors.shared.database.database import open_database
from processors.shared.database.migration import prepare
from streams.messages import describe


def prepare_or_exit() -> None:
    """Prepares the configured database (see `prepare`). One that does not answer ends the process with 1, and is said
    in one line: the supervisor starts it again. Raises `StreamsError` when the operator must do something first.
    """

    async def work() -> None:
        async with open_database() as database:
            await prepare(database.engine)

    try:
        asyncio.run(work())
    except (SQLAlchemyError, OSError) as error:
        sys.stderr.write(f"error: the business database does not answer: {describe(error)}\n")
        sys.exit(1)
