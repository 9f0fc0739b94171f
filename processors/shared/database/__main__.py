"""`python -m processors.shared.database`: upgrade, check, ls, zone, seed."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from difflib import get_close_matches
from typing import Annotated, Any, TypeVar
from zoneinfo import available_timezones

import orjson
import typer
from sqlalchemy import select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from processors.shared.database import migration
from processors.shared.database.business_day import zone_named
from processors.shared.database.database import open_database
from processors.shared.database.sample_data.seed import seed as fill
from processors.shared.database.tables import businesses
from streams import StreamsError
from streams.errors import EXIT_USAGE, ConfigurationError
from streams.messages import describe

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
def ls(json: Annotated[bool, typer.Option("--json", help="An array of objects.")] = False) -> None:
    """Lists the businesses: their ids, names, currencies and time zones."""

    async def work(engine: AsyncEngine) -> list[dict[str, Any]]:
        await migration.prepare(engine)
        named = businesses.c.id, businesses.c.name, businesses.c.currency, businesses.c.time_zone
        async with engine.connect() as connection:
            rows = await connection.execute(select(*named).order_by(businesses.c.id))
            return [{str(name): value for name, value in row.items()} for row in rows.mappings()]

    found = _with_engine(work)
    if json:
        typer.echo(orjson.dumps(found).decode())
    elif not found:
        typer.echo("there are no businesses; python -m processors.shared.database seed makes some up")
    else:
        lines = [("ID", "NAME", "CURRENCY", "TIME ZONE"), *(tuple(map(_shown, row.values())) for row in found)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _shown(value: object) -> str:
    return "".join(character if character.isprintable() else "\ufffd" for character in str(value))


@application.command()
def zone(
    business: Annotated[int, typer.Argument(help="Its id: ls shows them.")],
    name: Annotated[str, typer.Argument(metavar="ZONE", help="As Europe/Berlin.")],
) -> None:
    """Sets the time zone of a business: where its days and months begin and end, in reports and digests.

    Exit code 2 for a business or a time zone that is not there.
    """
    try:
        zone_named(name)
        is_zone = name in available_timezones()
    except StreamsError:
        is_zone = False
    if not is_zone:
        close = get_close_matches(name, available_timezones(), 3)
        hint = f"; is it {' or '.join(close)}?" if close else ""
        sys.stderr.write(f"error: {name!r} is no time zone{hint}\n")
        sys.exit(2)

    async def work(engine: AsyncEngine) -> bool:
        await migration.prepare(engine)
        async with engine.begin() as connection:
            done = await connection.execute(
                update(businesses).where(businesses.c.id == business).values(time_zone=name)
            )
            return bool(done.rowcount)

    if not _with_engine(work):
        sys.stderr.write(f"error: there is no business {business}; see python -m processors.shared.database ls\n")
        sys.exit(2)
    typer.echo(f"business {business} is in {name}")


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
        sys.exit(EXIT_USAGE if isinstance(error, ConfigurationError) else 1)


if __name__ == "__main__":
    application()
