"""Nothing more fits: into Redis' memory, onto the disk of its append-only file, onto the disk of an export.

A disk is full for a process whose files may not grow (RLIMIT_FSIZE): its writes come back short or fail, as they do on
a full disk, and there is room again when the limit is lifted.
"""

from __future__ import annotations

import asyncio
import resource
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog
from pydantic import SecretStr

from processors.file import file
from processors.file.settings import FileSettings
from processors.shared.database import Database
from processors.shared.storage import Storages
from schemas import InventoryExported, InventoryExportRequested
from streams import Backoff, Consumer, CurrentDelivery, Delivery, Processor, Streams, StreamsError
from streams.consuming.maintenance import Maintenance
from streams.redis.embedded import ServerBinary
from tests.conftest import RedisFactory
from tests.processors.file.conftest import SHOP, environment, published, shop, storages
from tests.processors.file.test_exporting import _fill
from tests.processors.shared.database.conftest import business
from tests.sql.conftest import database_url, postgres, postgres_url
from tests.streams.conftest import StartConsumer, make_settings, start
from tests.streams.consuming.test_consumer import settled
from tests.streams.inspecting.test_reconciliation import adds_up
from tests.support.events import Noted
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

__all__ = [
    "business", "database_url", "environment", "make_settings", "postgres", "postgres_url", "shop", "start", "storages",
]  # fmt: skip

pytestmark = pytest.mark.timeout(90)


class Probe:
    """Fails every fifth event for now and every hundredth for good, and counts the successes."""

    def __init__(self) -> None:
        self.done = Counter[int]()
        self.processor = Processor("probe", retry=Backoff(attempts=3, first=0.05, give_up_on=(TypeError,)))

        @self.processor.on(Noted)
        async def handle(event: Noted, delivery: Delivery = CurrentDelivery()) -> None:
            await asyncio.sleep(0)
            if event.n % 100 == 1:
                raise TypeError("never")
            if event.n % 5 == 0 and delivery.attempt == 1:
                raise ValueError("not yet")
            self.done[event.n] += 1


@asynccontextmanager
async def client_of(streams: Streams, server: RedisServer, **given: Any) -> AsyncIterator[Streams]:
    """A client of a server of the test's own."""
    given |= {"redis_url": SecretStr(server.url), "lease": 30.0, "block": 0.2}
    async with Streams(settings=streams.settings.model_copy(update=given)) as client:
        yield client


async def all_accounted_for(streams: Streams, probe: Probe, confirmed: set[int]) -> None:
    """What was confirmed was handled, or is a dead letter; the books say so too."""
    await wait_until(lambda: settled(streams), 40, "everything is settled")
    (account,) = (await streams.accounts()).groups
    assert adds_up(account)
    assert account.gap == 0
    good = {n for n in confirmed if n % 100 != 1}
    assert good <= set(probe.done), "a confirmed event was lost"
    assert account.dead >= len(confirmed - good)


@pytest.mark.newest_redis
async def test_a_full_memory_loses_nothing_and_is_recovered_from_by_itself(
    streams: Streams, redis_factory: RedisFactory
) -> None:
    """5,000 events into a Redis that has room for a fraction. It refuses publishers; what consumers do, retries and
    dead letters too, goes on; what is settled is trimmed by the upkeep, and there is room again.
    """
    server, probe = redis_factory(), Probe()
    async with client_of(streams, server, keep=0) as client:
        consumer = Consumer(probe.processor, Streams(settings=client.settings))
        await consumer.start()
        await client.publish(Noted(n=1))
        await wait_until(lambda: settled(client))
        most = server.cli("INFO", "memory")["used_memory"] + 2_500_000
        server.cli("CONFIG", "SET", "maxmemory", most)
        confirmed, refused = {1}, 0
        for first in range(2, 5_002, 100):
            events = [Noted(n=n, text="x" * 1000) for n in range(first, first + 100)]
            while True:
                try:
                    await client.publish_many(events)
                    break
                except StreamsError as error:
                    assert "is full and refuses new events" in str(error)  # noqa: PT017 - it is expected, not always
                    refused += 1
                server.cli("CONFIG", "SET", "maxmemory", "1mb")  # so that it stays full, whatever is freed meanwhile
                await wait_until(lambda: settled(client), 30, "a full Redis keeps nobody from settling")
                await Maintenance(client, probe.processor).look()  # what each consumer does once a minute
                server.cli("CONFIG", "SET", "maxmemory", most)
            confirmed |= set(range(first, first + 100))
        await all_accounted_for(client, probe, confirmed)
        await consumer.stop()
    print(f"5,000 events, {refused} times refused: lost 0, {sum(probe.done.values()) - len(probe.done)} handled again")
    assert refused > 0


