"""What stands between: one name that leads to another server after a failover, and a box that forgets connections."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from streams import Consumer, Processor, PublishUncertain, Settings, Streams, SyncStreams, Unreachable
from tests.conftest import RedisFactory
from tests.streams.conftest import make_settings, start
from tests.support.events import Noted
from tests.support.figures import told
from tests.support.proxy import Proxy
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

__all__ = ["make_settings", "start"]

pytestmark = [pytest.mark.newest_redis, pytest.mark.timeout(120)]

RUNS = 10
WITHIN = 10.0  # seconds until both publishing and consuming go on


def settings_of(url: str, app: str, **more: Any) -> Settings:
    """Of a consumer whose lease outlasts a failover."""
    given: dict[str, Any] = {"redis_url": url, "app": app, "lease": 4.0, "block": 0.5, "grace": 2.0}
    return Settings(**given | more)


class Failover:
    """Two servers, one of which is a replica of the other, behind one name."""

    def __init__(self, first: RedisServer, second: RedisServer, name: Proxy) -> None:
        self.master, self.replica, self.name = first, second, name

    async def begin(self) -> None:
        """Makes the second one a replica, and waits until it has everything."""
        self.replica.cli("REPLICAOF", "127.0.0.1", self.master.port)
        await wait_until(self._in_step, 20)

    def _in_step(self) -> bool:
        seen = self.replica.cli("INFO", "replication")
        return bool(
            seen["master_link_status"] == "up"
            and seen["slave_repl_offset"] == self.master.cli("INFO", "replication")["master_repl_offset"]
        )

    async def switch(self) -> None:
        """What a managed service does: the master takes no more writes, the replica has everything and takes over, the
        name leads to it, and the old one is its replica, with all its connections open.
        """
        self.master.cli("CLIENT", "PAUSE", 5000, "WRITE")
        await wait_until(self._in_step, 20)
        self.replica.cli("REPLICAOF", "NO", "ONE")
        self.master.cli("REPLICAOF", "127.0.0.1", self.replica.port)
        self.master.cli("CLIENT", "UNPAUSE")
        self.name.lead_to("127.0.0.1", self.replica.port)
        self.master, self.replica = self.replica, self.master

    def end(self) -> None:
        """Makes two servers of them again, which can be emptied."""
        for server in (self.master, self.replica):
            server.cli("REPLICAOF", "NO", "ONE")


@asynccontextmanager
async def publishing(streams: Streams) -> AsyncIterator[set[int]]:
    """Publishes without a break, whatever it is answered; gives what was confirmed."""
    confirmed: set[int] = set()

    async def publish() -> None:
        for n in range(1_000_000):
            try:
                await streams.publish(Noted(n=n))
                confirmed.add(n)
            except (Unreachable, PublishUncertain):
                pass
            await asyncio.sleep(0.005)

    task = asyncio.create_task(publish())
    yield confirmed
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_failover_behind_one_name_is_gone_on_with(redis_factory: RedisFactory, app: str) -> None:
    """Ten times there and back, with a plain redis:// URL: publishers and consumers connect again by themselves,
    nothing that was confirmed is lost, and neither connections nor log lines are made in a heap.
    """
    first, second = redis_factory(), redis_factory()
    seen: Counter[int] = Counter()
    probe = Processor("probe", concurrency=8)

    @probe.on(Noted)
    async def note(event: Noted) -> None:
        seen[event.n] += 1

    took: list[float] = []
    async with Proxy("127.0.0.1", first.port) as name:
        pair = Failover(first, second, name)
        await pair.begin()
        settings = settings_of(name.url, app)
        consumer = Consumer(probe, Streams(settings=settings))
        await consumer.start()
        try:
            async with Streams(settings=settings) as streams, publishing(streams) as confirmed:
                await wait_until(lambda: len(seen) > 20)
                for _ in range(RUNS):
                    made = name.connections
                    with capture_logs() as logs:
                        await pair.switch()
                        began, known = time.monotonic(), len(confirmed)
                        await wait_until(lambda known=known: len(confirmed) > known + 5, WITHIN)  # type: ignore[misc]
                        last = max(confirmed)
                        await wait_until(lambda last=last: last in seen, WITHIN)  # type: ignore[misc]
                        took.append(time.monotonic() - began)
                    assert took[-1] < WITHIN
                    assert name.connections - made < 80, "connections were made in a heap"
                    assert len(logs) < 60, [line["event"] for line in logs]
                    await pair.begin()
            await wait_until(lambda: confirmed <= set(seen), 20)
        finally:
            await consumer.stop()
    again = sum(seen.values()) - len(seen)
    print(f"{len(took)} of {RUNS}: {told(took)}; {len(confirmed)} confirmed, {again} handled again")
    pair.end()


async def test_a_name_that_still_leads_to_a_replica_is_asked_in_steps(redis_factory: RedisFactory, app: str) -> None:
    """The server became a replica, and nothing has taken its place: reads work, writes are refused. That is no reason
    for a line at each look; the lines say what it is. When there is a master, all goes on.
    """
    first, second = redis_factory(), redis_factory()
    seen: list[int] = []
    probe = Processor("probe")

    @probe.on(Noted)
    async def note(event: Noted) -> None:
        seen.append(event.n)

    async with Proxy("127.0.0.1", first.port) as name:
        settings = settings_of(name.url, app, publish_timeout=1.0)
        consumer = Consumer(probe, Streams(settings=settings))
        await consumer.start()
        async with Streams(settings=settings) as streams:
            await streams.publish(Noted(n=1))
            await wait_until(lambda: seen == [1])
            made = name.connections
            with capture_logs() as logs:
                first.cli("REPLICAOF", "127.0.0.1", second.port)
                with pytest.raises(Unreachable, match="read only replica"):
                    await streams.publish(Noted(n=2))
                for _ in range(4):
                    with pytest.raises(Unreachable, match="READONLY"):
                        await streams.publish(Noted(n=3))
            away = [line for line in logs if line["event"] == "redis.away"]
            assert away
            assert all("not the master" in line["error"] for line in away)
            assert len(logs) < 30, [line["event"] for line in logs]
            assert name.connections - made < 150
            first.cli("REPLICAOF", "NO", "ONE")
            await streams.publish(Noted(n=4))
            await wait_until(lambda: 4 in seen, 15)
        await consumer.stop()


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> float:
    """A connection counts as quiet after a moment instead of ten seconds."""
    monkeypatch.setattr("streams.redis.failover.QUIET", 0.2)
    return 0.2


def is_quiet(streams: Streams, seconds: float) -> bool:
    """Whether none of its connections has heard of the server for so long."""
    connections: list[Any] = [*streams.redis.connection_pool._available_connections]
    connections += [publisher._connection._connection for publisher in streams._router.publishers]
    return all(time.monotonic() - connection._heard > seconds for connection in connections)


async def test_the_first_publish_after_a_quiet_time(redis_factory: RedisFactory, app: str) -> None:
    """The box has forgotten the connection and swallows what is sent: the next attempt has a connection of its own."""
    server = redis_factory()
    async with Proxy("127.0.0.1", server.port) as box:
        async with Streams(settings=settings_of(box.url, app, publish_timeout=4.0)) as streams:
            await streams.publish(Noted(n=0))
            assert await streams.redis.xlen(streams.keys.stream("notes")) == 1
            for n in range(1, 4):
                box.forget()
                began = time.monotonic()
                await streams.publish_many([Noted(n=n * 1000 + k) for k in range(700)])
                assert time.monotonic() - began < 4.0
            assert await streams.redis.xlen(streams.keys.stream("notes")) == 1 + 3 * 700
            box.forget()
            began = time.monotonic()
            await asyncio.gather(*(streams.publish(Noted(n=-k)) for k in range(1, 300)))
            assert time.monotonic() - began < 4.0
            assert await streams.redis.xlen(streams.keys.stream("notes")) == 1 + 3 * 700 + 299


async def test_a_quiet_connection_is_tried_before_it_is_used(
    redis_factory: RedisFactory, app: str, quiet: float
) -> None:
    """So it is known that nothing was sent. What only reads is asked again on a fresh connection in any case."""
    server = redis_factory()
    async with Proxy("127.0.0.1", server.port) as box:
        settings = settings_of(box.url, app, publish_timeout=6.0)
        async with Streams(settings=settings) as streams:
            await streams.publish(Noted(n=0))
            await streams.snapshot()
            box.forget()  # at once: a connection that was used a moment ago
            began = time.monotonic()
            await streams.snapshot()
            assert time.monotonic() - began < 9.0
            await wait_until(lambda: is_quiet(streams, quiet))
            box.forget()
            began = time.monotonic()
            await streams.snapshot()
            assert time.monotonic() - began < 5.0
            await streams.publish(Noted(n=1))
            assert time.monotonic() - began < 8.0
            await wait_until(lambda: is_quiet(streams, quiet))
            box.mode = "refuse"
            box.forget()
            with pytest.raises(Unreachable):  # and not that it may have arrived
                await streams.publish(Noted(n=2))
            box.mode = "pass"


def test_threads_behind_a_box_that_forgets(redis_factory: RedisFactory, app: str) -> None:
    """The client without an event loop goes on as well."""
    server = redis_factory()

    async def boxed() -> None:
        async with Proxy("127.0.0.1", server.port) as box:
            with SyncStreams(settings=settings_of(box.url, app, publish_timeout=4.0)) as streams:
                await asyncio.to_thread(streams.publish, Noted(n=0))
                box.forget()
                began = time.monotonic()
                await asyncio.to_thread(streams.publish, Noted(n=1))
                assert time.monotonic() - began < 4.0
                await asyncio.to_thread(streams.close)

    asyncio.run(boxed())


async def test_a_box_that_resets_costs_nothing(redis_factory: RedisFactory, app: str) -> None:
    """Connections end with RST as soon as something comes over them."""
    server = redis_factory()
    async with Proxy("127.0.0.1", server.port) as box:
        async with Streams(settings=settings_of(box.url, app, publish_timeout=4.0)) as streams:
            for n in range(20):
                await streams.publish(Noted(n=n))
                box.cut("reset", 1)
                asyncio.get_running_loop().call_later(0.05, setattr, box, "mode", "pass")
            box.mode = "pass"
            await streams.publish(Noted(n=20))
            assert await streams.redis.xlen(streams.keys.stream("notes")) == 21


async def test_a_consumer_behind_a_box_that_forgets(redis_factory: RedisFactory, app: str) -> None:
    """All its connections at once, the lease thread's too: it goes on, and nothing runs twice."""
    server = redis_factory()
    seen: Counter[int] = Counter()
    probe = Processor("probe")

    @probe.on(Noted)
    async def note(event: Noted) -> None:
        seen[event.n] += 1

    async with Proxy("127.0.0.1", server.port) as box, Streams(settings=settings_of(server.url, app)) as direct:
        consumer = Consumer(probe, Streams(settings=settings_of(box.url, app, block=0.2)))
        await consumer.start()
        await direct.publish(Noted(n=0))
        await wait_until(lambda: seen[0])
        for n in range(1, 3):
            box.forget()
            await direct.publish(Noted(n=n))
            await wait_until(lambda n=n: seen[n], 15)  # type: ignore[misc]
        await direct.pause("probe")
        await wait_until(lambda: consumer._pool.paused, 25)
        await direct.resume("probe")
        await wait_until(lambda: not consumer._pool.paused, 25)
        await consumer.stop()
    assert set(seen.values()) == {1}
