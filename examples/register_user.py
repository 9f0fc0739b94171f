"""A user registers: the row and the event are one commit, a relay publishes the event, and a welcome mail follows.

    python -m examples.register_user [ADDRESS [NAME]]

A service that commits and then publishes loses the event when it dies in between; one that publishes first reports a
user who may never exist.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
from typing import Final

from pydantic import ValidationError
from sqlalchemy import Column, Integer, MetaData, String, Table, insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from examples.stage import follow, on_stage
from processors.shared.database import open_database
from processors.shared.database.migration import prepare
from schemas import UserRegistered
from streams import Receipt, Streams, StreamsError
from streams.sql import Outbox
from streams.sql.relay import Relay

metadata: Final = MetaData()
users: Final = Table(
    "example_users",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("email", String(320), nullable=False, unique=True),
    Column("name", String(200), nullable=False),
)


class AlreadyRegistered(StreamsError):
    """There is a user with this address."""


async def register(engine: AsyncEngine, outbox: Outbox, email: str, name: str) -> Receipt:
    """Adds a user and says so, or does neither; the receipt has the id that the event will have.

    Raises `AlreadyRegistered`.
    """
    try:
        async with AsyncSession(engine) as session, session.begin():
            added = insert(users).values(email=email, name=name).returning(users.c.id)
            user_id = (await session.execute(added)).scalar_one()
            event = UserRegistered(user_id=user_id, email=email, name=name)
            return await outbox.publish(session, event, key=str(user_id))
    except IntegrityError:
        raise AlreadyRegistered(f"{email} is registered already") from None


async def prepare_users(engine: AsyncEngine) -> None:
    """Makes the tables: the outbox is part of the business database, the users are this example's own."""
    await prepare(engine)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)


async def main(email: str, name: str) -> None:
    """Registers a user, relays the event, and waits for the mail."""
    async with open_database() as database, Streams() as streams, on_stage("email") as mails:
        await prepare_users(database.engine)
        receipt = await register(database.engine, Outbox(), email, name)
        print(f"{email} is registered, and event {receipt.id} is committed with it")
        relay = Relay(database.engine, streams)  # in production: python -m streams.sql.relay
        relaying = asyncio.create_task(relay.run())
        await follow(streams, receipt.id, "email")
        relay.stop()
        await relaying
        if mails is not None:
            print(f"the mail is the newest in {mails}")


if __name__ == "__main__":
    # A new address each time, so that the example can be run again.
    address = sys.argv[1] if len(sys.argv) > 1 else f"ada-{secrets.token_hex(3)}@example.com"
    try:
        asyncio.run(main(address, sys.argv[2] if len(sys.argv) > 2 else "Ada"))
    except (StreamsError, ValidationError) as error:
        sys.exit(f"error: {error}")
