"""How long it takes to go on: after a consumer's death, a restart of Redis, and every way a network can break (N6).

The short tier asks only that it goes on, by the deadline of `wait_until`; the long one measures and judges.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, get_args

import pytest
from pydantic import SecretStr

from streams import Consumer, Processor, Streams
from tests.conftest import RedisFactory
from tests.faults.conftest import ProbeLog, SpawnProbe
from tests.support.figures import percentile, told
from tests.support.programs.probe import Probed
from tests.support.proxy import Mode, Proxy
from tests.support.waiting import wait_until

pytestmark = pytest.mark.newest_redis

LEASE: Final = 2.0
MODES: Final = tuple(mode for mode in get_args(Mode) if mode != "pass")


class Handling:
    """What a consumer in this process has begun, and when."""

    def __init__(self) -> None:
        self.began: dict[int, list[float]] = {}
        self.processor = Processor("probe")

        @self.processor.on(Probed)
        async def handle(event: Probed) -> None:
            self.began.setdefault(event.n, []).append(time.monotonic())

    @asynccontextmanager
    async def by(self, streams: Streams, url: str) -> AsyncIterator[Consumer]:
        """Consumes from there."""
        given = {"redis_url": SecretStr(url), "lease": LEASE, "block": 0.5}
        consumer = Consumer(self.processor, Streams(settings=streams.settings.model_copy(update=given)))
        await consumer.start()
        yield consumer
        await consumer.stop()

    async def next(self, since: float) -> float:
        """Seconds from `since` to the first event that was published and begun after it."""
        return await wait_until(
            lambda: next((at[0] - since for at in self.began.values() if at[0] > since), None), 30, "it goes on"
        )  # type: ignore[no-any-return]


@asynccontextmanager
async def load(streams: Streams) -> AsyncIterator[list[int]]:
    """Publishes an event every 20 ms, whatever happens; gives those that are known to be in Redis."""
    confirmed: list[int] = []

    async def publish() -> None:
        for n in range(1_000_000):
            await streams.publish(Probed(n=n))
            confirmed.append(n)
            await asyncio.sleep(0.02)

    task = asyncio.create_task(publish())
    yield confirmed
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def broken(handling: Handling, proxy: Proxy, mode: Mode, seconds: float) -> float:
    """Breaks the network of a consumer in one way for so long; returns how long it took to go on after it healed."""
    if mode == "refuse":  # which is for those who come back
        proxy.mode = "reset"
        await asyncio.sleep(0.1)
    proxy.cuts_left, proxy.mode = 1_000_000, mode
    await asyncio.sleep(seconds)
    proxy.mode = "pass"
    return await handling.next(time.monotonic())


async def restarted(handling: Handling, server: Any, seconds: float) -> float:
    """Kills Redis with -9 and starts it after so long; returns how long it took to go on once it answered."""
    await asyncio.to_thread(server.kill)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(server.start)
    return await handling.next(time.monotonic())


Break = Callable[[Handling], Awaitable[float]]


async def recoveries(
    streams: Streams, factory: RedisFactory, breaks: Callable[[Any, Proxy], list[tuple[str, Break]]]
) -> dict[str, list[float]]:
    """Breaks one thing after the other under load, and measures. What was confirmed is handled in the end."""
    server, handling = factory(appendfsync="always"), Handling()
    found: dict[str, list[float]] = {}
    given = {"redis_url": SecretStr(server.url), "publish_timeout": 30.0}
    async with (
        Streams(settings=streams.settings.model_copy(update=given)) as client,
        Proxy("127.0.0.1", server.port) as proxy,
        handling.by(streams, proxy.url),
    ):
        async with load(client) as confirmed:
            await handling.next(time.monotonic())
            for name, breaks_it in breaks(server, proxy):
                found.setdefault(name, []).append(await breaks_it(handling))
        await wait_until(lambda: set(confirmed) <= set(handling.began), 30, "what was confirmed is handled")
    for name, times in found.items():
        print(f"{name}: {len(times)} times, {told(times)}")
    return found


def networks(seconds: float, rounds: int) -> Callable[[Any, Proxy], list[tuple[str, Break]]]:
    """Every way to break a network."""

    def breaks(_: Any, proxy: Proxy) -> list[tuple[str, Break]]:
        def one(mode: Mode) -> Break:
            return lambda handling: broken(handling, proxy, mode, seconds)

        return [(mode, one(mode)) for _ in range(rounds) for mode in MODES]

    return breaks


@pytest.mark.timeout(120)
async def test_it_goes_on_after_each_way_a_network_can_break(streams: Streams, redis_factory: RedisFactory) -> None:
    await recoveries(streams, redis_factory, networks(0.3, 1))


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_it_goes_on_within_10_seconds_of_a_heal(streams: Streams, redis_factory: RedisFactory) -> None:
    """Ten of each, of three seconds: long enough for calls to give up and back-offs to grow."""
    found = await recoveries(streams, redis_factory, networks(3.0, 10))
    times = [seconds for each in found.values() for seconds in each]
    print(f"all: {told(times)}")
    assert max(times) <= 10


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_it_goes_on_within_3_seconds_of_a_restart(streams: Streams, redis_factory: RedisFactory) -> None:
    """Twenty times kill -9, away for between nothing and two seconds."""

    def breaks(server: Any, _: Proxy) -> list[tuple[str, Break]]:
        def one(seconds: float) -> Break:
            return lambda handling: restarted(handling, server, seconds)

        return [("restart of Redis", one(number % 5 * 0.5)) for number in range(20)]

    (times,) = (await recoveries(streams, redis_factory, breaks)).values()
    assert percentile(times, 99) <= 3


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_killed_consumers_work_is_taken_over_within_a_lease_and_a_quarter(
    streams: Streams, spawn_probe: SpawnProbe, probe_log: ProbeLog
) -> None:
    """Twenty times SIGKILL of a process that is busy with ten events."""
    handling, waited, url = Handling(), list[float](), streams.connections.url
    for round_ in range(20):
        numbers = range(round_ * 10, round_ * 10 + 10)
        victim = spawn_probe(STREAMS_LEASE=str(LEASE))
        await streams.publish_many([Probed(n=n, act="sleep", seconds=60) for n in numbers])
        await wait_until(lambda numbers=numbers: set(numbers) <= set(probe_log.numbers("start")), 30)  # type: ignore[misc]
        async with handling.by(streams, url):
            await asyncio.sleep(LEASE / 4 * (round_ % 4) / 4)  # wherever it is between two renewals
            victim.kill()
            killed = time.monotonic()
            await wait_until(lambda numbers=numbers: set(numbers) <= set(handling.began), 30)  # type: ignore[misc]
            waited += [handling.began[n][0] - killed for n in numbers]
    print(f"SIGKILL: 20 times, lease {LEASE:g} s, {len(waited)} events taken over after {told(waited)}")
    assert len(waited) == 200
    assert percentile(waited, 99) <= LEASE * 1.25 + 1
