"""The floor: what a careful programmer writes by hand on redis.asyncio, with no guarantees beyond a consumer group."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import orjson
import redis.asyncio

from benchmarks.work import Counter, bodies

QUEUE, GROUP, BATCH = "bench", "g", 500


async def drain(url: str, count: int) -> float:
    """Fills a stream, then measures reading it: XREADGROUP COUNT 500, decode, await a no-op, one XACK a batch."""
    client = redis.asyncio.from_url(url, protocol=2)
    await client.xgroup_create(QUEUE, GROUP, id="0", mkstream=True)
    await _publish_many(client, count)
    counter = Counter()

    async def handler(_: dict[str, Any]) -> None:
        counter.hit()

    began = time.perf_counter()
    while counter.count < count:
        for _, entries in await client.xreadgroup(GROUP, "c1", {QUEUE: ">"}, count=BATCH, block=5000) or ():
            for _, fields in entries:
                await handler(orjson.loads(fields[b"d"]))
            await client.xack(QUEUE, GROUP, *[entry_id for entry_id, _ in entries])
    took = time.perf_counter() - began
    await client.aclose()
    return count / took


drain_batch = drain  # the loop is the same: it takes what is read together


async def publish_one(url: str, count: int) -> float:
    """Awaits each XADD."""
    client = redis.asyncio.from_url(url, protocol=2)
    jobs = bodies(count)
    began = time.perf_counter()
    for job in jobs:
        await client.xadd(QUEUE, {b"d": orjson.dumps(job)})
    took = time.perf_counter() - began
    await client.aclose()
    return count / took


async def publish_tasks(url: str, count: int) -> float:
    """50 tasks, each awaiting its XADDs on the pool."""
    client = redis.asyncio.from_url(url, protocol=2)
    jobs = iter(bodies(count))

    async def caller() -> None:
        for job in jobs:
            await client.xadd(QUEUE, {b"d": orjson.dumps(job)})

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(50)))
    took = time.perf_counter() - began
    await client.aclose()
    return count / took


async def publish_many(url: str, count: int) -> float:
    """Pipelines of 500 XADDs."""
    client = redis.asyncio.from_url(url, protocol=2)
    began = time.perf_counter()
    await _publish_many(client, count)
    took = time.perf_counter() - began
    await client.aclose()
    return count / took


async def _publish_many(client: redis.asyncio.Redis, count: int) -> None:
    jobs = bodies(count)
    for start in range(0, count, BATCH):
        pipe = client.pipeline(transaction=False)
        for job in jobs[start : start + BATCH]:
            pipe.xadd(QUEUE, {b"d": orjson.dumps(job)})
        await pipe.execute()
