"""taskiq-redis (https://github.com/taskiq-python/taskiq-redis): its stream broker, run by `taskiq worker`.

Of its brokers this is the one that its page names for "when data durability is required"; the others have no acks.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from tests.faults.peers import load

AGAIN = False  # each kiq() is an entry of its own, whatever its task id

_broker: dict[str, Any] = {}
_results: dict[str, Any] = {}
if load.TUNED:
    # The pools that it makes try nothing twice, unlike a client of redis-py: the first lost connection ends a worker
    # and fails a publication. The price is that a publication whose reply was lost is published twice.
    _results = {"retry": Retry(ExponentialWithJitterBackoff(cap=1, base=0.05), 10)}
    _broker = {
        **_results,
        # Nothing renews it: it must be longer than the longest task and its wait in memory together, and it is here.
        "idle_timeout": round(load.LEASE * 1000),
        # "Useful when the worker crashes or gets killed": else the lock of the reclaim may be left for ever.
        "unacknowledged_lock_timeout": load.LEASE,
        # The default begins with what comes after the group was made.
        "consumer_id": "0",
    }

# As in the example of its page, with the expiry that the page recommends. Acks come when the result is saved, which is
# the latest of its three policies, and its default.
broker = RedisStreamBroker(url=load.URL, **_broker).with_result_backend(
    RedisAsyncResultBackend(redis_url=load.URL, result_ex_time=1000, **_results)
)


@broker.task
async def happened(text: str) -> None:
    """The handler."""
    await load.handle(text)


@asynccontextmanager
async def publishing() -> AsyncIterator[Callable[[str], Callable[[], Awaitable[str]]]]:
    """As its guide has it for a program that is no worker."""
    await broker.startup()

    def prepare(text: str) -> Callable[[], Awaitable[str]]:
        async def publish() -> str:
            identity: str = (await happened.kiq(text)).task_id
            return identity

        return publish

    try:
        yield prepare
    finally:
        await broker.shutdown()
