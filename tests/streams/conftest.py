"""Fixtures of the engine's tests: a client, and consumers that are started and stopped with the test."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

import pytest

from streams import Consumer, Middleware, Processor, Settings, Streams
from streams.redis.partition import Partition


@pytest.fixture(autouse=True)
def home(request: pytest.FixtureRequest, partitions: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """With `--partitions=6`: the one partition of six, chosen by the test's name, in which everything of it lives.

    Most tests of the engine look at keys, so they must know where an event is. The consumers have all their seats;
    what is spread over partitions is tests/streams/test_partitions.py and the guide, which are marked `spread`.
    """
    number = zlib.crc32(request.node.name.encode()) % partitions
    if partitions > 1 and not request.node.get_closest_marker("spread"):
        for module in ("app", "consuming.consumer", "inspecting.event_status"):
            monkeypatch.setattr(f"streams.{module}.partition_of", lambda name, count: number % count)
        at_home = property(lambda self: self.partitions[number % len(self.partitions)])
        monkeypatch.setattr(Streams, "keys", property(lambda self: at_home.fget(self).keys))
        monkeypatch.setattr(Streams, "redis", property(lambda self: at_home.fget(self).redis))
    return number


def at_home(streams: Streams) -> Partition:
    """The partition that the test's events are in."""
    return next(partition for partition in streams.partitions if partition.keys.tag == streams.keys.tag)


class StartConsumer(Protocol):
    """Starts a consumer of a processor; further settings are the engine's own, by name."""

    def __call__(
        self, processor: Processor, *, middleware: tuple[Middleware, ...] = (), **settings: Any
    ) -> Awaitable[Consumer]: ...


MakeSettings = Callable[..., Settings]


@pytest.fixture
def make_settings(redis_url: str, app: str, partitions: int) -> MakeSettings:
    """Settings for this test's Redis and prefix, with a lease and a block short enough to wait for."""

    def make(**given: Any) -> Settings:
        return Settings(
            **{
                "redis_url": redis_url,
                "app": app,
                "partitions": partitions,
                "lease": 1.0,
                "block": 0.2,
                "grace": 2.0,
                "backoff": 100,
            }
            | given
        )

    return make


@pytest.fixture
async def streams(make_settings: MakeSettings) -> AsyncIterator[Streams]:
    """A client of the test's Redis."""
    async with Streams(settings=make_settings()) as client:
        if client.settings.partitions > 1:
            await client.check()  # the first process says how many there are, also when a test plants keys first
        yield client


@pytest.fixture
async def start(make_settings: MakeSettings) -> AsyncIterator[StartConsumer]:
    """Starts consumers; they are stopped, the last one first, when the test ends."""
    consumers: list[Consumer] = []

    async def start_consumer(
        processor: Processor, *, middleware: tuple[Middleware, ...] = (), **settings: Any
    ) -> Consumer:
        client = Streams(settings=make_settings(**settings), middleware=middleware)
        consumer = Consumer(processor, client, middleware=middleware)
        consumers.append(consumer)
        await consumer.start()
        return consumer

    yield start_consumer
    for consumer in reversed(consumers):
        await consumer.stop()
