"""SqlInbox: a handler's effects in SQL, the fact that its event was handled, and its follow-ups in one commit."""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, cast

from sqlalchemy import delete, insert, select, tuple_
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, AsyncTransaction
from uncalled_for import Dependency

from streams.errors import StreamsError
from streams.logs import get_logger
from streams.messages.error_text import describe, leaves
from streams.messages.message import DATA, ID, TYPE
from streams.messages.outcome import DeadLetter, Unavailable
from streams.sql.engine import make_engine
from streams.sql.error_classes import is_away, is_transient
from streams.sql.serialization import dump_follow_ups, load_follow_ups
from streams.sql.tables import inbox, is_begun

if TYPE_CHECKING:
    from streams.handlers.transaction import Handle
    from streams.messages.delivery import Delivery
    from streams.messages.message import Message

log = get_logger("streams.inbox")

_RETRIES: Final = 3
_PAUSE: Final = 0.05  # seconds before the first of them; doubled, and spread
_PLAIN_ID: Final = re.compile(rb"[\x21-\x7e]{1,128}")
_PLAIN_ORIGIN: Final = re.compile(rb"[\x20-\x7e]{1,255}")
_PRUNED_AT_ONCE: Final = 1000

_session: ContextVar[AsyncSession] = ContextVar("streams_sql_session")


class _Current(Dependency[AsyncSession]):
    async def __aenter__(self) -> AsyncSession:
        session = _session.get(None)
        if session is None:
            raise StreamsError("CurrentTransaction() needs a transaction: @processor.on(Event, transaction=SqlInbox())")
        return session


def CurrentTransaction() -> AsyncSession:
    """The session of the transaction a handler runs in: what is done with it is committed with the fact that the event
    was handled, or not at all.

    The handler does not end it: `commit()` only flushes, and `rollback()` makes the delivery fail. It belongs to
    `async def` handlers.
    """
    return cast("AsyncSession", _Current())


class SqlInbox:
    """The transaction for handlers whose effects are in a SQL database: `Processor("stock", transaction=SqlInbox())`.

    Takes an engine, a database URL (see `make_engine`) or nothing (`DATABASE_URL`). An engine is the caller's to
    dispose of; what is made here is closed by `aclose()`. Each delivery takes one connection.
    """

    def __init__(self, database: AsyncEngine | str | None = None) -> None:
        self._owned = not isinstance(database, AsyncEngine)
        self.engine = database if isinstance(database, AsyncEngine) else make_engine(database)
        self._is_sqlite = self.engine.dialect.name == "sqlite"
        # SQLite has one writer. The writers of this process wait for this lock, where waiting is fair and free,
        # and not by polling the file until it says that it is locked.
        self._writer: AbstractAsyncContextManager[Any] = asyncio.Lock() if self._is_sqlite else nullcontext()

    async def run(self, delivery: Delivery, handle: Handle) -> Sequence[Message]:
        """Calls `handle` in a transaction and commits its effects, the inbox row and the follow-ups together.

        An event that was handled before (same group, same id) is not handled again: the follow-ups stored then are
        returned. Another content under an id that was handled raises `DeadLetter`: an id is no proof that it is the
        same event, and skipping it would lose it. When the transaction loses against another one (serialization
        failure, deadlock, locked file), all of it is done again, up to three times. Raises `Unavailable("database")`
        when the database is away: nothing was committed, or it was and the next delivery finds the row.
        """
        row = {"group_name": delivery.group, "event_id": _identity(delivery), "digest": _digest(delivery.message)}
        tries = 0
        while True:
            try:
                return await self._run(row, handle)
            except Exception as error:
                inside = [type(each) for each in leaves(error)]  # more than one of a handler's task group
                if any(issubclass(kind, IntegrityError) for kind in inside):
                    # Another consumer (thought dead, or the one that took over) has handled the event meanwhile, and it
                    # was the row that could not be there twice, or an effect. Or it is the handler's own error.
                    follow_ups = await self._find(row)
                    if follow_ups is None:
                        raise
                    return follow_ups
                if any(issubclass(kind, DeadLetter) for kind in inside):
                    raise
                if is_away(error):
                    raise Unavailable("database", f"database: {describe(error)}") from error
                if tries == _RETRIES or not is_transient(error):
                    raise
                tries += 1
                log.info("inbox.tried_again", group=delivery.group, id=delivery.message.id, error=describe(error))
            await asyncio.sleep(_PAUSE * 2**tries * random.random())

    async def _run(self, row: dict[str, str], handle: Handle) -> Sequence[Message]:
        async with self._writer, self._begin() as (connection, transaction):
            stored = await _stored(connection, row)
            if stored is not None:
                log.debug("inbox.found", group=row["group_name"], id=row["event_id"])
                return stored
            async with AsyncSession(
                bind=connection,
                expire_on_commit=False,
                join_transaction_mode="rollback_only",  # a commit() in the handler must not commit without our row
            ) as session:
                token = _session.set(session)
                try:
                    follow_ups = await handle()
                    await session.flush()
                finally:
                    _session.reset(token)
                if not transaction.is_active:
                    raise StreamsError("the handler rolled its transaction back; it raises an exception instead")
                text = dump_follow_ups(follow_ups) if follow_ups else None
                await connection.execute(insert(inbox).values(**row, follow_ups=text, handled_at=datetime.now(UTC)))
                await transaction.commit()
        return follow_ups

    async def _find(self, row: dict[str, str]) -> Sequence[Message] | None:
        async with self._begin(immediate=False) as (connection, _):
            return await _stored(connection, row)

    @asynccontextmanager
    async def _begin(self, *, immediate: bool = True) -> AsyncGenerator[tuple[AsyncConnection, AsyncTransaction]]:
        """Opens a connection and a transaction on it, which is rolled back unless it was committed."""
        async with AsyncExitStack() as stack:
            try:
                connection = await stack.enter_async_context(self.engine.connect())
            except OSError as error:  # the driver's own, not wrapped by SQLAlchemy
                raise Unavailable("database", f"database: {describe(error)}") from error
            transaction = await connection.begin()
            if immediate and self._is_sqlite and not await is_begun(connection):
                # A transaction that reads first and then writes fails at once when another one wrote in between,
                # and sqlite3 begins none at all before the first write, so that what was read may be old.
                await connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection, transaction

    async def forget(self, group: str, event_id: str) -> bool:
        """Removes the row of one event, so that a replay handles it again; returns whether there was one."""
        async with self.engine.begin() as connection:
            gone = await connection.execute(
                delete(inbox).where(inbox.c.group_name == group, inbox.c.event_id == event_id)
            )
            return gone.rowcount > 0

    async def prune(self, older_than: timedelta) -> int:
        """Removes the rows of what was handled longer ago, in transactions of 1000; returns how many.

        A row must outlive every way in which its event may come again: retries, dead letters until they are replayed
        or discarded, replays from history. An event that comes after its row is gone is handled again.
        """
        before, pruned = datetime.now(UTC) - older_than, 0
        key = tuple_(inbox.c.group_name, inbox.c.event_id)
        while True:
            old = select(inbox.c.group_name, inbox.c.event_id).where(inbox.c.handled_at < before).limit(_PRUNED_AT_ONCE)
            async with self.engine.begin() as connection:
                gone = await connection.execute(delete(inbox).where(key.in_(old)))
            pruned += gone.rowcount
            if gone.rowcount < _PRUNED_AT_ONCE:
                return pruned

    async def aclose(self) -> None:
        """Closes the connections, if the engine was made here."""
        if self._owned:
            await self.engine.dispose()


