"""arq (https://arq-docs.helpmanual.io): run by `arq MODULE.WorkerSettings`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from arq import create_pool
from arq.connections import RedisSettings
from arq.jobs import Job, JobStatus
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import BusyLoadingError, ConnectionError, TimeoutError

from tests.faults.peers import load

AGAIN = True  # a job id that is queued, runs, or has its result kept is not queued again

_settings = RedisSettings.from_dsn(load.URL)
if load.TUNED:
    _settings.conn_retries = 30  # of a second each; a worker that finds no Redis at its start ends after five
    _settings.retry_on_timeout = True
    _settings.retry_on_error = [ConnectionError, TimeoutError, BusyLoadingError]
    _settings.retry = Retry(ExponentialBackoff(cap=1, base=0.05), 10)  # else the first lost connection ends a worker


async def happened(context: dict[str, Any], text: str) -> None:
    """The handler."""
    await load.handle(text)


class WorkerSettings:
    """What `arq` is started with."""

    functions = [happened]  # noqa: RUF012 - as its documentation writes it
    redis_settings = _settings
    if load.TUNED:
        # A job belongs to its worker for as long as it may run and 10 s more, and one that runs longer has failed for
        # good: so this is the shortest that survives the longest pause of a worker here, and there is no renewal.
        job_timeout = 3 * load.LEASE + 5
        max_tries = 20  # each hand-over is a try: after five deaths of its workers the default gives a good job up
        health_check_interval = 5


@asynccontextmanager
async def publishing() -> AsyncIterator[Callable[[str], Callable[[], Awaitable[str]]]]:
    """As its front page has it; tuned, with a job id."""
    pool = await create_pool(_settings)

    def prepare(text: str) -> Callable[[], Awaitable[str]]:
        async def publish() -> str:
            job = await pool.enqueue_job("happened", text, _job_id=text if load.TUNED else None)
            if job:
                return job.job_id
            # None says that this id is there already, and also that the connection was lost under the transaction.
            if not load.TUNED or await Job(text, pool).status() == JobStatus.not_found:
                raise ConnectionError("no job")
            return text

        return publish

    try:
        yield prepare
    finally:
        await pool.aclose()
