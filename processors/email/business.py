"""open_business: the business database, for the digest. Nothing else of the email processor needs it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from processors.shared.database import Database


@asynccontextmanager
async def open_business() -> AsyncIterator[Database]:
    """The configured database, for `Shared(open_business)`. Its libraries take a second to load: with the first digest,
    and not at the start of each process.
    """
    from processors.shared.database import open_database

    async with open_database() as database:
        yield database
