"""Points: processes that end themselves with SIGKILL at one named point.

The program imports everything once and forks a child for each life. For each point one child works until it gets
there, and dies; another takes over, until SIGTERM. The product has no fail points: its seams are wrapped in the child.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import redis
from sqlalchemy.ext.asyncio import AsyncSession

from streams import Backoff, Consumer, CurrentDelivery, Delivery, Event, Processor, Settings, Streams
from streams.admin import trim
from streams.consuming import leases
from streams.consuming import scripts as consuming_scripts
from streams.consuming.reader import Reader
from streams.dead_letters.dead_letters import DeadLetters
from streams.executing.executor import Executor
from streams.handlers.transaction import Handle
from streams.messages.message import Message
from streams.redis import script as redis_script
from streams.redis.keys import Keys
from streams.settling import scripts as settling_scripts
from streams.sql import CurrentTransaction, Outbox, SqlInbox, make_engine
from streams.sql import inbox as sql_inbox
from streams.sql.relay import Relay, Row
from tests.sql.ledger import enter


class Wanted(Event, stream="wanted", version=1):
    """What the effect is about; some fail once, some always."""

    n: int
    failures: int = 0


class Granted(Event, stream="granted", version=1):
    """What follows from it."""

    n: int


def die() -> None:
    """The end of this process, in the middle of whatever it does."""
    os.kill(os.getpid(), signal.SIGKILL)


settings = Settings()
engine = make_engine(os.environ.get("DATABASE_URL", "sqlite://"))
outbox = Outbox(settings)

# The points --------------------------------------------------------------------------------------------------------


def replace_run(wrapped: Callable[..., Any]) -> None:
    """Puts something in the place of what runs scripts, wherever that was imported."""
    run = redis_script.run
    for module in list(sys.modules.values()):
        if vars(module).get("run") is run:
            module.run = wrapped  # type: ignore[attr-defined]


def around(name: str, *, after: bool, at: int = 1) -> Callable[[], None]:
    """Dies before or after the `at`-th call of a script."""

    def wrap() -> None:
        left, run = at, redis_script.run

        async def wrapped(
            call: redis_script.Call, script: redis_script.Script, keys: Sequence[str], arguments: Any
        ) -> Any:
            nonlocal left
            left -= script.name == name
            if script.name == name and left == 0:
                if after:
                    await run(call, script, keys, arguments)
                die()
            return await run(call, script, keys, arguments)

        replace_run(wrapped)

    return wrap


def holding(operation: bytes, *, after: bool) -> Callable[[], None]:
    """Dies before or after a settlement with such an operation in it."""

    def wrap() -> None:
        settle = settling_scripts.settle

        async def wrapped(call: redis_script.Call, keys: Keys, **given: Any) -> tuple[list[int], redis_script.Refusals]:
            hit = operation in given["operations"]
            if hit and not after:
                die()
            done = await settle(call, keys, **given)
            if hit:
                die()
            return done

        settling_scripts.settle = wrapped

    return wrap


def unread() -> None:
    """The settlement is executed, and its reply is never read: it goes over a connection that nobody listens to."""

    async def wrapped(call: redis_script.Call, script: redis_script.Script, keys: Sequence[str], arguments: Any) -> Any:
        if script is settling_scripts.SETTLE:
            assert settings.redis_url is not None
            connection = redis.from_url(settings.redis_url.get_secret_value()).connection_pool.get_connection()
            connection.send_command(*script.by_source(keys, arguments))
            connection.can_read(timeout=10)  # it is there: so Redis has done it
            die()
        return await run(call, script, keys, arguments)

    run = redis_script.run
    replace_run(wrapped)


def read() -> None:
    """Redis has handed something over, and nobody has looked at it yet."""
    inner = Reader._read

    async def wrapped(self: Reader, count: int) -> Any:
        reply = await inner(self, count)
        if reply:
            die()
        return reply

    Reader._read = wrapped  # type: ignore[method-assign]


def decoded() -> None:
    """The event is read, and its handler has not begun."""
    inner = Executor.decode

    def wrapped(self: Executor, *given: Any) -> Event:
        inner(self, *given)
        die()
        raise AssertionError("it is dead")

    Executor.decode = wrapped  # type: ignore[method-assign]


def renewed() -> None:
    """In the lease thread, while a handler runs."""
    inner = leases.Leases._renew

    def wrapped(self: leases.Leases, client: Any, now: float) -> set[Delivery]:
        held = bool(self.held)
        lost = inner(self, client, now)
        if held:
            die()
        return lost

    leases.Leases._renew = wrapped  # type: ignore[method-assign]


def looked_up() -> None:
    """The transaction has begun and the inbox was asked: the event is new."""
    inner = sql_inbox._stored

    async def wrapped(*given: Any) -> Sequence[Message] | None:
        stored = await inner(*given)
        die()
        return stored

    sql_inbox._stored = wrapped


def taken_over() -> None:
    """What a dead consumer held is this one's, and it has not looked at it."""
    inner = consuming_scripts.reclaim

    async def wrapped(*given: Any, **named: Any) -> Any:
        answer = await inner(*given, **named)
        if answer[2]:
            die()
        return answer

    consuming_scripts.reclaim = wrapped


