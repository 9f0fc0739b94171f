"""The migrations make the tables that the code expects, on both databases."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from processors.shared.database import Database, migration, tables
from streams import StreamsError
from streams.sql import create_tables
from streams.sql import metadata as engine_metadata


def _head() -> str | None:
    return ScriptDirectory.from_config(migration._config()).get_current_head()


def _differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return compare_metadata(context, [tables.metadata, engine_metadata])


async def test_the_migrations_make_what_the_code_expects(business: Database) -> None:
    """A table that was changed without a migration is found here, and not by a customer."""
    async with business.engine.connect() as connection:
        assert await connection.run_sync(_differences) == []
    await migration.check(business.engine)


async def test_several_processes_may_upgrade_at_once_beside_the_engine(database_url: str) -> None:
    """Each finds it done or does it; whoever has made the engine's tables before does no harm."""
    databases = [Database(database_url) for _ in range(4)]
    await create_tables(databases[0].engine)
    reached = await asyncio.gather(*(migration.upgrade(database.engine) for database in databases))
    assert set(reached) == {_head()}
    async with databases[0].engine.connect() as connection:
        assert await connection.run_sync(_differences) == []
    await asyncio.gather(*(database.aclose() for database in databases))


async def test_an_old_database_is_named_with_what_to_do(database_url: str) -> None:
    """A server's database is not changed by whoever starts first: its operator does that."""
    database = Database(database_url)
    with pytest.raises(StreamsError, match=r"is empty: run python -m processors\.shared\.database upgrade"):
        await migration.check(database.engine)
    if database.engine.dialect.name == "sqlite":
        await migration.prepare(database.engine)  # a file is this machine's own
        await migration.check(database.engine)
    else:
        with pytest.raises(StreamsError, match="upgrade"):
            await migration.prepare(database.engine)
    await database.aclose()


async def test_what_was_handled_before_the_upgrade_stays_handled(database_url: str) -> None:
    """Rows of the first revision keep their place, with nothing to compare; `create_tables` in between does no harm."""
    database = Database(database_url)
    assert await migration.upgrade(database.engine, "0001") == "0001"
    async with database.engine.begin() as connection:
        await connection.execute(
            text("INSERT INTO streams_inbox (group_name, event_id, handled_at) VALUES ('report', 'x', :now)"),
            {"now": datetime.now(UTC)},
        )
    with pytest.raises(StreamsError, match="at revision 0001, this version needs"):
        await migration.check(database.engine)
    await create_tables(database.engine)
    assert await migration.upgrade(database.engine) == _head()
    async with database.engine.connect() as connection:
        assert (await connection.execute(text("SELECT event_id, digest FROM streams_inbox"))).all() == [("x", None)]
        assert await connection.run_sync(_differences) == []
    await database.aclose()


async def test_a_migration_that_fails_leaves_nothing(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it or nothing, on SQLite too."""
    database = Database(database_url)
    with pytest.raises(RuntimeError, match="in the middle"):
        async with database.engine.begin() as connection:
            await migration._lock(connection)
            await connection.run_sync(migration._upgrade, "head")
            raise RuntimeError("in the middle")
    async with database.engine.connect() as connection:
        assert await connection.run_sync(lambda c: inspect(c).get_table_names()) == []
    await database.aclose()


async def test_without_a_setting_it_is_a_file_at_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing has to be installed or set for a first look; the directory is nobody else's business."""
    monkeypatch.setenv("STREAMS_HOME", str(tmp_path / "home"))
    database = Database()
    await migration.prepare(database.engine)
    await database.aclose()
    assert (tmp_path / "home" / "business.db").exists()
    assert (tmp_path / "home").stat().st_mode & 0o077 == 0
