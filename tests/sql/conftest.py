"""Fixtures of the tests with a database: `database_url` is a SQLite file and a PostgreSQL database in turn."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from streams.sql import create_tables, make_engine
from tests.streams.conftest import make_settings, start, streams
from tests.support.postgres import Postgres, find_postgres

__all__ = ["database_url", "engine", "make_settings", "postgres", "postgres_url", "start", "streams"]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The worker's PostgreSQL. Do not stop it: make a `Postgres` of the test's own for that."""
    cluster = new_postgres()
    try:
        yield cluster.start()
    finally:
        cluster.remove()


def new_postgres() -> Postgres:
    """A cluster that is not started; skips the test where PostgreSQL is not installed, fails in CI."""
    programs = find_postgres()
    if programs is None:
        if os.environ.get("CI"):
            raise pytest.UsageError("PostgreSQL not found: apt-get install postgresql")
        pytest.skip("no PostgreSQL: apt-get install postgresql")
    return Postgres(programs)


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """An empty PostgreSQL database."""
    url = postgres.create()
    yield url
    postgres.drop(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/data.db"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """An engine on it, with the tables."""
    engine = make_engine(database_url, pool_size=20)
    await create_tables(engine)
    yield engine
    await engine.dispose()