def committed() -> None:
    """The effect is committed, and the delivery is not settled."""
    inner = SqlInbox.run

    async def wrapped(self: SqlInbox, delivery: Delivery, handle: Handle) -> Sequence[Message]:
        follow_ups = await inner(self, delivery, handle)
        die()
        return follow_ups

    SqlInbox.run = wrapped  # type: ignore[method-assign]


POINTS: Final[dict[str, Callable[[], None]]] = {
    "after the read": read,
    "after decoding": decoded,
    "after the look into the inbox": looked_up,
    "in the handler": lambda: None,
    "after the commit of the effect": committed,
    "before the settlement": around("settle", after=False),
    "settled, the reply unread": unread,
    "after the settlement": around("settle", after=True),
    "in the renewal": renewed,
    "after a take-over": taken_over,
    "before a retry is settled": holding(b"w", after=False),
    "after a retry is settled": holding(b"w", after=True),
    "before a dead letter is settled": holding(b"d", after=False),
    "after a dead letter is settled": holding(b"d", after=True),
    "before the move": around("release_due", after=False),
    "after the move": around("release_due", after=True),
    "replayed in the middle": around("replay_dead_letters", after=True, at=2),
    "before the trim": around("trim", after=False),
    "after the trim": around("trim", after=True),
    "a consumer that retires": around("retire_consumer", after=True),
    "before the mark of the outbox": lambda: None,
}
LONGEST: Final = 30  # seconds that a life has for its point
AFTERWARDS: Final = {"replayed in the middle", "before the trim", "after the trim", "before the mark of the outbox"}
"""What is done when all is handled, in a life of its own."""

# The lives ---------------------------------------------------------------------------------------------------------


async def consume(point: str, ready: int = 1) -> None:
    """A consumer, until SIGTERM or the point."""
    wants = Processor(
        "wants", concurrency=4, retry=Backoff(attempts=2, first=0.05), transaction=SqlInbox(engine)
    )  # fmt: skip

    @wants.on(Wanted)
    async def want(
        event: Wanted, delivery: Delivery = CurrentDelivery(), session: AsyncSession = CurrentTransaction()
    ) -> Granted:
        await enter(session, event.n)
        if delivery.attempt <= event.failures:
            raise ValueError("not yet")
        if point == "in the handler":
            die()
        if point == "in the renewal":
            await asyncio.sleep(5)
        return Granted(n=event.n)

    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    if point == "a consumer that retires":
        asyncio.get_running_loop().call_later(0.3, stopped.set)
    consumer = Consumer(wants, Streams(settings=settings))
    await consumer.start()
    os.write(ready, b"\n")
    await stopped.wait()
    await consumer.stop()
    await engine.dispose()


class DiesBeforeMark(Relay):
    """Dies when the events are in Redis and the rows still in the table."""

    async def _publish(self, rows: Sequence[Row]) -> None:
        await super()._publish(rows)
        die()


async def afterwards(point: str, *, again: bool) -> None:
    """What a person or a relay does: once until the point, and `again` to its end."""
    async with Streams(settings=settings) as streams:
        if point == "replayed in the middle":
            letters = DeadLetters(streams, "wants")
            for letter in [letter async for letter in letters.ls()]:
                await letters.replay([letter.id])
        elif point == "before the mark of the outbox":
            if not again:
                async with AsyncSession(engine) as session, session.begin():
                    await outbox.publish(session, Wanted(n=1000))
            relay = (Relay if again else DiesBeforeMark)(engine, streams, lease=0.02)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await relay.run()
        else:
            await trim.trim(streams, ["wanted"], keep=1)


def live(work: Callable[[], Awaitable[None]], wrap: Callable[[], None] | None = None, *, seconds: int = 0) -> int:
    """One life of a child; returns its pid. After so many seconds it is over in any case (0: it is not)."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.dup2(2, 1)  # log lines are no answers
        signal.alarm(seconds)  # a point that is not reached is an answer too, and not a test that hangs
        if wrap:
            wrap()
        asyncio.run(work())  # type: ignore[arg-type]
        code = 0
    finally:
        os._exit(code)


def answer(role: str, point: str) -> int:
    """`first POINT`, `again POINT`: how a child ended; `successor`: the pid of one; `end PID`: how that one ended."""
    if role == "successor":
        ready, told = os.pipe()
        child = live(lambda: consume("", told))
        os.close(told)
        os.read(ready, 1)  # SIGTERM is an end in order only from here on
        os.close(ready)
        return child
    if role == "end":
        child = int(point)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGTERM)
    elif point in AFTERWARDS:
        wrap = POINTS[point] if role == "first" else None
        child = live(lambda: afterwards(point, again=role == "again"), wrap, seconds=LONGEST)
    else:
        child = live(lambda: consume(point), POINTS[point], seconds=LONGEST)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(answer: Callable[[str, str], int] = answer) -> None:
    """Lives as it is told to, line by line."""
    gc.freeze()
    for line in sys.stdin:
        role, _, point = line.strip().partition(" ")
        print(answer(role, point), flush=True)


if __name__ == "__main__":
    sys.modules["tests.support.programs.points"] = sys.modules["__main__"]
    main()
