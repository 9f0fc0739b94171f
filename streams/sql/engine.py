"""make_engine: a SQLAlchemy engine for a database URL, with the driver and the pragmas this package is tested with."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from streams.errors import ConfigurationError
from streams.sql.settings import SqlSettings

_DRIVERS: Final = {
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
}
_NAMED: Final = "the database URL (DATABASE_URL, unless it was given)"
_SQLITE_PATIENCE: Final = 20.0  # seconds


def make_engine(url: str | None = None, **options: Any) -> AsyncEngine:
    """Makes an engine for `postgresql://...` or `sqlite:///file`, or for `DATABASE_URL`; it connects to nothing yet.

    `options` go to `create_async_engine` (`pool_size`: at least the handlers that run at once). SQLite files are
    switched to WAL, so that reading does not stop the writer. Raises `ConfigurationError` for a URL that is missing,
    wrong, or of another database.
    """
    if url is None:
        configured = SqlSettings.load().database_url
        url = configured.get_secret_value() if configured else ""
    if not url:
        raise ConfigurationError("no database is configured; set DATABASE_URL to postgresql://... or sqlite:///file")
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # a port that is no number is the latter
        # Its text quotes the URL, which has a password in it.
        raise ConfigurationError(f"{_NAMED} cannot be parsed; write postgresql://user:password@host/name") from None
    driver = _DRIVERS.get(parsed.drivername)
    if driver is None:
        raise ConfigurationError(f"{_NAMED} must begin with postgresql:// or sqlite:///, not {parsed.drivername}://")
    if driver == "sqlite+aiosqlite":
        # A writer that waits for SQLite's lock polls, without a queue: with Python's 5 s, busy writers starve some.
        options["connect_args"] = {"timeout": _SQLITE_PATIENCE, **options.get("connect_args", {})}
    elif "sslmode" in parsed.query:  # libpq's word; asyncpg takes its values under the name `ssl`
        parsed = parsed.update_query_dict({"ssl": parsed.query["sslmode"]}).difference_update_query(["sslmode"])
    engine = create_async_engine(parsed.set(drivername=driver), **options)
    if engine.dialect.name == "sqlite" and parsed.database not in (None, "", ":memory:"):
        event.listen(engine.sync_engine, "connect", _configure_sqlite)
    return engine


def _configure_sqlite(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    try:
        cursor.execute("PRAGMA journal_mode = WAL")
    finally:
        cursor.close()
