"""`python -m processors.email`: runs one consumer of the email processor until SIGTERM."""

import asyncio
import sys

from observability import instrument
from processors.email import email
from processors.email.configured import configured
from processors.email.settings import EmailSettings
from streams import StreamsError, run
from streams.failure import describe


def _prepare() -> None:
    """The business database, which the digest reads."""
    from sqlalchemy.exc import SQLAlchemyError

    from processors.database import open_database
    from processors.database.migration import prepare

    async def work() -> None:
        async with open_database() as database:
            await prepare(database.engine)

    try:
        asyncio.run(work())
    except (SQLAlchemyError, OSError) as error:
        sys.stderr.write(f"error: the business database does not answer: {describe(error)}\n")
        sys.exit(1)  # whoever started it starts it again


if __name__ == "__main__":
    try:
        settings = EmailSettings.load()  # a wrong setting is said here, in one line, rather than with the first mail
        if settings.email_digest_to:
            _prepare()
    except StreamsError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)  # wrong usage, as `run` says it
    run(configured(email, settings), middleware=instrument("planning-bord-email"))
