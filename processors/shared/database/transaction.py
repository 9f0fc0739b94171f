"""in_transaction: a transaction of a program's own, beside the inbox, which is one per event."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog
from sqlalchemy.exc import DBAPIError, TimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from streams import Unavailable
from streams.messages import describe
from streams.sql import is_away, is_transient

log = structlog.get_logger(__name__)

_T = TypeVar("_T")

_RETRIES: Final = 3
_PAUSE: Final = 0.05  # seconds before the first of them; doubled, and spread


async def in_transaction(engine: AsyncEngine, work: Callable[[AsyncConnection], Awaitable[_T]]) -> _T:
    """Commits what `work` does, or none of it; what it returns is returned.

    When the transaction loses against another one (a deadlock, a locked file), all of it is done again, up to three
    times. Raises `Unavailable("database")` when the database is away: then it is unknown whether it was committed.
    """
    tries = 0
    while True:
        try:
            async with engine.connect() as connection, connection.begin():
                if engine.dialect.name == "sqlite":
                    # A transaction that reads first fails at once at its write when another one wrote in between.
                    await connection.exec_driver_sql("BEGIN IMMEDIATE")
                return await work(connection)
        except (DBAPIError, TimeoutError, ConnectionError) as error:
            if isinstance(error, ConnectionError) or is_away(error):
                raise Unavailable("database", f"database: {describe(error)}") from error
            if tries == _RETRIES or not is_transient(error):
                raise
            tries += 1
            log.info("database.tried_again", error=describe(error))
        await asyncio.sleep(_PAUSE * 2**tries * random.random())