@pytest.fixture
def redis_with_a_disk(redis_binary: ServerBinary, tmp_path: Path) -> Iterator[Callable[[str], RedisServer]]:
    """Makes a Redis whose disk can be full: one that fails to write, instead of being ended by SIGXFSZ."""
    servers: list[RedisServer] = []

    def make(appendfsync: str) -> RedisServer:
        program = tmp_path / "redis-server"
        program.write_text(f"#!/bin/sh\ntrap '' XFSZ\nexec {redis_binary.path} \"$@\"\n")
        program.chmod(0o755)
        home = tmp_path / "full-redis"
        home.mkdir()
        servers.append(RedisServer(replace(redis_binary, path=program), home, appendfsync=appendfsync))
        return servers[0].start()

    yield make
    for server in servers:
        server.stop()


def let_grow(server: RedisServer, size: int = resource.RLIM_INFINITY) -> None:
    """Lets the server's files grow to so many bytes."""
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@pytest.mark.parametrize("appendfsync", ["everysec", "always"])
@pytest.mark.newest_redis
async def test_a_full_disk_of_redis_loses_nothing_and_is_recovered_from(
    streams: Streams, redis_with_a_disk: Callable[[str], RedisServer], appendfsync: str
) -> None:
    """With `everysec` it refuses all that changes something, until there is room. With `always` it ends itself, as it
    cannot confirm what it has done; whoever looks after it starts it again.
    """
    server, probe = redis_with_a_disk(appendfsync), Probe()
    async with client_of(streams, server, publish_timeout=0.5) as client:
        consumer = Consumer(probe.processor, Streams(settings=client.settings))
        await consumer.start()
        await client.publish(Noted(n=0))
        let_grow(server, 300_000)
        confirmed, refusals = {0}, Counter[str]()
        for n in range(2, 100_000):
            try:
                await client.publish(Noted(n=n, text="x" * 500))
                confirmed.add(n)
            except StreamsError as error:
                refusals["MISCONF" if "MISCONF" in str(error) else type(error).__name__] += 1
                if refusals.total() == 3:
                    break
        if appendfsync == "always":
            await wait_until(lambda: not server.running, 20, "it ended itself")
            await asyncio.to_thread(server.start)
        else:
            assert server.running
            assert refusals["MISCONF"] > 0
            let_grow(server)
        await wait_until(lambda: _published(client, confirmed), 30, "publishers go on")
        await all_accounted_for(client, probe, confirmed)
        await consumer.stop()
    assert appendfsync == "always" or max(probe.done.values()) == 1, "a settlement that was refused was forgotten"
    print(f"{appendfsync}: full after {len(confirmed)} events, then {dict(refusals)}; lost 0")


async def _published(client: Streams, confirmed: set[int]) -> bool:
    try:
        await client.publish(Noted(n=100_000))
    except StreamsError:
        return False
    confirmed.add(100_000)
    return True


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """No file of this process may grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.newest_redis
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)  # whose files are another process'
async def test_an_export_onto_a_full_disk_waits_for_room(
    streams: Streams, start: StartConsumer, shop: Database, storages: Storages
) -> None:
    """There is no half of it under its name and no draft left over, and it costs no attempt; then there is room."""
    await _fill(shop, 3_000)
    directory = storages.exports.directory
    assert directory is not None
    assert FileSettings.load().file_chunk_rows
    with structlog.testing.capture_logs() as logs, files_up_to(20_000):
        await start(file)
        await streams.publish(InventoryExportRequested(business_id=SHOP, format="json"))
        await wait_until(lambda: any(line["event"] == "breaker.still_open" for line in logs), 20)
        assert list(directory.glob("*/*")) == []
        assert await streams.redis.xlen(streams.keys.dead("file")) == 0
    (told,) = await wait_until(lambda: published(streams, InventoryExported), 30)
    assert told.rows == 3_000
    (made,) = directory.glob("*/*")
    assert made.stat().st_size == told.bytes > 100_000
    assert any(line["event"] == "breaker.opened" and line["dependency"] == "storage" for line in logs)
