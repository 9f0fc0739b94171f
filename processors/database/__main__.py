"""`python -m processors.database`: upgrade, check, seed."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from processors.database import migration
from processors.database.database import open_database
from processors.database.seed import seed as fill
from streams import StreamsError
from streams.failure import describe

_T = TypeVar("_T")

application = typer.Typer(
    help="The business database of DATABASE_URL, or STREAMS_HOME/business.db.",
    no_args_is_help=True,
    add_completion=False,
)


@application.command()
def upgrade() -> None:
    """Makes the tables, or brings them to what this version expects."""
    typer.echo(f"the business database is at revision {_with_engine(migration.upgrade)}")


@application.command()
def check() -> None:
    """Says whether the tables are those of this version; exit code 1 when they are not."""
    _with_engine(migration.check)
    typer.echo("the business database is up to date")


@application.command()
def seed(
    number: Annotated[int, typer.Option("--seed", metavar="N", help="The same number makes the same history.")] = 7,
    skus: Annotated[int, typer.Option(min=30, help="Products in all.")] = 2_000,
    sales: Annotated[int, typer.Option(min=0, help="Sales in the last 18 months.")] = 200_000,
    upgraded: Annotated[bool, typer.Option("--upgrade", help="Make the tables first, on a server too.")] = False,
) -> None:
    """Fills an empty database with made-up businesses, products, stock and sales."""

    async def work(engine: AsyncEngine) -> str:
        await (migration.upgrade if upgraded else migration.prepare)(engine)
        began = time.monotonic()
        made = await fill(engine, number=number, skus=skus, sold=sales)
        took = time.monotonic() - began
        return f"{made.businesses} businesses, {made.products} products, {made.sales} sales in {took:.1f} s"

    typer.echo(_with_engine(work))


def _with_engine(work: Callable[[AsyncEngine], Awaitable[_T]]) -> _T:
    async def opened() -> _T:
        async with open_database() as database:
            return await work(database.engine)

    try:
        return asyncio.run(opened())
    except (StreamsError, SQLAlchemyError, OSError) as error:
        sys.stderr.write(f"error: {error if isinstance(error, StreamsError) else describe(error)}\n")
        sys.exit(1)


if __name__ == "__main__":
    application()
