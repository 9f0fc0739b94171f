"""Processes that end themselves with SIGKILL between two steps, by a role (argument 1).

The program imports everything once and forks a child for each life, at a tenth of the cost of a start. A child ends
by the kill its role is about, or well; one line `{"role", "signal"}` per death goes to `KILLED_LOG`. The kills are in
subclasses: the product has no fail points.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import orjson
from sqlalchemy.ext.asyncio import AsyncSession

from streams import Consumer, Event, Processor, Settings, Streams
from streams.sql import CurrentTransaction, Outbox, SqlInbox, make_engine
from streams.sql.relay import Relay, Row
from tests.sql.ledger import enter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from streams import Delivery
    from streams.handlers.transaction import Handle
    from streams.messages.message import Message


class Ordered(Event, stream="orders", version=1):
    """What the effect is about."""

    n: int


class Booked(Event, stream="bookings", version=1):
    """What follows from it."""

    n: int


def die() -> None:
    """The end of this process, in the middle of whatever it does."""
    os.kill(os.getpid(), signal.SIGKILL)


# Made once, before any fork: they have no connection yet.
settings = Settings()
engine = make_engine(os.environ.get("DATABASE_URL", "sqlite://"))
outbox = Outbox(settings)

# Between effect and ack --------------------------------------------------------------------------------------------


class KilledInbox(SqlInbox):
    """Dies between commit and settlement whenever an event was handled for the first time."""

    async def run(self, delivery: Delivery, handle: Handle) -> Sequence[Message]:
        """As `SqlInbox` does, and then dies if `handle` was called."""
        called = False

        async def watched() -> Sequence[Message]:
            nonlocal called
            called = True
            return await handle()

        follow_ups = await super().run(delivery, watched)
        if called:
            die()
        return follow_ups


async def consume() -> None:
    """A consumer of one event at a time, until SIGTERM."""
    books = Processor("books", concurrency=1, transaction=KilledInbox(engine))

    @books.on(Ordered)
    async def book(event: Ordered, session: AsyncSession = CurrentTransaction()) -> Booked:
        await enter(session, event.n, str(os.getpid()))
        return Booked(n=event.n)

    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    consumer = Consumer(books, Streams(settings=settings))
    await consumer.start()
    await stopped.wait()
    await consumer.stop()
    await engine.dispose()


# On the way through the outbox -------------------------------------------------------------------------------------


async def write(n: int, *, commit: bool) -> None:
    """A business transaction that dies before or after its commit."""
    async with AsyncSession(engine) as session:
        await enter(session, n)
        await outbox.publish(session, Ordered(n=n), key=str(n % 3))
        await session.flush()
        if commit:
            await session.commit()
    die()


class DiesBeforeMark(Relay):
    """Dies when the events are in Redis and the rows still in the table."""

    async def _publish(self, rows: Sequence[Row]) -> None:
        await super()._publish(rows)
        die()


class DiesAfterMark(Relay):
    """Dies when the rows are gone."""

    async def _delete(self, rows: Sequence[Row]) -> None:
        await super()._delete(rows)
        die()


async def relay(kind: type[Relay]) -> None:
    """A relay that dies in its first round with rows."""
    async with Streams(settings=settings) as streams:
        await kind(engine, streams, lease=0.02).run()


# Lives -------------------------------------------------------------------------------------------------------------


def live(role: str, work: Callable[[], Awaitable[None]]) -> int:
    """One life of a child; returns the signal that ended it, 0 for none."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            asyncio.run(work())  # type: ignore[arg-type]
            code = 0
        finally:
            os._exit(code)
    children.append(child)
    _, status = os.waitpid(child, 0)
    children.remove(child)
    ended = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    line = {"role": role, "signal": ended, "code": 0 if ended else os.WEXITSTATUS(status)}
    os.write(_log, orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
    return ended


children: list[int] = []
_log = os.open(os.environ.get("KILLED_LOG", os.devnull), os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def main(role: str, lives: int) -> None:
    """Lives until a child ends well (`consumer`), or as often as asked (`outbox`)."""
    gc.freeze()  # what a child does not collect, it does not copy
    signal.signal(signal.SIGTERM, lambda *_: [os.kill(child, signal.SIGTERM) for child in children])
    if role == "consumer":
        while live(role, consume):
            pass
        return
    for n in range(lives):
        live("before commit", lambda n=n: write(-1 - n, commit=False))  # type: ignore[misc]
        live("after commit", lambda n=n: write(n, commit=True))  # type: ignore[misc]
        live("before mark", lambda: relay(DiesBeforeMark))
        live("after mark", lambda: relay(DiesAfterMark))


if __name__ == "__main__":
    sys.modules["tests.support.programs.sql_killed"] = sys.modules["__main__"]
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0)
