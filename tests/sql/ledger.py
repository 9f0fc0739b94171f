"""Ledger: a business table without any constraint, so that an effect that happened twice is seen twice."""

from __future__ import annotations

from sqlalchemy import Column, Integer, MetaData, String, Table, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

books = MetaData()
ledger = Table("ledger", books, Column("n", Integer), Column("note", String))


async def open_ledger(engine: AsyncEngine) -> None:
    """Makes the table."""
    async with engine.begin() as connection:
        await connection.run_sync(books.create_all)


async def enter(session: AsyncSession | AsyncConnection, n: int, note: str = "") -> None:
    """The effect."""
    await session.execute(insert(ledger).values(n=n, note=note))


async def entries(engine: AsyncEngine) -> list[int]:
    """What was entered, sorted; twice what was entered twice."""
    async with engine.connect() as connection:
        return sorted((await connection.execute(select(ledger.c.n))).scalars())
