"""A power cut with `appendfsync everysec`: the last second or two of the append-only file are gone (hazard N2).

What is missing then is the end of what was done, and nothing in the middle: each event is where it was at one moment.
"""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from streams import Backoff, Consumer, CurrentDelivery, Delivery, Processor, Settings, Streams
from streams.redis.embedded import ServerBinary
from tests.streams.inspecting.test_reconciliation import adds_up
from tests.support.events import Noted, Other
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

EVENTS = 3_000


@pytest.fixture
def server(redis_binary: ServerBinary, tmp_path: Path) -> Iterator[RedisServer]:
    """A server of the test's own, whose file is cut."""
    home = tmp_path / "whole"
    home.mkdir()
    made = RedisServer(redis_binary, home, unix=True, appendfsync="everysec").start()
    yield made
    made.stop()


def file_of(home: Path) -> Path:
    """The append-only file."""
    (found,) = (home / "appendonlydir").glob("*.incr.aof")
    return found


async def work(settings: Settings) -> None:
    """Events that are handled, fail, wait, are given up, and are followed by others; some are published for later."""
    probe, begun = Processor("probe", retry=Backoff(attempts=2, first=0.02)), set[int]()

    @probe.on(Noted)
    async def handle(event: Noted, delivery: Delivery = CurrentDelivery()) -> Other:
        begun.add(event.n)
        if event.n % 11 == 0 or (event.n % 5 == 0 and delivery.attempt == 1):
            raise ValueError("no")
        return Other(n=event.n)

    async with Streams(settings=settings) as streams:
        consumer = Consumer(probe, Streams(settings=settings))
        await consumer.start()
        for first in range(0, EVENTS, 20):
            await streams.publish_many([Noted(n=n) for n in range(first, first + 20)])
            await streams.publish(Other(n=-first - 1), delay=0.05)
            # Side by side, so that the end of the file has something of everything.
            await wait_until(lambda first=first: len(begun) > first - 100, 20)  # type: ignore[misc]
        await consumer.stop()


async def look(settings: Settings, home: Path) -> tuple[int, int]:
    """How many were published and how many have ended, as far as the cut file knows. Fails for a state in between."""
    async with Streams(settings=settings) as streams:
        redis, keys = streams.redis, streams.keys
        numbers = [orjson.loads(fields[b"data"])["n"] for _, fields in await redis.xrange(keys.stream("notes"))]
        assert numbers == list(range(len(numbers))), f"{home}: what is lost is not the end of what was published"
        accounts = await streams.accounts()
        assert not list(accounts.gaps()), f"{home}: {list(accounts.gaps())}"
        assert await redis.zcard(keys.due()) == await redis.hlen(keys.waiting())
        (account,) = accounts.groups
        assert adds_up(account)
        assert account.published == len(numbers)
        assert account.dead == await redis.xlen(keys.dead("probe"))
        others = [orjson.loads(fields[b"data"])["n"] for _, fields in await redis.xrange(keys.stream("others"))]
        follow_ups = [n for n in others if n >= 0]
        assert len(follow_ups) == len(set(follow_ups)) == account.acked, f"{home}: an ack and what follows are one fact"
        return len(numbers), account.acked + account.dead


def cut_at_random(server: RedisServer, app: str, tmp_path: Path, cuts: int, seed: int) -> None:
    """Works, kills Redis with -9, and loads what is left of its file without its last 4 KiB to 1 MiB."""
    asyncio.run(work(Settings(redis_url=server.url, app=app, lease=5.0, block=0.2)))
    server.kill()
    written, dice = file_of(server.directory).read_bytes(), random.Random(seed)
    lost = []
    for number in range(cuts):
        cut = min(round(4096 * 256 ** dice.random()), len(written))
        home = tmp_path / f"cut-{number}"
        shutil.copytree(server.directory / "appendonlydir", home / "appendonlydir")
        file_of(home).write_bytes(written[:-cut])
        rest = RedisServer(server.binary, home, unix=True).start()
        try:
            published, ended = asyncio.run(look(Settings(redis_url=rest.url, app=app), home))
        finally:
            rest.kill()
        lost.append((cut // 1024, EVENTS - published, published - ended))
    print(f"seed {seed}, {len(written) // 1024} KiB; (KiB cut, events lost, events not done): {sorted(lost)}")
    assert any(not_published for _, not_published, _ in lost) or cuts < 10


@pytest.mark.newest_redis
def test_what_a_power_cut_takes_is_the_end(
    server: RedisServer, app: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    cut_at_random(server, app, tmp_path, 4, request.config.getoption("randomly_seed", 0))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_a_power_cut_takes_is_the_end_twenty_times(
    server: RedisServer, app: str, tmp_path: Path, seed: int
) -> None:
    cut_at_random(server, app, tmp_path, 20, seed)
