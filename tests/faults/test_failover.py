"""Failover: what a master's death costs, behind sentinels and in a cluster, and what replicated=True saves."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streams import Consumer, Event, NotReplicated, Processor, PublishUncertain, Settings, Streams, Unreachable
from streams.redis.embedded import ServerBinary
from tests.support.redis_cluster import RedisCluster
from tests.support.redis_sentinels import RedisSentinels
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.newest_redis, pytest.mark.timeout(120)]


class Numbered(Event, stream="numbers", version=1):
    """One of many."""

    n: int


@pytest.fixture
def cluster(redis_binary: ServerBinary, tmp_path: Path) -> Iterator[RedisCluster]:
    """Three masters, each with a replica."""
    made = RedisCluster(redis_binary, tmp_path, replicas=True)
    yield made.start()
    made.stop()


def counting(handled: Counter[int]) -> Processor:
    """Counts what it handles."""
    made = Processor("counter")

    @made.on(Numbered)
    async def handle(event: Numbered) -> None:
        handled[event.n] += 1

    return made


async def publish_through(
    streams: Streams, first: int, *, replicated: bool, until: asyncio.Event
) -> dict[str, set[int]]:
    """Publishes numbers one after the other until told to stop; which were confirmed, and which were not."""
    found: dict[str, set[int]] = {"confirmed": set(), "unconfirmed": set(), "refused": set()}
    n = first
    while not until.is_set():
        try:
            await streams.publish(Numbered(n=n), replicated=replicated)
            found["confirmed"].add(n)
        except (NotReplicated, PublishUncertain):
            found["unconfirmed"].add(n)
        except Unreachable:
            found["refused"].add(n)
        n += 1
        await asyncio.sleep(0)
    return found


async def through(settings: Settings, kill: Callable[[], RedisServer], back: Callable[[], bool]) -> None:
    """Publishes with and without replicated=True while a master is killed; consumers go on by themselves."""
    handled: Counter[int] = Counter()
    consumer = Consumer(counting(handled), Streams(settings=settings))
    await consumer.start()
    stop = asyncio.Event()
    async with Streams(settings=settings) as safe, Streams(settings=settings) as plain:
        publishing = [
            asyncio.create_task(publish_through(safe, 0, replicated=True, until=stop)),
            asyncio.create_task(publish_through(plain, 1_000_000, replicated=False, until=stop)),
        ]
        await wait_until(lambda: len(handled) > 200)
        kill()
        await wait_until(back, 30)
        after = len(handled)
        await wait_until(lambda: len(handled) > after + 200, 30)
        stop.set()
        kept, other = await asyncio.gather(*publishing)

        async def drained() -> bool:
            (group,) = (await safe.snapshot()).groups
            return group.lag + group.pending + group.waiting == 0

        await wait_until(drained, 30)
    await consumer.stop()
    assert len(kept["confirmed"]) > 20
    assert kept["confirmed"] <= set(handled), "what replicas confirmed is handled"
    lost = other["confirmed"] - set(handled)
    print(
        f"replicated: {len(kept['confirmed'])} confirmed, 0 lost, {len(kept['unconfirmed'])} not confirmed; "
        f"others: {len(lost)} lost of {len(other['confirmed'])}; "
        f"{sum(count - 1 for count in handled.values())} handled again"
    )


def settings_of(url: str, app: str, **more: object) -> Settings:
    """For a failover of a second or two."""
    given: dict[str, object] = {"lease": 2.0, "block": 0.2, "grace": 2.0, "replicated_within": 2.0}
    return Settings(redis_url=url, app=app, **given | more)


async def test_a_sentinel_failover(sentinels: RedisSentinels, app: str) -> None:
    """The master is killed; the sentinels name another, and everybody goes on there."""
    first = sentinels.master()

    def kill() -> RedisServer:
        first.kill()
        return first

    # One replica is gone then: it is the master. So that it has somebody to confirm, the old one comes back as one.
    def back() -> bool:
        if sentinels.master() is first:
            return False
        if not first.running:
            first.start()
        return sentinels.master().cli("INFO", "replication")["connected_slaves"] == 1

    await through(settings_of(sentinels.url, app), kill, back)


async def test_a_cluster_failover(cluster: RedisCluster, app: str) -> None:
    """One of three masters is killed; its replica is elected, and its partitions go on."""
    home = cluster.master_of(f"{{{app}:0}}")

    def kill() -> RedisServer:
        home.kill()
        return home

    def back() -> bool:
        if cluster.master_of(f"{{{app}:0}}") is home:
            return False
        if not home.running:
            home.start()
        return bool(cluster.master_of(f"{{{app}:0}}").cli("INFO", "replication")["connected_slaves"] == 1)

    await through(settings_of(cluster.url, app, partitions=4), kill, back)


async def test_nobody_to_confirm(app: str, redis_url: str) -> None:
    """Without a replica the event is in Redis, and publish() says that no replica has it."""
    settings = settings_of(redis_url, app, replicated_within=0.05)
    async with Streams(settings=settings) as streams:
        with pytest.raises(NotReplicated, match=r"0 of 1 replica\(s\) had it within 0.05 s") as caught:
            await streams.publish(Numbered(n=1), replicated=True)
        (receipt,) = caught.value.published
        assert (await streams.event(receipt.id)).stream == "numbers"
        with pytest.raises(NotReplicated) as many:
            await streams.publish_many([Numbered(n=n) for n in range(3)], replicated=True)
        assert len(many.value.published) == 3
        await streams.publish(Numbered(n=2))
