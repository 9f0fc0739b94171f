"""The tables: events that were handled, events to be published, and the relay that publishes them.

`metadata` is for Alembic (`target_metadata = [Base.metadata, streams.sql.metadata]`); without it there is
`create_tables`.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    DateTime,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    func,
    inspect,
    select,
    text,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

LOCK_SPACE: Final = 0x5374726D
"""The first half of every PostgreSQL advisory lock taken here, so that they never meet those of other code."""

metadata: Final = MetaData()

inbox: Final = Table(
    "streams_inbox",
    metadata,
    Column("group_name", String(64), primary_key=True),
    Column("event_id", String(255), primary_key=True),
    Column("follow_ups", Text),  # JSON (stored.py), NULL when nothing follows
    Column("handled_at", DateTime(timezone=True), nullable=False),
    Column("digest", String(64)),  # of what was handled (inbox.py), NULL in rows older than the column
    Index("streams_inbox_handled_at", "handled_at"),
)

outbox: Final = Table(
    "streams_outbox",
    metadata,
    # The order in which rows are published. Of one key that is the order of commits: see Outbox.
    Column("position", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("event_id", String(64), nullable=False, unique=True),
    Column("type", String(128), nullable=False),  # for people: the message says it too
    Column("stream", String(64), nullable=False),
    Column("priority", String(8), nullable=False),
    Column("due_ms", BigInteger),  # ms since 1970 by the publisher's clock; NULL at once
    Column("message", Text, nullable=False),  # JSON: the fields of docs/reference/wire-format.md
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("error", Text),  # why the relay has put the row aside; NULL for all but broken rows
    sqlite_autoincrement=True,  # else SQLite gives the numbers of deleted rows again
)

relays: Final = Table(
    "streams_relay",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("holder", String(64), nullable=False),
    Column("until_ms", BigInteger, nullable=False),  # by the database's clock
)


class NowMs(FunctionElement[int]):
    """The database's clock in ms since 1970: the clocks of two relays' machines may differ."""

    type = BigInteger()
    inherit_cache = True


@compiles(NowMs, "postgresql")
def _now_ms_on_postgresql(*_: Any, **__: Any) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)"


@compiles(NowMs, "sqlite")
def _now_ms_on_sqlite(*_: Any, **__: Any) -> str:
    return "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"


async def is_begun(connection: AsyncConnection) -> bool:
    """Whether SQLite has begun a transaction: Python's driver begins none before the first write, and an engine of the
    caller's may do otherwise.
    """
    driver = (await connection.get_raw_connection()).driver_connection
    return bool(driver is not None and driver.in_transaction)


async def create_tables(engine: AsyncEngine) -> None:
    """Creates the tables and columns that are missing; several processes may do so at once."""
    async with engine.begin() as connection:
        # One after the other: two of them would both find a table missing.
        if connection.dialect.name == "postgresql":
            await connection.execute(select(func.pg_advisory_xact_lock(LOCK_SPACE << 32)))
        elif not await is_begun(connection):
            await connection.exec_driver_sql("BEGIN IMMEDIATE")
        await connection.run_sync(metadata.create_all)
        await connection.run_sync(_add_columns)


def _add_columns(connection: Connection) -> None:
    """Adds what tables of earlier versions lack: `create_all` leaves a table that exists as it is."""
    if not any(column["name"] == "digest" for column in inspect(connection).get_columns(inbox.name)):
        connection.execute(text("ALTER TABLE streams_inbox ADD COLUMN digest VARCHAR(64)"))
