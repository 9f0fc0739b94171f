"""Engine: the same few verbs over the harness and over a real Redis with a real consumer."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from streams import Consumer, Event, Processor, Receipt, Settings, Streams
from streams.consuming import scripts
from streams.inspecting.event_status import EventStatus
from streams.inspecting.group_status import GroupStatus
from streams.messages.letter import Letter
from streams.testing import Harness
from tests.support.waiting import wait_until

SETTINGS: dict[str, Any] = {
    "backoff": 30, "lease": 0.5, "block": 0.1, "grace": 1.0, "max_bytes": 2048, "unsupported_every": 0.1,
}  # fmt: skip


class Engine(Protocol):
    """What a test of the suite may do. `streams` publishes, cancels, pauses and looks, by its own names."""

    streams: Streams

    async def open(self) -> None:
        """Opens it."""

    async def start(self, *processors: Processor) -> None:
        """Lets processors begin."""

    async def stop_consumers(self) -> None:
        """Ends the processors; others may begin later."""

    async def until(self, predicate: Callable[[], Any], timeout: float = 10) -> None:
        """Lets time go by until the predicate (plain or async) holds."""

    async def pass_time(self, seconds: float) -> None:
        """Lets time go by, for what must not happen in it."""

    async def add_entry(self, stream: str, fields: Mapping[str, Any]) -> str:
        """A foreign publisher's XADD."""

    async def dies(self, processor: Processor, event: Event, times: int = 1) -> Receipt:
        """Starts a processor whose process dies so often with an event before the handler begins."""

    async def aclose(self) -> None:
        """Ends everything."""


class HarnessEngine:
    """Over the harness; its clock goes on in steps of 10 ms."""

    def __init__(self, **settings: Any) -> None:
        self._settings = Settings(**(SETTINGS | settings))
        self.streams: Any = Harness(settings=self._settings)

    async def open(self) -> None:
        await self.streams.__aenter__()

    async def start(self, *processors: Processor) -> None:
        for processor in processors:
            await self.streams.join(processor)

    async def stop_consumers(self) -> None:
        await self.streams.leave()

    async def until(self, predicate: Callable[[], Any], timeout: float = 10) -> None:
        await self.streams.run()
        for _ in range(round(timeout / 0.01)):
            answer = predicate()
            if await answer if inspect.isawaitable(answer) else answer:
                return
            await self.streams.advance(seconds=0.01)
        raise AssertionError(f"not within {timeout} virtual seconds")

    async def pass_time(self, seconds: float) -> None:
        await self.streams.advance(seconds=seconds)

    async def add_entry(self, stream: str, fields: Mapping[str, Any]) -> str:
        return str(await self.streams.add_entry(stream, fields))

    async def dies(self, processor: Processor, event: Event, times: int = 1) -> Receipt:
        await self.start(processor)
        self.streams.crash(processor.name, times)
        receipt: Receipt = await self.streams.publish(event)
        return receipt

    async def aclose(self) -> None:
        await self.streams.aclose()


class RedisEngine:
    """Over a server."""

    def __init__(self, url: str, app: str, **settings: Any) -> None:
        self._settings = Settings(**({"redis_url": url, "app": app} | SETTINGS | settings))
        self._consumers: list[Consumer] = []
        self.streams: Any = Streams(settings=self._settings)

    async def open(self) -> None:
        """It is open."""

    async def start(self, *processors: Processor) -> None:
        consumers = [Consumer(processor, Streams(settings=self._settings)) for processor in processors]
        self._consumers += consumers
        await asyncio.gather(*(consumer.start() for consumer in consumers))

    async def stop_consumers(self) -> None:
        await asyncio.gather(*(consumer.stop() for consumer in self._consumers))
        self._consumers.clear()

    async def until(self, predicate: Callable[[], Any], timeout: float = 10) -> None:
        await wait_until(predicate, timeout=timeout)

    async def pass_time(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def add_entry(self, stream: str, fields: Mapping[str, Any]) -> str:
        entry_id: bytes = await self.streams.redis.xadd(self.streams.keys.stream(stream), dict(fields))
        return entry_id.decode()

    async def dies(self, processor: Processor, event: Event, times: int = 1) -> Receipt:
        """By what Redis knows of it: a consumer that is gone holds the entry, delivered so many times."""
        keys, redis, group = self.streams.keys, self.streams.redis, processor.name
        sources = [keys.inbox(group), *(lane for stream in processor.streams for lane in keys.by_priority(stream))]
        await scripts.ensure_groups(redis.execute_command, keys, group=group, streams=sources)
        receipt: Receipt = await self.streams.publish(event)
        for source, entries in await redis.xreadgroup(group, "gone", dict.fromkeys(sources, ">")):
            ids = [entry_id for entry_id, _ in entries]
            await redis.xclaim(source, group, "gone", 0, ids, idle=60_000, retrycount=times, justid=True)
        await self.start(processor)
        return receipt

    async def aclose(self) -> None:
        await self.stop_consumers()
        await self.streams.aclose()


async def dead(engine: Engine, group: str) -> list[Letter]:
    """A group's dead letters."""
    return [letter async for letter in engine.streams.dead_letters(group).ls()]


async def state(engine: Engine, id: str, group: str = "probe") -> str:
    """How one group stands with an event."""
    trail: EventStatus = await engine.streams.event(id)
    return next((found.state for found in trail.groups if found.group == group), "")


async def becomes(engine: Engine, id: str, expected: str, group: str = "probe") -> GroupStatus:
    """Waits until an event has this state in a group. A trail is several looks: what two of them agree on is so."""
    looks: list[GroupStatus | None] = [None]

    async def agree() -> bool:
        trail: EventStatus = await engine.streams.event(id)
        looks.append(next((found for found in trail.groups if found.group == group and found.state == expected), None))
        before, now = looks[-2:]
        return before is not None and now is not None and before.history == now.history

    await engine.until(agree)
    assert looks[-1] is not None
    return looks[-1]
