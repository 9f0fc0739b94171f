"""Relay: publishes what is committed in the outbox, in order and once. `python -m streams.sql.relay` runs one.

A round is read, publish, delete. A relay that dies between two of them leaves rows that the next one publishes again,
under the same names (`once`), which changes nothing in Redis for 24 hours. Since a round takes the oldest rows there
are, and Redis adds them in one step, order holds even while two relays are at work; the lease only spares them doing
so.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from sqlalchemy import delete, exc, insert, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from streams.client.client import Streams
from streams.errors import PublishUncertain, Refused, StreamsError, Unreachable, exit_on_error
from streams.logs import configure_unless_done, get_logger
from streams.messages.error_text import describe
from streams.process_state import ProcessState
from streams.redis.keys import PRIORITIES
from streams.sql.engine import make_engine
from streams.sql.serialization import load_message
from streams.sql.tables import NowMs, outbox, relays

if TYPE_CHECKING:
    from streams.messages.message import Message

log = get_logger("streams.relay")

_ROWS: Final = 200  # read in one round
_BYTES: Final = 4 * 1024 * 1024  # published in one step
_POLL: Final = 0.1  # seconds; doubled while there is nothing to do
_LONGEST_POLL: Final = 1.0
_LONGEST_PAUSE: Final = 5.0  # after errors
_NAME: Final = "outbox"

Row = tuple[int, "Message"]


class Relay:
    """Publishes the outbox of one database to one Redis. Run several: one works, the others wait for its lease to end.

    `lease` (seconds) is how long the others wait for one that says nothing any more. The engine and the client are the
    caller's to close. A client with tracing keeps the trace of the transaction that made the event.
    """

    def __init__(self, engine: AsyncEngine, streams: Streams, *, lease: float = 3.0) -> None:
        self._engine = engine
        self._streams = streams
        self._lease = lease
        self._holder = secrets.token_hex(8)
        self._leads_until = 0.0  # monotonic
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Relays until `stop()`; a database or a Redis that is away is waited for. Raises `Refused`."""
        poll, pause = _POLL, 0.0
        log.info("relay.started", database=self._engine.url.render_as_string(), redis=self._streams.connections.place)
        while not self._stopping.is_set():
            try:
                relayed = await self.relay()
            except Refused:
                raise
            except (exc.DBAPIError, exc.TimeoutError, OSError, StreamsError) as error:
                pause = min(_LONGEST_PAUSE, pause * 2 or _POLL)
                self._failed(error, pause)
                await self._wait(pause)
                continue
            pause = 0.0
            poll = _POLL if relayed else min(_LONGEST_POLL, poll * 2)
            if not relayed:
                await self._wait(poll * random.uniform(0.5, 1.0))
        await self._resign()
        log.info("relay.stopped")

    def stop(self) -> None:
        """Ends `run` after the round it is in; the next relay takes over at once."""
        self._stopping.set()

    async def relay(self) -> int:
        """One round, if this relay has the lease; returns how many rows are published and gone."""
        if not await self._leads():
            return 0
        rows = await self._read()
        if rows:
            await self._publish(rows)
            await self._delete(rows)
            log.debug("relay.published", count=len(rows))
        return len(rows)

    async def _leads(self) -> bool:
        """Takes or prolongs the lease; False while another relay has it."""
        now = asyncio.get_running_loop().time()
        if now < self._leads_until - self._lease / 2:
            return True
        ours = (relays.c.holder == self._holder) | (relays.c.until_ms < NowMs())
        # Asked before it is written: relays that wait must not keep the writers of a SQLite file waiting.
        async with self._engine.connect() as connection:
            free = await connection.scalar(select(ours).where(relays.c.name == _NAME))
        if free is None:
            with contextlib.suppress(exc.IntegrityError):  # another one was first
                async with self._engine.begin() as connection:
                    await connection.execute(insert(relays).values(name=_NAME, holder="", until_ms=0))
        elif not free:
            self._leads_until = 0.0
            return False
        take = (
            update(relays)
            .where(relays.c.name == _NAME, ours)
            .values(holder=self._holder, until_ms=NowMs() + round(self._lease * 1000))
        )
        async with self._engine.begin() as connection:
            leads = (await connection.execute(take)).rowcount == 1
        self._leads_until = now + self._lease if leads else 0.0
        return leads

    async def _read(self) -> list[Row]:
        """The oldest rows, as messages on their way; rows that are none are put aside."""
        oldest = (
            select(outbox.c.position, outbox.c.event_id, outbox.c.stream, outbox.c.priority, outbox.c.due_ms,
                   outbox.c.message)
            .where(outbox.c.error.is_(None)).order_by(outbox.c.position).limit(_ROWS)
        )  # fmt: skip
        async with self._engine.connect() as connection:
            found = (await connection.execute(oldest)).all()
        rows: list[Row] = []
        for row in found:
            try:
                message = load_message(row.message)
                if message.id != row.event_id or row.priority not in PRIORITIES:
                    raise ValueError("the row's columns do not fit its message")
                self._streams.address(message, row.stream, priority=row.priority, once=f"outbox:{message.id}")
            except (ValueError, StreamsError) as error:
                await self._put_aside(row.position, error)
                continue
            message.when = f"@{row.due_ms}" if row.due_ms else ""
            rows.append((row.position, message))
        return rows

    async def _put_aside(self, position: int, error: Exception) -> None:
        """Marks a row that cannot be published (it was not written by an outbox), so that those behind it can."""
        log.error("relay.row_broken", position=position, error=describe(error))
        async with self._engine.begin() as connection:
            await connection.execute(update(outbox).where(outbox.c.position == position).values(error=describe(error)))

    async def _publish(self, rows: Sequence[Row]) -> None:
        """Publishes in steps of bounded size, each all or nothing."""
        step: list[Message] = []
        size = 0
        for _, message in rows:
            if self._streams.claims is None and len(message.data) > self._streams.settings.max_bytes:
                raise StreamsError(f"event {message.id} is over the cap; the relay needs the STORAGE_URL of its outbox")
            if step and size + len(message.data) > _BYTES:
                await self._streams.append(step)
                step, size = [], 0
            step.append(message)
            size += len(message.data)
        await self._streams.append(step)

    async def _delete(self, rows: Sequence[Row]) -> None:
        async with self._engine.begin() as connection:
            await connection.execute(delete(outbox).where(outbox.c.position.in_([position for position, _ in rows])))

    def _failed(self, error: Exception, pause: float) -> None:
        match error:
            case Unreachable() | PublishUncertain():
                log.warning("relay.redis_away", error=describe(error), retry_in=pause)
            case StreamsError():
                log.error("relay.refused", error=describe(error), retry_in=pause)
            case _:
                log.warning("relay.database_failed", error=describe(error), retry_in=pause)

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def _resign(self) -> None:
        with contextlib.suppress(exc.DBAPIError, exc.TimeoutError, OSError):
            async with self._engine.begin() as connection:
                await connection.execute(update(relays).where(relays.c.holder == self._holder).values(until_ms=0))


async def serve(engine: AsyncEngine, streams: Streams) -> None:
    """Runs a relay until SIGTERM or SIGINT, and closes what it was given."""
    relay, state = Relay(engine, streams), ProcessState(streams.settings.state_file)

    def stop() -> None:
        state.stopping()
        relay.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    async with streams:
        try:
            state.begin()
            state.ready()
            await relay.run()
        finally:
            state.end()
            await engine.dispose()


def main() -> int:
    """Runs a relay from `DATABASE_URL` and `REDIS_URL`; returns the exit code (docs/operate/operations.md)."""
    with exit_on_error():
        configure_unless_done()
        asyncio.run(serve(make_engine(), Streams()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
