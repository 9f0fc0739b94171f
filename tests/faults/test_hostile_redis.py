"""What somebody does to Redis, to a connection, or to the clock, while events are on their way."""

from __future__ import annotations

import asyncio
import random
import resource
import time
from collections import Counter
from collections.abc import Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from structlog.testing import capture_logs

from streams import Backoff, Consumer, CurrentDelivery, Delivery, Processor, Settings, Streams, clock
from streams.redis.connection import Connections
from streams.redis.reconnect import Reconnect
from streams.sql import CurrentTransaction, SqlInbox
from tests.conftest import RedisFactory
from tests.sql.conftest import database_url, engine, postgres, postgres_url
from tests.sql.ledger import enter, entries, open_ledger
from tests.streams.conftest import StartConsumer, make_settings, start
from tests.streams.consuming.test_consumer import settled
from tests.streams.inspecting.test_reconciliation import adds_up
from tests.support.events import Noted
from tests.support.figures import told
from tests.support.proxy import Proxy
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["database_url", "engine", "make_settings", "postgres", "postgres_url", "start"]

pytestmark = pytest.mark.newest_redis


def counting() -> tuple[Processor, Counter[int]]:
    """A processor that counts what it handles."""
    probe, seen = Processor("probe"), Counter[int]()

    @probe.on(Noted)
    async def note(event: Noted) -> None:
        seen[event.n] += 1

    return probe, seen


@asynccontextmanager
async def publishing(streams: Streams) -> AsyncIterator[list[int]]:
    """Publishes without a break; gives what is known to be in Redis, in order."""
    confirmed: list[int] = []

    async def publish() -> None:
        for n in range(1_000_000):
            await streams.publish(Noted(n=n))
            confirmed.append(n)
            await asyncio.sleep(0.001)

    task = asyncio.create_task(publish())
    yield confirmed
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_scripts_that_are_flushed_are_taught_again(streams: Streams, start: StartConsumer) -> None:
    """SCRIPT FLUSH twenty times under load: nobody sees an error, nothing is lost or handled twice."""
    probe, seen = counting()
    await start(probe)
    with capture_logs() as logs:
        async with publishing(streams) as confirmed:
            for _ in range(20):
                before = len(seen)
                await streams.redis.script_flush()
                await wait_until(lambda before=before: len(seen) > before)  # type: ignore[misc]
        await wait_until(lambda: settled(streams))
    assert [line for line in logs if line["log_level"] == "error"] == []
    assert set(confirmed) <= set(seen)
    assert set(seen.values()) == {1}


async def test_a_redis_that_is_flushed_under_load_is_gone_on_with(streams: Streams, start: StartConsumer) -> None:
    """FLUSHALL three times under two consumers and a publisher: what was there is gone, and it is said; what is
    published afterwards is handled, all of it, from what makes the stream anew.
    """
    probe, seen = counting()
    for _ in range(2):
        await start(probe)
    with capture_logs() as logs:
        async with publishing(streams) as confirmed:
            for first in (-1, -2, -3):
                before = len(confirmed)
                await wait_until(lambda before=before: len(confirmed) > before + 50)  # type: ignore[misc]
                async with streams.redis.pipeline(transaction=True) as pipe:
                    pipe.flushall()
                    pipe.xadd(streams.keys.stream("notes"), {"type": "Noted", "data": f'{{"n":{first}}}'})
                    await pipe.execute()
                await wait_until(lambda first=first: first in seen)  # type: ignore[misc]
                after = confirmed[-1] + 2  # the one that is on its way may be in or gone
                await wait_until(lambda after=after: after in seen, message="it goes on")  # type: ignore[misc]
        await wait_until(lambda: set(range(after, confirmed[-1] + 1)) <= set(seen))
        await wait_until(lambda: settled(streams))
    assert any(line["event"] == "stream.reset" for line in logs)
    print(f"{len(confirmed)} published, {len(set(confirmed) - set(seen))} gone with three FLUSHALLs")


async def test_five_thousand_cancelled_calls_never_get_anothers_reply(streams: Streams) -> None:
    """A call that is cancelled at any moment closes its connection: the next one reads its own reply."""
    connections, dice = Connections(streams.settings), random.Random(1)
    direct = connections.direct(timeout=10.0)
    cancelled = 0
    for n in range(5_000):
        task = asyncio.create_task(direct.call(b"ECHO", b"%d" % n))
        for _ in range(dice.randrange(8)):
            await asyncio.sleep(0)
        task.cancel()
        try:
            assert await task == b"%d" % n
        except asyncio.CancelledError:
            cancelled += 1
        if n % 10 == 0:
            assert await direct.call(b"ECHO", b"own %d" % n) == b"own %d" % n
    await direct.aclose()
    await connections.aclose()
    print(f"5,000 calls, {cancelled} cancelled: every other reply its own")
    assert 0 < cancelled < 5_000


