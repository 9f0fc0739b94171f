"""The engine: the same work with its guarantees on (typed events, idempotent publishing, leases, fencing, retries)."""

from __future__ import annotations

import asyncio
import time

from benchmarks.work import Benched, Counter, bodies
from streams import Batch, Consumer, Processor, Settings, Streams


def _settings(url: str) -> Settings:
    return Settings(redis_url=url, accept_risk=frozenset({"no-aof"}))  # the benchmark's server keeps nothing


async def drain(url: str, count: int) -> float:
    """Fills a stream, then measures a consumer with a no-op handler, until everything is settled."""
    settings = _settings(url)
    async with Streams(settings=settings) as client:
        await client.publish_many(Benched(**body) for body in bodies(count))
    counter = Counter()
    bench = Processor("bench")

    @bench.on(Benched)
    async def handler(_: Benched) -> None:
        counter.hit()

    consumer = Consumer(bench, Streams(settings=settings))
    began = time.perf_counter()
    await consumer.start()
    while counter.count < count:  # noqa: ASYNC110 - the handler must stay a no-op
        await asyncio.sleep(0.001)
    took = time.perf_counter() - began
    await consumer.stop()
    return count / took


async def drain_batch(url: str, count: int) -> float:
    """The same by a batch handler; the floor is the same loop."""
    settings = _settings(url)
    async with Streams(settings=settings) as client:
        await client.publish_many(Benched(**body) for body in bodies(count))
    counter = Counter()
    bench = Processor("bench")

    @bench.on(Benched, batch=Batch(size=500, within=0.5))
    async def handler(events: list[Benched]) -> None:
        counter.count += len(events)

    consumer = Consumer(bench, Streams(settings=settings))
    began = time.perf_counter()
    await consumer.start()
    while counter.count < count:  # noqa: ASYNC110 - the handler must stay a no-op
        await asyncio.sleep(0.001)
    took = time.perf_counter() - began
    await consumer.stop()
    return count / took


async def publish_one(url: str, count: int) -> float:
    """Awaits each publish."""
    async with Streams(settings=_settings(url)) as client:
        await client.check()
        jobs = bodies(count)
        began = time.perf_counter()
        for job in jobs:
            await client.publish(Benched(**job))
        return count / (time.perf_counter() - began)


async def publish_tasks(url: str, count: int) -> float:
    """50 tasks, each awaiting its publishes."""
    async with Streams(settings=_settings(url)) as client:
        await client.check()
        jobs = iter(bodies(count))

        async def caller() -> None:
            for job in jobs:
                await client.publish(Benched(**job))

        began = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(50)))
        return count / (time.perf_counter() - began)


async def publish_many(url: str, count: int) -> float:
    """One publish_many of all."""
    async with Streams(settings=_settings(url)) as client:
        await client.check()
        jobs = bodies(count)
        began = time.perf_counter()
        await client.publish_many(Benched(**job) for job in jobs)
        return count / (time.perf_counter() - began)