async def _stored(connection: AsyncConnection, row: dict[str, str]) -> Sequence[Message] | None:
    """The follow-ups of an event that was handled, None for one that was not.

    Raises `DeadLetter` when the row is of another content. A row from before there were digests is taken for the
    same event: there is nothing to compare.
    """
    query = select(inbox.c.follow_ups, inbox.c.digest)
    query = query.where(inbox.c.group_name == row["group_name"], inbox.c.event_id == row["event_id"])
    try:
        stored = (await connection.execute(query)).first()
    except DBAPIError as error:
        if "streams_inbox" not in str(error.orig):
            raise
        # The tables are older than the code. It is no fault of the event, so it waits for them.
        raise Unavailable(
            "database", f"database: {describe(error.orig or error)}; call create_tables(engine)"
        ) from error
    if stored is None:
        return None
    if stored.digest is not None and stored.digest != row["digest"]:
        raise DeadLetter(
            f"{row['group_name']} has handled another event under the id {row['event_id']}: type, dataversion or data "
            f"differ. If both are to have their effects, remove the row (SqlInbox.forget) and replay this one"
        )
    return load_follow_ups(stored.follow_ups) if stored.follow_ups else ()


def _digest(message: Message) -> str:
    """The digest of a message's content, to detect another content under the same id: type, version, and data.

    Each with its length before it, so that no content can be read as another one. Data in a claim store is compared by
    its reference, which has the SHA-256 of the data.
    """
    digest = hashlib.sha256()
    for value in (message.values[TYPE], b"%d" % message.version, message.values[DATA]):
        digest.update(b"%d:" % len(value))
        digest.update(value)
    return digest.hexdigest()


def _identity(delivery: Delivery) -> str:
    """What identifies an event in the table.

    A foreign entry without an id goes by its entry id, which another stream may have as well: there it is the stream's
    key and the entry id. An id from another publisher may be of any length and of any bytes: then it is hashed.
    """
    event_id = delivery.message.values[ID]
    if delivery.origin.rpartition(" ")[2].encode() == event_id:
        event_id = delivery.origin.encode()
        if _PLAIN_ORIGIN.fullmatch(event_id):
            return event_id.decode()
    elif _PLAIN_ID.fullmatch(event_id):
        return event_id.decode()
    return f"sha256:{hashlib.sha256(event_id).hexdigest()}"