async def test_a_read_that_waits_keeps_no_settlement_waiting(streams: Streams, start: StartConsumer) -> None:
    """Nothing shares the connection that a read blocks: with a block of 30 s, 64 events are settled long before."""
    probe, seen = counting()
    await start(probe, block=30.0, concurrency=64)
    for n in range(64):
        await streams.publish(Noted(n=n))
        await wait_until(lambda n=n: n in seen, 20)  # type: ignore[misc]
    await wait_until(lambda: settled(streams), 20)


class _WrongClock:
    """The machine's, with a wrong time of day; its timers are right."""

    def __init__(self, off: timedelta) -> None:
        self._off = off

    def now(self) -> datetime:
        return datetime.now(UTC) + self._off

    def time(self) -> float:
        return asyncio.get_running_loop().time()

    def call_later(self, delay: float, callback: Callable[..., Any], /, *args: Any) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(delay, callback, *args)

    def call_at(self, when: float, callback: Callable[..., Any], /, *args: Any) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_at(when, callback, *args)

    async def sleep(self, seconds: float, /) -> None:
        await asyncio.sleep(seconds)


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_wrong_clock_of_a_process_makes_nothing_early_or_late(
    streams: Streams, start: StartConsumer, hours: int
) -> None:
    """Delays, retries and leases are reckoned by Redis' clock; the process' own is an hour off."""
    tries: list[float] = []
    probe = Processor("probe", retry=Backoff(attempts=2, first=0.2))

    @probe.on(Noted)
    async def note(event: Noted, delivery: Delivery = CurrentDelivery()) -> None:
        tries.append(time.monotonic())
        if delivery.attempt == 1:
            raise ValueError("not yet")

    with clock.replaced(_WrongClock(timedelta(hours=hours))):
        await start(probe, lease=0.5)
        began = time.monotonic()
        await streams.publish(Noted(n=1), delay=0.5)
        await wait_until(lambda: len(tries) == 2, 20)
        await wait_until(lambda: settled(streams))
    assert tries[0] - began >= 0.5, "early"
    assert len(tries) == 2
    assert not await streams.redis.xlen(streams.keys.dead("probe"))


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)  # where eight may be in a transaction at once
async def test_a_jump_of_redis_clock_may_repeat_a_run_and_no_effect(
    streams: Streams, start: StartConsumer, engine: AsyncEngine
) -> None:
    """Idle times are wall clock: after a jump forward every lease looks over. Here each entry's last delivery is set
    an hour back, which is what a jump does. Handlers run twice, and their effects in SQL happen once.
    """
    await open_ledger(engine)
    runs, gate = Counter[int](), asyncio.Event()
    key = streams.keys.stream("notes")
    probe = Processor("probe", transaction=SqlInbox(engine), concurrency=8)

    @probe.on(Noted)
    async def note(
        event: Noted, delivery: Delivery = CurrentDelivery(), s: AsyncSession = CurrentTransaction()
    ) -> None:
        runs[event.n] += 1
        if delivery.deliveries == 1:
            await gate.wait()
        await enter(s, event.n)

    await start(probe, lease=60.0)
    await streams.publish_many([Noted(n=n) for n in range(8)])
    await wait_until(lambda: runs.total() == 8)
    await start(probe, lease=2.0)
    long_ago = int(time.time() * 1000) - 3_600_000
    for entry in await streams.redis.xpending_range(key, "probe", "-", "+", 100):
        await streams.redis.xclaim(
            key, "probe", entry["consumer"], 0, [entry["message_id"]], time=long_ago, justid=True
        )
    await wait_until(lambda: runs.total() == 16, 20)
    await wait_until(lambda: settled(streams), 30)
    gate.set()  # the first ones end now, as who had been overtaken
    await streams.publish(Noted(n=8))
    await wait_until(lambda: runs[8] == 1)
    await wait_until(lambda: settled(streams), 30)
    assert await entries(engine) == list(range(9))
    print(f"8 events, 16 runs, {len(set(await entries(engine))) - 1} effects")


async def test_a_large_foreign_entry_is_a_dead_letter_and_no_burden(streams: Streams, start: StartConsumer) -> None:
    """10 MiB by a raw XADD: a dead letter as it is, while events beside it are handled."""
    probe, seen = counting()
    await start(probe)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    await streams.redis.xadd(streams.keys.stream("notes"), {"type": "Noted", "data": b"x" * (10 * 1024 * 1024)})
    await streams.publish_many([Noted(n=n) for n in range(100)])
    await wait_until(lambda: len(seen) == 100)
    await wait_until(lambda: streams.redis.xlen(streams.keys.dead("probe")))
    (letter,) = [letter async for letter in streams.dead_letters("probe").ls()]
    assert letter.reason == "too_large"
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"10 MiB of data: the process grew by {grown:.0f} MiB")


