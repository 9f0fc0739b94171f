"""Load: the processors under test and what publishes to them, as `python -m tests.faults.soak.load`.

The program imports everything once and then forks a process for each line it reads, since a Python start would cost
half a second of one core: `consume NAME REDIS_URL`, `publish NAME REDIS_URL`. It answers with the pid, and writes to
the journal how each of them ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import decimal
import gc
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final, Literal

import sqlalchemy
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from structlog.contextvars import bind_contextvars, get_contextvars

from streams import Backoff, Consumer, CurrentDelivery, Delivery, Event, Processor, Settings, Slot, Streams
from streams.errors import PublishUncertain, StreamsError
from streams.messages.middleware import Deliver, Middleware
from streams.messages.outcome import Outcome
from streams.sql import CurrentTransaction, SqlInbox, make_engine
from tests.faults.soak.check import ODD
from tests.faults.soak.journal import Journal
from tests.sql.ledger import enter

Act = Literal[
    "ok", "fail", "poison", "exit", "cancels itself", "leaves things behind", "cancelled later", "panics", "task group",
]  # fmt: skip
ATTEMPTS: Final = 3
DELIVERIES: Final = 5
_LOOKS: Final = 5  # a fifth of a second each, that a slot stands still before it is written down

_begun: ContextVar[float] = ContextVar("begun")
_tenant: ContextVar[int] = ContextVar("tenant", default=0)


class Noted(Event, stream="noted", version=1, type="soak.Noted"):
    """For one group."""

    n: int
    act: Act = "ok"


class Counted(Event, stream="counted", version=1, type="soak.Counted"):
    """For two groups, one of which has an effect in SQL and publishes `Followed` with its ack."""

    n: int
    act: Act = "ok"


class Wide(Event, stream="wide", version=1, type="soak.Wide"):
    """For four groups."""

    n: int
    act: Act = "ok"


class Threaded(Event, stream="threaded", version=1, type="soak.Threaded"):
    """For one group, whose handler for it is a plain `def`."""

    n: int
    act: Act = "ok"


class Panic(BaseException):
    """What extensions written in Rust raise when they have found a bug of their own."""


class Followed(Event, stream="followed", version=1, type="soak.Followed"):
    """What the ledger says of an event; nobody reads it, it is counted at the end."""

    n: int


class Ticked(Event, stream="ticks", version=1, type="soak.Ticked"):
    """A slot of the one-second schedule."""

    slot: int


GROUPS: Final[dict[str, tuple[type[Event], ...]]] = {
    "plain": (Noted, Counted, Wide, Threaded),
    "ledger": (Counted, Wide),
    "third": (Wide,),
    "fourth": (Wide,),
}
"""Who reads what: 70 % of the events are for one group, 20 % for two, 10 % for four."""

PUBLISHED: Final = (Noted, Counted, Wide, Threaded)

SCHEDULE: Final = "clock.tick"


def processors(journal: Journal, database: str) -> list[Processor]:
    """The four groups and the schedule, made after the fork."""
    retry = Backoff(attempts=ATTEMPTS, first=0.2)
    made = []
    for group, events in GROUPS.items():
        transaction = SqlInbox(_engine(database)) if group == "ledger" else None
        processor = Processor(group, concurrency=16, retry=retry, transaction=transaction)
        handler = _ledger(group, journal) if group == "ledger" else _plain(group, journal)
        for event in events:
            processor.on(event)(_threaded(group, journal) if event is Threaded else handler)
        made.append(processor)
    clock = Processor("clock")

    @clock.every(1, misfire="all")
    def tick(slot: Slot) -> Ticked:
        return Ticked(slot=round(slot.at.timestamp()))

    return [*made, clock]


def _engine(database: str) -> AsyncEngine:
    """SQLite that does not wait for the disk: processes die here, the machine does not, and 70 commits a second would
    be all there is to see.
    """
    engine = make_engine(database, pool_size=20)

    @sqlalchemy.event.listens_for(engine.sync_engine, "connect")
    def configure(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA synchronous = OFF")

    return engine


def _plain(group: str, journal: Journal) -> Callable[..., Any]:
    async def handle(event: Event, delivery: Delivery = CurrentDelivery()) -> None:
        await _act(group, journal, event, delivery)

    return handle


def _threaded(group: str, journal: Journal) -> Callable[..., Any]:
    def handle(event: Threaded, delivery: Delivery = CurrentDelivery()) -> None:
        about = _start(group, journal, event, delivery)
        time.sleep(0.002 if event.n % 50 else 0.3)
        if event.act == "fail" and delivery.attempt < ATTEMPTS:
            journal.write("failed", **about)
            raise ValueError("not yet")
        journal.write("end", **about)

    return handle


def _ledger(group: str, journal: Journal) -> Callable[..., Any]:
    async def handle(
        event: Event, delivery: Delivery = CurrentDelivery(), session: AsyncSession = CurrentTransaction()
    ) -> Followed:
        await _act(group, journal, event, delivery)
        n: int = event.n  # type: ignore[attr-defined]
        await enter(session, n)
        return Followed(n=n)

    return handle


def _start(group: str, journal: Journal, event: Any, delivery: Delivery) -> dict[str, Any]:
    """Writes down that a handler has begun, and whether it sees what another one has set."""
    about = {"group": group, "n": event.n, "pid": os.getpid(), "attempt": delivery.attempt}
    journal.write("start", **about, deliveries=delivery.deliveries, begun=_begun.get())
    seen = [_tenant.get(), get_contextvars(), decimal.getcontext().prec]
    if seen != [0, {}, decimal.DefaultContext.prec]:
        journal.write("leaked", **about, seen=str(seen))
    return about


async def _be_odd(act: str) -> None:
    """What may not harm what is handled beside it or next."""
    task = asyncio.current_task()
    assert task is not None
    match act:
        case "cancels itself":
            task.cancel()
            await asyncio.sleep(0)
        case "panics":
            raise Panic
        case "task group":
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(10))
                group.create_task(_fail())
        case "leaves things behind":  # a cancel request, and what the next one would see
            _tenant.set(_tenant.get() + 1)
            bind_contextvars(tenant=_tenant.get())
            decimal.getcontext().prec = 3
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
        case "cancelled later":  # a time limit that was made at home, and is not taken back
            asyncio.get_running_loop().call_later(0.1, task.cancel)


async def _fail() -> None:
    await asyncio.sleep(0)
    raise ValueError("one of the group")


async def _act(group: str, journal: Journal, event: Any, delivery: Delivery) -> None:
    about = _start(group, journal, event, delivery)
    if group != "ledger":  # which has the one write lock of its database while it runs
        await asyncio.sleep(0.002 if event.n % 50 else 0.3)  # most are quick, some are under way when it hurts
    match event.act:
        case "exit":
            os._exit(9)
        case "poison":
            journal.write("failed", **about)
            raise ValueError("poison")
        case "fail" if delivery.attempt < ATTEMPTS:
            journal.write("failed", **about)
            raise ValueError("not yet")
        case "cancels itself" | "panics" | "task group" if delivery.attempt == 1:
            journal.write("failed", **about)
            await _be_odd(event.act)
    journal.write("end", **about)
    if group != "ledger":  # what is left behind may hit its own commit, and that is its own failure
        await _be_odd(event.act if event.act in ("leaves things behind", "cancelled later") else "ok")


class _Begun(Middleware):
    """Notes when a delivery is handed over. Its handler may run later: in the ledger's group when the transaction has
    been opened, for which all of them wait in line, and a process may be stopped while they do.
    """

    async def deliver(self, delivery: Delivery, call_next: Deliver) -> Outcome:
        _begun.set(time.monotonic())
        return await call_next(delivery)


async def _consume(journal: Journal, settings: Settings, database: str) -> None:
    """Consumes as every group until SIGTERM."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    made = processors(journal, database)
    consumers = [Consumer(processor, Streams(settings=settings), middleware=[_Begun()]) for processor in made]
    for consumer in consumers:
        await consumer.start()
    journal.write("ready", pid=os.getpid())
    looks = 0
    while not stopped.is_set():
        looks = looks + 1 if any(map(_standing, consumers)) else 0
        if looks == _LOOKS:
            journal.write("standing", pid=os.getpid(), slots=sum(map(_standing, consumers)))
        crashed = [consumer for consumer in consumers if consumer.crashed]
        if crashed:
            raise crashed[0].crash_reason or RuntimeError("a consumer crashed")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopped.wait(), 0.2)
    await asyncio.gather(*(consumer.stop() for consumer in consumers))


