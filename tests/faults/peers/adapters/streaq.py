"""streaq (https://streaq.readthedocs.io): run by `streaq run`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from coredis.exceptions import ConnectionError
from coredis.retry import ExponentialBackoffRetryPolicy
from streaq import Worker

from tests.faults.peers import load

AGAIN = True  # a task has its id before it is published, and the script adds one that is known only once

_worker: dict[str, Any] = {}
_task: dict[str, Any] = {}
if load.TUNED:
    _worker = {
        "idle_timeout": load.LEASE,
        # Its client tries a command twice within 20 ms: a restart of Redis takes longer.
        "redis_kwargs": {
            "retry_policy": ExponentialBackoffRetryPolicy(
                (ConnectionError, TimeoutError), retries=8, base_delay=0.05, max_delay=1
            )
        },
    }
    # Each hand-over is a try: after three deaths of its workers the default gives a good task up.
    _task = {"max_tries": None}

worker = Worker(redis_url=load.URL, **_worker)


@worker.task(**_task)
async def happened(text: str) -> None:
    """The handler."""
    await load.handle(text)


@asynccontextmanager
async def publishing() -> AsyncIterator[Callable[[str], Callable[[], Awaitable[str]]]]:
    """As its front page has it."""
    async with worker:

        def prepare(text: str) -> Callable[[], Awaitable[str]]:
            task = happened.enqueue(text)

            async def publish() -> str:
                identity: str = (await task).id
                return identity

            return publish

        yield prepare