async def test_a_message_is_delivered_once_whatever_its_delay_and_the_lease(
    streams: Streams, start: StartConsumer
) -> None:
    """A delay of five leases with five consumers: what waits is in nobody's hands, so no lease of it runs out (S5)."""
    probe, seen = counting()
    for _ in range(5):
        await start(probe, lease=0.3)
    await streams.publish_many([Noted(n=n) for n in range(20)])
    for n in range(20, 25):
        await streams.publish(Noted(n=n), delay=1.5)
    await wait_until(lambda: len(seen) == 25, 20)
    await wait_until(lambda: settled(streams))
    assert set(seen.values()) == {1}


async def test_many_dead_consumers_leave_nothing_and_lose_nothing(streams: Streams, start: StartConsumer) -> None:
    """A hundred that died, every second one holding something: their names go, and what they held does not (C14)."""
    key, heartbeats = streams.keys.stream("notes"), streams.keys.consumers("probe")
    await streams.publish_many([Noted(n=n) for n in range(100)])
    await streams.redis.xgroup_create(key, "probe", id="0")
    for n in range(100):
        if n % 2:
            await streams.redis.xreadgroup("probe", f"dead-{n}", {key: ">"}, count=1)
        else:
            await streams.redis.xgroup_createconsumer(key, "probe", f"dead-{n}")
        await streams.redis.zadd(heartbeats, {f"dead-{n}": 1})
    probe, seen = counting()
    consumer = await start(probe, lease=0.3)

    async def names() -> list[bytes]:
        return [info["name"] for info in await streams.redis.xinfo_consumers(key, "probe")]

    async def alone() -> bool:
        return await names() == [consumer.name.encode()]

    await wait_until(alone, 30)
    await wait_until(lambda: len(seen) == 100)
    assert await streams.redis.zcard(heartbeats) == 1
    (account,) = (await streams.accounts()).groups
    assert adds_up(account)
    assert account.gap == 0


async def test_who_comes_back_together_comes_back_apart() -> None:
    """A hundred consumers lose Redis at one moment: at each step they spread over as long as the step is (N11)."""
    waits: list[list[float]] = [[] for _ in range(4)]

    async def lose(reconnect: Reconnect) -> None:
        for step in waits:
            began = time.monotonic()
            await reconnect.failed(ConnectionError())
            step.append(time.monotonic() - began)

    await asyncio.gather(*(lose(Reconnect("here")) for _ in range(100)))
    for number, step in enumerate(waits):
        assert max(step) - min(step) > 0.05 * 2**number * 0.7, f"step {number} is not spread"


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_hundred_consumers_are_back_soon_and_not_at_once(
    streams: Streams, redis_factory: RedisFactory, app: str
) -> None:
    """Their Redis is killed and started again; a proxy that refuses them meanwhile writes down when each tries."""
    server = redis_factory(args=["--maxclients", "5000"])
    async with Proxy("127.0.0.1", server.port) as proxy:
        url = SecretStr(proxy.url)
        settings = Settings(redis_url=url, app=app, lease=30.0, block=5.0)
        probe, seen = counting()
        consumers = [Consumer(probe, Streams(settings=settings)) for _ in range(100)]
        for consumer in consumers:
            await consumer.start()
        connected = server.cli("INFO", "clients")["connected_clients"]
        await _bring_back(server)
        back, samples, began = 0.0, list[int](), time.monotonic()
        while not back and time.monotonic() - began < 30:
            samples.append(server.cli("INFO", "stats")["total_connections_received"])
            if server.cli("INFO", "clients")["connected_clients"] >= connected * 0.5:
                back = time.monotonic() - began
            await asyncio.sleep(0.1)
        async with Streams(settings=settings.model_copy(update={"redis_url": SecretStr(server.url)})) as client:
            await client.publish(Noted(n=1))
            await wait_until(lambda: 1 in seen, 20)
        steps = [float(b - a) for a, b in pairwise(samples)]
        print(
            f"{connected} connections of 100 consumers: back after {back:.1f} s; new ones in 100 ms: "
            f"at most {max(steps):.0f} ({told(steps).replace(' s', '')})"
        )
        for consumer in consumers:
            await consumer.stop()
        assert back


async def _bring_back(server: RedisServer) -> Any:
    await asyncio.to_thread(server.kill)
    await asyncio.sleep(1.0)
    await asyncio.to_thread(server.start)
