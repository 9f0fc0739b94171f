"""Driver: what the suite asks of an engine: start processors, let time pass, wait; and one that dies in the middle.

Everything else is the public face of `Streams`, which both engines have.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from schemas import Event
from streams import Consumer, NotFound, Processor, Receipt, Settings, Streams, scripts
from streams.letter import Letter
from streams.testing import Harness
from streams.whereabouts import GroupTrail
from tests.waiting import wait_until

SETTINGS: dict[str, Any] = {
    "backoff": 40,  # ms
    "max_bytes": 2000,
    "deliveries": 3,
    "park_after": 2,
    "unsupported_every": 0.15,
    "unsupported_for": 0.4,
}
"""The same for both: short, since on a Redis it is waited for."""


class Driver(Protocol):
    """One engine."""

    streams: Streams

    async def start(self, *processors: Processor) -> None:
        """Starts a consumer of each."""

    async def die(self, processor: Processor, events: Sequence[Event], times: int = 1) -> list[Receipt]:
        """Publishes events, and lets consumers of `processor`, which is not started yet, die with them in hand."""

    async def until(self, predicate: Callable[[], Any]) -> Any:
        """Waits until what `predicate` (plain or async) returns is true, and returns that."""

    async def pass_time(self, seconds: float) -> None:
        """Lets time pass, for what must not happen in it."""

    async def stop_consumers(self) -> None:
        """Ends what was started."""

    async def stop(self) -> None:
        """Ends everything."""


class HarnessDriver:
    """The harness."""

    def __init__(self) -> None:
        self.harness = Harness(**SETTINGS)
        self._times: dict[str, int] = {}
        self.streams: Streams = self.harness

    async def start(self, *processors: Processor) -> None:
        for processor in processors:
            await self.harness.join(processor)
            if times := self._times.pop(processor.name, 0):
                self.harness.crash_next(processor.name, times)

    async def die(self, processor: Processor, events: Sequence[Event], times: int = 1) -> list[Receipt]:
        receipts = [await self.streams.publish(event) for event in events]
        self._times[processor.name] = times
        return receipts

    async def until(self, predicate: Callable[[], Any]) -> Any:
        for _ in range(200):
            await self.harness.run()
            if value := await _value(predicate):
                return value
            await self.harness.advance(0.05)
        raise AssertionError("not within 10 s of the harness' clock")

    async def pass_time(self, seconds: float) -> None:
        await self.harness.advance(seconds)

    async def stop_consumers(self) -> None:
        await self.harness.leave()

    async def stop(self) -> None:
        await self.harness.aclose()


class RedisDriver:
    """A Redis, and real consumers in this process."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = Settings(**settings, **SETTINGS)
        self.streams = Streams(settings=self._settings)
        self._consumers: list[Consumer] = []

    async def start(self, *processors: Processor) -> None:
        consumers = [Consumer(processor, Streams(settings=self._settings)) for processor in processors]
        self._consumers += consumers
        await asyncio.gather(*(consumer.start() for consumer in consumers))

    async def die(self, processor: Processor, events: Sequence[Event], times: int = 1) -> list[Receipt]:
        receipts = [await self.streams.publish(event) for event in events]
        keys, redis = self.streams.keys, self.streams.redis
        group = processor.name
        sources = [keys.inbox(group), *(lane for stream in processor.streams for lane in keys.lanes(stream))]
        await scripts.ensure_groups(
            redis.execute_command, groups=keys.groups(), books=keys.books(), group=group, streams=sources
        )
        read: Any = await redis.xreadgroup(group, "dead", dict.fromkeys(sources, ">"))
        for source, entries in read:
            ids = [entry_id for entry_id, _ in entries]
            await redis.xclaim(source, group, "dead", 0, ids, retrycount=times)
        return receipts

    async def until(self, predicate: Callable[[], Any]) -> Any:
        return await wait_until(predicate)

    async def pass_time(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def stop_consumers(self) -> None:
        await asyncio.gather(*(consumer.stop() for consumer in self._consumers))
        self._consumers.clear()

    async def stop(self) -> None:
        await self.stop_consumers()
        await self.streams.aclose()


async def _value(predicate: Callable[[], Any]) -> Any:
    answer = predicate()
    return await answer if inspect.isawaitable(answer) else answer


async def becomes(driver: Driver, id: str, group: str, state: str) -> GroupTrail:
    """Waits until the event has this state in this group. A trail is several looks: what two of them agree on is so."""
    before: GroupTrail | None = None

    async def find() -> GroupTrail | None:
        nonlocal before
        try:
            trail = await driver.streams.event(id)
        except NotFound:
            return None
        found = next((found for found in trail.groups if found.group == group and found.state == state), None)
        last, before = before, found
        return found if found and last and found.history == last.history else None

    found: GroupTrail = await driver.until(find)
    return found


async def dead(driver: Driver, group: str, count: int = 1) -> list[Letter]:
    """Waits until the group has so many dead letters, and returns them, oldest first."""

    async def find() -> list[Letter] | None:
        letters = [letter async for letter in driver.streams.dead_letters(group).ls()]
        return letters if len(letters) == count else None

    letters: list[Letter] = await driver.until(find)
    return letters


async def now(driver: Driver) -> float:
    """What the engine's clock says, in seconds since 1970."""
    redis: Any = driver.streams.redis
    seconds, microseconds = await redis.time()
    return float(seconds + microseconds / 1_000_000)
