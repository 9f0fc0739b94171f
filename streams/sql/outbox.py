"""Outbox: events that are published if, and only if, the transaction they were made in is committed."""

from __future__ import annotations

import hashlib
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from sqlalchemy import Executable, Integer, cast, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from streams.durations import Duration, seconds
from streams.errors import TooLarge, Unpublishable
from streams.messages.claims import MOST
from streams.messages.delivery import current_delivery
from streams.messages.message import TRACEPARENT, TRACESTATE, Message
from streams.messages.publishable import checked_event, checked_key
from streams.receipt import Receipt
from streams.redis.keys import checked_priority
from streams.settings import Settings
from streams.sql.serialization import dump_message
from streams.sql.tables import LOCK_SPACE, outbox

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

    from streams.events.event import Event, Priority

_CONTEXT: Final = TraceContextTextMapPropagator()


class Outbox:
    """Writes events into the outbox table; a relay (`python -m streams.sql.relay`) publishes them.

    Nothing is sent to Redis here, which may be away. `settings` are the environment's unless given: the size cap and
    the events' `source`. With a `STORAGE_URL`, data over the cap stands in the row until the relay, which needs the
    same, moves it to the claim store: what is rolled back leaves no object there.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        settings = settings or Settings.load()
        self._most = settings.max_bytes if settings.storage_url is None else MOST
        self._source = settings.source or f"/{settings.app}"

    async def publish(
        self,
        session: AsyncSession | AsyncConnection,
        event: Event,
        *,
        key: str = "",
        priority: Priority | None = None,
        delay: Duration | None = None,
    ) -> Receipt:
        """Inserts the event into the caller's transaction, and nothing else; the receipt has the id it will have.

        Events with the same `key` are published in the order of their commits: on PostgreSQL the key is locked
        (advisory, this transaction's) until the transaction ends, so publish late in it, and several keys in one
        order. `delay` counts from now, by this machine's clock. Raises `Unpublishable`, `TooLarge`, and what the
        database raises.
        """
        statement, receipt = self._insert(event, key, priority, delay)
        if key and _dialect(session) == "postgresql":
            await session.execute(_lock(key))
        await session.execute(statement)
        return receipt

    def publish_sync(
        self,
        session: Session | Connection,
        event: Event,
        *,
        key: str = "",
        priority: Priority | None = None,
        delay: Duration | None = None,
    ) -> Receipt:
        """The same for a session that is not asyncio's."""
        statement, receipt = self._insert(event, key, priority, delay)
        if key and _dialect(session) == "postgresql":
            session.execute(_lock(key))
        session.execute(statement)
        return receipt

    def _insert(
        self, event: Event, key: str, priority: Priority | None, delay: Duration | None
    ) -> tuple[Executable, Receipt]:
        kind = checked_event(event)
        checked_key(key)
        chosen = kind.usual_priority if priority is None else checked_priority(priority)
        delivery = current_delivery.get(None)
        cause = delivery.message if delivery is not None else None
        message = Message.for_event(event, source=self._source, target="", key=key, cause=cause)
        if len(message.data) > self._most:
            raise TooLarge(
                f"{kind.type}: {len(message.data)} bytes of data are over the cap of {self._most}; set STORAGE_URL, "
                "or store the large part elsewhere and publish a reference"
            )
        carrier: dict[str, str] = {}
        _CONTEXT.inject(carrier)  # the trace of the transaction, not the relay's
        message.values[TRACEPARENT] = carrier.get("traceparent", "").encode()
        message.values[TRACESTATE] = carrier.get("tracestate", "").encode()
        statement = insert(outbox).values(
            event_id=message.id,
            type=kind.type,
            stream=kind.stream,
            priority=chosen,
            due_ms=_due(delay),
            message=dump_message(message),
            created_at=datetime.now(UTC),
        )
        return statement, Receipt(message.id, kind.stream)


def _due(delay: Duration | None) -> int | None:
    if delay is None:
        return None
    try:
        return round((time.time() + seconds(delay)) * 1000)
    except ValueError as error:
        raise Unpublishable(f"delay=: {error}") from None


def _dialect(session: AsyncSession | AsyncConnection | Session | Connection) -> str:
    if isinstance(session, AsyncSession):
        session = session.sync_session
    bind = session.get_bind(clause=outbox.insert()) if hasattr(session, "get_bind") else session
    return str(bind.dialect.name)


def _lock(key: str) -> Executable:
    """Waits until no other transaction that has published under this key is open.

    Without it a transaction that began to publish first could commit last: its row has the lower position and is seen
    later, so the relay would publish the two the wrong way round. SQLite has one writer at a time anyway.
    """
    half = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=4).digest(), signed=True)
    return select(func.pg_advisory_xact_lock(cast(LOCK_SPACE, Integer), cast(half, Integer)))
