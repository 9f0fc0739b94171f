"""Migration: brings the tables to what this version of the code expects, or says that they are not."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from streams import StreamsError
from streams.sql.tables import LOCK_SPACE, is_begun

_SCRIPTS: Final = Path(__file__).parent / "migrations"
_LOCK: Final = (LOCK_SPACE << 32) + 1  # beside create_tables', so that the two may run side by side


async def upgrade(engine: AsyncEngine, revision: str = "head") -> str:
    """Runs the migrations that are missing, in one transaction, and returns the revision that is reached.

    Several processes may do so at once: one works, the others find it done.
    """
    async with engine.begin() as connection:
        await _lock(connection)
        await connection.run_sync(_upgrade, revision)
        return await connection.run_sync(_revision)


async def check(engine: AsyncEngine) -> None:
    """Raises `StreamsError` unless the tables are those of this version; it says which command makes them so."""
    async with engine.connect() as connection:
        found = await connection.run_sync(_revision)
    expected = ScriptDirectory.from_config(_config()).get_current_head()
    if found != expected:
        what = f"at revision {found}, this version needs {expected}" if found else "empty"
        raise StreamsError(f"the business database is {what}: run python -m processors.shared.database upgrade")


async def prepare(engine: AsyncEngine) -> None:
    """What a processor does at its start: a SQLite file is upgraded, any other database must have been.

    A file belongs to one machine and one version; a server is shared, and when it changes its operator says.
    """
    if engine.dialect.name == "sqlite":
        await upgrade(engine)
    else:
        await check(engine)


async def _lock(connection: AsyncConnection) -> None:
    if connection.dialect.name == "postgresql":
        await connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
    elif not await is_begun(connection):
        await connection.exec_driver_sql("BEGIN IMMEDIATE")


def _upgrade(connection: Connection, revision: str) -> None:
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _revision(connection: Connection) -> str:
    return MigrationContext.configure(connection).get_current_revision() or ""


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
