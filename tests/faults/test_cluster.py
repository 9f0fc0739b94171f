"""A cluster of three masters: the whole way of an event, the command line, and a slot that moves meanwhile.

`make test-cluster` runs all of tests/streams on one.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas import UserRegistered
from streams import Consumer, Processor, Settings, Streams
from streams.redis.embedded import ServerBinary, find_servers
from tests.support.redis_cluster import RedisCluster
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.newest_redis, pytest.mark.timeout(90)]
N = 6


@pytest.fixture
def cluster(redis_binary: ServerBinary, tmp_path: Path) -> Iterator[RedisCluster]:
    """Three masters."""
    made = RedisCluster(redis_binary, tmp_path)
    yield made.start()
    made.stop()


def settings_of(cluster: RedisCluster, app: str, **more: Any) -> Settings:
    """Six partitions on three masters."""
    given = {"partitions": N, "lease": 1.0, "block": 0.2, "grace": 2.0, "backoff": 50}
    return Settings(redis_url=cluster.url, app=app, **given | more)


def registered(n: int) -> UserRegistered:
    """An event."""
    return UserRegistered(user_id=n, email=f"{n}@example.com", name=f"n{n}")


def counting(handled: Counter[int], failing: range = range(0)) -> Processor:
    """Counts what it handles; some fail at the first attempt."""
    made = Processor("counter")
    failed: set[int] = set()

    @made.on(UserRegistered)
    async def handle(event: UserRegistered) -> None:
        if event.user_id in failing and event.user_id not in failed:
            failed.add(event.user_id)
            raise ConnectionError("once")
        handled[event.user_id] += 1

    return made


async def settled(streams: Streams, count: int) -> None:
    """Waits until so many are acked, and nothing is missing."""

    async def look() -> bool:
        (group,) = (await streams.accounts()).groups
        return group.acked == count

    await wait_until(look, 30)
    assert not list((await streams.accounts()).gaps())


async def test_the_whole_way_and_the_command_line(cluster: RedisCluster, app: str) -> None:
    """Published, delayed, retried, shown; each master has some of the partitions."""
    handled: Counter[int] = Counter()
    settings = settings_of(cluster, app)
    consumer = Consumer(counting(handled, range(20)), Streams(settings=settings))
    await consumer.start()
    async with Streams(settings=settings) as streams:
        receipts = await streams.publish_many(map(registered, range(300)))
        receipts += [await streams.publish(registered(n), delay=0.3, once=f"o{n}") for n in range(300, 310)]
        await settled(streams, 310)
        assert handled == Counter(range(310))
        assert {receipt.partition for receipt in receipts} == set(range(N))
        environment = {**os.environ, "REDIS_URL": cluster.url, "QUEUE_PREFIX": app, "STREAMS_PARTITIONS": str(N)}

        async def cli(*arguments: str) -> Any:
            command = [sys.executable, "-m", "streams", *arguments, "--json"]
            done = await asyncio.to_thread(subprocess.run, command, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr + done.stdout
            return json.loads(done.stdout)

        status, doctor, partitions, tail, event = await asyncio.gather(
            cli("status"), cli("doctor"), cli("partitions"), cli("tail", "users", "--from", "-1h"),
            cli("event", receipts[5].id),
        )  # fmt: skip
    assert len(status["servers"]) == 3
    assert [(group["name"], group["alive"], group["lag"]) for group in status["groups"]] == [("counter", 1, 0)]
    assert {finding["status"] for finding in doctor} <= {"ok", "warn"}
    assert sum(row["events"] for row in partitions) == len(tail) == 310
    assert event["partition"] == receipts[5].partition
    await consumer.stop()


async def test_a_slot_moves_under_load(cluster: RedisCluster, app: str) -> None:
    """A partition is moved to another master while it is published to and consumed: nothing is lost, nothing waits."""
    handled: Counter[int] = Counter()
    settings = settings_of(cluster, app, partitions=2)
    consumer = Consumer(counting(handled), Streams(settings=settings))
    await consumer.start()
    async with Streams(settings=settings) as streams:
        moved = asyncio.Event()

        async def publish() -> int:
            n = 0
            while not moved.is_set() or n < 500:
                await streams.publish(registered(n))
                n += 1
            return n

        publishing = asyncio.create_task(publish())
        await wait_until(lambda: len(handled) > 100)
        await asyncio.to_thread(cluster.move, f"{{{app}:0}}")
        before = len(handled)
        await wait_until(lambda: len(handled) > before + 100, 30)
        moved.set()
        count = await publishing
        await settled(streams, count)
        assert set(handled) == set(range(count))
    await consumer.stop()


async def test_over_tls_with_certificates_on_both_sides(app: str, tmp_path: Path) -> None:
    """rediss+cluster:// with a CA and a client certificate: every kind of connection, the lease thread's too."""
    binary = next((found for found in find_servers() if found.version[:2] == (7, 0)), None)
    if binary is None:
        pytest.skip("Debian's server is built with TLS, the embedded extra's is not")
    file, key = tmp_path / "server.crt", tmp_path / "server.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(file)],
        check=True, capture_output=True,
    )  # fmt: skip
    cluster = RedisCluster(binary, tmp_path, tls=(file, key))
    try:
        cluster.start()
        handled: Counter[int] = Counter()
        settings = settings_of(cluster, app, redis_ca=file, redis_cert=file, redis_key=key)
        consumer = Consumer(counting(handled), Streams(settings=settings))
        await consumer.start()
        async with Streams(settings=settings) as streams:
            await streams.publish_many(map(registered, range(60)))
            await settled(streams, 60)
            snapshot = await streams.snapshot()
        assert [group.alive for group in snapshot.groups] == [1]
        await consumer.stop()
    finally:
        cluster.stop()
