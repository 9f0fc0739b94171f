"""Fixtures of the engine's tests: a client, and consumers that are started and stopped with the test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

import pytest

from streams import Consumer, Middleware, Processor, Settings, Streams


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