def _standing(consumer: Consumer) -> int:
    """How many slots of a consumer take nothing any more: their task has ended, or their place was not given back."""
    slots = consumer._pool._tasks
    busy = sum(slot.delivery is not None for slot in slots)
    return sum(slot.task is None or slot.task.done() for slot in slots) + max(0, consumer._pool.running - busy)


async def _publish(journal: Journal, settings: Settings) -> None:
    """Publishes until there are enough, as fast as the slowest group takes them, or until SIGTERM."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    most, seed = int(os.environ["SOAK_EVENTS"]), int(os.environ["SOAK_SEED"])
    exits = int(os.environ["SOAK_EXITS"])
    dice = random.Random(seed)
    acts = dict.fromkeys(dice.sample(range(50, 2_050), exits), "exit")
    numbers = iter(range(most))
    async with Streams(settings=settings) as streams:
        behind = asyncio.Event()
        behind.set()

        async def one() -> None:
            for n in numbers:
                if stopped.is_set():
                    return
                await behind.wait()
                await _publish_one(journal, streams, n, acts.get(n), random.Random(seed * 1_000_003 + n))

        watching = asyncio.create_task(_watch(streams, behind))
        await asyncio.gather(*(one() for _ in range(20)))
        watching.cancel()
    journal.write("published", pid=os.getpid())


async def _watch(streams: Streams, behind: asyncio.Event) -> None:
    """Holds the publishers back while some group is far behind."""
    while True:
        try:
            lag = 0
            for kind in PUBLISHED:
                for info in await streams.redis.xinfo_groups(streams.keys.stream(kind.stream)):
                    lag = max(lag, info["lag"] or 0)
            (behind.set if lag < 500 else behind.clear)()
        except Exception:
            behind.set()
        await asyncio.sleep(0.05)


async def _publish_one(journal: Journal, streams: Streams, n: int, act: str | None, dice: random.Random) -> None:
    kind = dice.choices(PUBLISHED, (68, 20, 10, 2))[0]
    if act is not None:
        kind = Noted
    elif kind is Threaded:
        act = dice.choices(("ok", "fail"), (95, 5))[0]
    else:
        act = dice.choices(("ok", "fail", "poison", *ODD), (84, 5, 1, *(10 / len(ODD) for _ in ODD)))[0]
    delay = dice.uniform(0.1, 3.0) if dice.random() < 0.05 else None
    event = kind(n=n, act=act)  # type: ignore[call-arg]
    journal.write("publish", n=n, kind=kind.__name__, act=act, due=time.monotonic() + (delay or 0.0))
    try:
        receipt = await streams.publish(event, delay=delay)
    except PublishUncertain as error:
        journal.write("publish_unsure", n=n, error=str(error)[:200])
    except StreamsError as error:
        journal.write("publish_failed", n=n, error=str(error)[:200])
    else:
        journal.write("publish_ok", n=n, id=receipt.id)


def _fork(what: str, url: str, journal: Journal, log: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for number in (1, 2):
            os.dup2(output, number)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.environ["REDIS_URL"] = url
        settings = Settings()
        if what == "consume":
            asyncio.run(_consume(journal, settings, os.environ["SOAK_DATABASE"]))
        else:
            asyncio.run(_publish(journal, settings))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def main() -> None:
    """Forks what it is told to, until its input ends."""
    journal = Journal(Path(os.environ["SOAK_JOURNAL"]))
    logs = Path(os.environ["SOAK_LOGS"])

    def reap(*_: object) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            journal.write("exit", pid=pid, code=os.waitstatus_to_exitcode(status))

    signal.signal(signal.SIGCHLD, reap)
    gc.freeze()
    for line in sys.stdin:
        what, name, url = line.split()
        sys.stdout.write(f"{_fork(what, url, journal, logs / f'{name}.log')}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    # An import of this module by its name would register its events a second time.
    sys.modules["tests.faults.soak.load"] = sys.modules["__main__"]
    main()
