"""`python -m processors.email`: runs one consumer of the email processor until SIGTERM."""

import asyncio
import sys

from sqlalchemy.exc import SQLAlchemyError

from observability import instrument
from processors.database import open_database
from processors.database.migration import prepare
from processors.email import email
from processors.email.configured import configured
from processors.email.settings import EmailSettings
from streams import StreamsError, run
from streams.failure import describe


async def _prepare() -> None:
    async with open_database() as database:
        await prepare(database.engine)


if __name__ == "__main__":
    try:
        settings = EmailSettings.load()  # a wrong setting is said here, in one line, rather than with the first mail
        if settings.email_digest_to:  # nothing else of it reads the business database
            asyncio.run(_prepare())
    except StreamsError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)  # wrong usage, as `run` says it
    except (SQLAlchemyError, OSError) as error:
        sys.stderr.write(f"error: the business database does not answer: {describe(error)}\n")
        sys.exit(1)  # whoever started it starts it again
    run(configured(email, settings), middleware=instrument("planning-bord-email"))
