"""A business database of each kind, with its tables."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from processors.shared.database import Database
from processors.shared.database.migration import upgrade
from tests.sql.conftest import database_url, postgres, postgres_url

__all__ = ["business", "database_url", "postgres", "postgres_url"]


@pytest.fixture
async def business(database_url: str) -> AsyncIterator[Database]:
    """An empty one."""
    database = Database(database_url, connections=20)
    await upgrade(database.engine)
    yield database
    await database.aclose()
