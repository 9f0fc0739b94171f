"""Database: the business database as one process uses it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from streams import Settings
from streams.errors import ConfigurationError
from streams.sql import SqlInbox, SqlSettings, make_engine

_FILE: Final = "business.db"


def database_url() -> str:
    """`DATABASE_URL`, or a SQLite file in `STREAMS_HOME` (which is made) when it is not set. It may hold a password."""
    configured = SqlSettings.load().database_url
    if configured is not None and configured.get_secret_value():
        return configured.get_secret_value()
    home = Settings.load().home
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)  # as the embedded Redis makes it: private to its user
    except OSError as error:
        raise ConfigurationError(f"STREAMS_HOME={home} cannot be made ({error.strerror}); set DATABASE_URL") from None
    return f"sqlite:///{home.absolute() / _FILE}"


class Database:
    """An engine and the inbox over it. `aclose()` closes the connections."""

    def __init__(self, url: str | None = None, *, connections: int = 50) -> None:
        # Each running handler holds a connection: as many as STREAMS_CONCURRENCY, opened when they are needed.
        self.engine: AsyncEngine = make_engine(url or database_url(), pool_size=connections)
        if self.engine.dialect.name == "sqlite":
            event.listen(self.engine.sync_engine, "connect", _enforce_references)
        self.inbox = SqlInbox(self.engine)

    async def aclose(self) -> None:
        """Closes the connections."""
        await self.engine.dispose()


@asynccontextmanager
async def open_database() -> AsyncIterator[Database]:
    """The configured database, for `Shared(open_database)` and for programs; closed at the end."""
    database = Database(connections=Settings.load().concurrency)
    try:
        yield database
    finally:
        await database.aclose()


def _enforce_references(connection: Any, _: Any) -> None:
    # SQLite declares foreign keys and ignores them, unless each connection asks.
    cursor = connection.cursor()
    try:
        cursor.execute("PRAGMA foreign_keys = ON")
    finally:
        cursor.close()
