"""`python -m processors.inventory`: runs one consumer of the inventory processor until SIGTERM."""

import asyncio
import sys

from sqlalchemy.exc import SQLAlchemyError

from observability import instrument
from processors.database import open_database
from processors.database.migration import prepare
from processors.inventory import inventory
from processors.inventory.settings import InventorySettings
from streams import StreamsError, run
from streams.failure import describe


async def _prepare() -> None:
    async with open_database() as database:
        await prepare(database.engine)


if __name__ == "__main__":
    try:
        InventorySettings.load()  # a wrong setting is said here, in one line, rather than with the first sync
        asyncio.run(_prepare())
    except StreamsError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)  # wrong usage, as `run` says it
    except (SQLAlchemyError, OSError) as error:
        sys.stderr.write(f"error: the business database does not answer: {describe(error)}\n")
        sys.exit(1)  # whoever started it starts it again
    run(inventory, middleware=instrument("planning-bord-inventory"))
