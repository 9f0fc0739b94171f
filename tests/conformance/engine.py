"""Engine: the same few verbs over the harness and over a real Redis with a real consumer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any, Protocol

import redis.asyncio as redis_asyncio

from streams import Consumer, Processor, Settings, Streams
from streams.letter import Letter
from streams.testing import Harness
from streams.trail import Trail
from tests.waiting import wait_until

SETTINGS: dict[str, Any] = {
    "backoff": 30, "lease": 0.5, "block": 0.1, "grace": 1.0, "max_bytes": 2048, "unsupported_every": 0.1,
}  # fmt: skip


class Engine(Protocol):
    """What a test of the suite may do. `streams` publishes, cancels, pauses and looks, by its own names."""

    streams: Streams

    async def start(self, *processors: Processor) -> None:
        """Lets processors begin; on the harness before anything else."""

    async def until(self, predicate: Callable[[], Any], timeout: float = 10) -> None:
        """Lets time go by until the predicate (plain or async) holds."""

    async def add_entry(self, stream: str, fields: Mapping[str, Any]) -> str:
        """A foreign publisher's XADD."""

    async def dies(self, processor: Processor, times: int) -> None:
        """The process of a group, not started yet, dies so often with the only event there is; then it is started."""


class HarnessEngine:
    """Over the harness; its clock goes on in steps of 10 ms."""

    def __init__(self, **settings: Any) -> None:
        self._settings = Settings(**(SETTINGS | settings))
        self._stack = AsyncExitStack()
        self.streams: Any = Harness(settings=self._settings)

    async def start(self, *processors: Processor) -> None:
        self.streams = await self._stack.enter_async_context(Harness(*processors, settings=self._settings))

    async def until(self, predicate: Callable[[], Any], timeout: float = 10) -> None:
        await self.streams.run()
        for _ in range(round(timeout / 0.01)):
            answer = predicate()
            if await answer if inspect.isawaitable(answer) else answer:
                return
            await self.streams.advance(seconds=0.01)
        raise AssertionError(f"not within {timeout} virtual seconds")

    async def add_entry(self, stream: str, fields: Mapping[str, Any]) -> str:
        return str(await self.streams.add_entry(stream, fields))

    async def dies(self, processor: Processor, times: int) -> None:
        self.streams.crash(processor.name, times)

    async def aclose(self) -> None:
        await self._stack.aclose()


class RedisEngine:
    """Over a server."""

    def __init__(self, url: str, app: str, **settings: Any) -> None:
        self._settings = Settings(**({"redis_url": url, "app": app} | SETTINGS | settings))
        self._consumers: dict[str, Consumer] = {}
        self.streams: Any = Streams(settings=self._settings)

    async def start(self, *processors: Processor) -> None:
        for processor in processors:
            consumer = Consumer(processor, Streams(settings=self._settings))
            self._consumers[processor.name] = consumer
            await consumer.start()

    async def until(self, predicate: Callable[[], Any], timeout: float = 10) -> None:
        await wait_until(predicate, timeout=timeout)

    async def add_entry(self, stream: str, fields: Mapping[str, Any]) -> str:
        entry_id: bytes = await self.streams.redis.xadd(self.streams.keys.stream(stream), dict(fields))
        return entry_id.decode()

    async def dies(self, processor: Processor, times: int) -> None:
        """By what Redis knows of it: a consumer that is gone holds the entry, delivered so many times."""
        keys, url = self.streams.keys, self._settings.url()
        redis: Any = redis_asyncio.from_url(url, protocol=2)
        lane = keys.stream(processor.streams[0])
        await redis.xgroup_create(lane, processor.name, "0", mkstream=True)
        await redis.xreadgroup(processor.name, "gone", {lane: ">"})
        entry_id = (await redis.xpending_range(lane, processor.name, "-", "+", 1))[0]["message_id"]
        await redis.xclaim(
            lane, processor.name, "gone", 0, [entry_id], idle=60_000, retrycount=times, justid=True
        )  # fmt: skip
        await redis.aclose()
        await self.start(processor)

    async def aclose(self) -> None:
        for consumer in reversed(self._consumers.values()):
            await consumer.stop()
        await self.streams.aclose()


async def dead(engine: Engine, group: str) -> list[Letter]:
    """A group's dead letters."""
    return [letter async for letter in engine.streams.dead_letters(group).ls()]


async def state(engine: Engine, id: str, group: str) -> str:
    """How one group stands with an event."""
    trail: Trail = await engine.streams.event(id)
    return next((found.state for found in trail.groups if found.group == group), "")
