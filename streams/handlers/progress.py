"""Progress: reports of a handler on how far it has come, for callers that wait. A report never fails the handler."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self, cast

import orjson
from redis.exceptions import RedisError

from streams import clock
from streams.handlers.dependencies import CurrentApp, CurrentDelivery, Depends
from streams.logs import get_logger
from streams.redaction import scrub
from streams.redis.keys import PROGRESS_TTL_MS
from streams.redis.refusal import LOST
from streams.redis.script import Script, run

if TYPE_CHECKING:
    from streams.app import App
    from streams.messages.delivery import Delivery
    from streams.redis.partition import Partition
    from streams.redis.script import Call

log = get_logger("streams.progress")

_EVERY: Final = 0.25  # seconds between two reports
_LAST: Final = 1.0  # seconds that the last report may take when the handler has ended


class Progress:
    """The progress of one delivery.

    However often it is set, it is reported at once, then at most four times a second, and the last value always is.
    Kept for an hour after the last report.
    """

    def __init__(self, delivery: Delivery, app: App) -> None:
        partition = app.partitions[app.partition_of(delivery.source)]
        self._call = partition.redis.execute_command
        self._key = partition.keys.progress(delivery.message.id)
        self._group, self._attempt = delivery.group, delivery.attempt
        self._delivery = f"{delivery.consumer} {delivery.entry_id.decode()} {delivery.count}"
        self._done, self._total, self._text = 0.0, cast("float | None", None), ""
        self._is_new = False  # something has been set since the last report
        self._is_first = True
        self._gave_way_at = 0.0
        self._reporting: asyncio.Task[None] | None = None

    async def set(self, done: float, total: float | None = None, text: str | None = None) -> None:
        """Sets how much is done, of `total` if it is known; what is left out stays as it was. The text is cut to 500
        characters, and is visible to all that may look at events: nothing private. Raises `ValueError` for a number
        that is not finite.
        """
        if not math.isfinite(done) or (total is not None and not math.isfinite(total)):
            raise ValueError(f"progress of {done} of {total} is not finite")
        self._done = done
        if total is not None:
            self._total = total
        if text is not None:
            self._text = text
        self._is_new = True
        loop = asyncio.get_running_loop()
        if self._reporting is None:
            self._reporting = loop.create_task(self._report_on())
        if loop.time() - self._gave_way_at > _EVERY:  # a loop that waits for nothing else would never be reported
            await asyncio.sleep(0)
            self._gave_way_at = loop.time()

    async def increment(self, by: float = 1, text: str | None = None) -> None:
        """Adds to what is done."""
        await self.set(self._done + by, None, text)

    async def _report_on(self) -> None:
        while self._is_new:
            await self._report()
            await asyncio.sleep(_EVERY)
        self._reporting = None

    async def _report(self) -> None:
        self._is_new = False
        report = {
            "done": self._done, "total": self._total, "text": scrub(str(self._text)), "attempt": self._attempt,
            "at": clock.now().isoformat(timespec="milliseconds"),
        }  # fmt: skip
        try:
            await progress(
                self._call, self._key, group=self._group, delivery=self._delivery, is_first=self._is_first,
                report=orjson.dumps(report),
            )  # fmt: skip
            self._is_first = False
        except (*LOST, RedisError) as error:
            log.debug("progress.not_reported", group=self._group, error=str(error)[:200])

    async def end(self) -> None:
        """Reports the last value, what watches it then looks whether the event is settled."""
        if self._reporting is not None:
            self._reporting.cancel()
            await asyncio.wait([self._reporting])
            self._is_new = True
        if self._is_new:
            try:
                async with asyncio.timeout(_LAST):
                    await self._report()
            except TimeoutError:
                log.debug("progress.not_reported", group=self._group, error="Redis took too long")


@asynccontextmanager
async def _progress(
    delivery: Delivery = CurrentDelivery(),
    app: App = CurrentApp(),
) -> AsyncGenerator[Progress, None]:
    progress = Progress(delivery, app)
    try:
        yield progress
    finally:
        await progress.end()


def CurrentProgress() -> Progress:
    """The progress of the delivery being handled, for an `async def` handler of one event."""
    return cast("Progress", Depends(cast("Any", _progress)))


# Reached: how far the handling of an event has come in one group, by the last report of its handler.


@dataclass(frozen=True, slots=True)
class ProgressReport:
    """The progress of one delivery: `done` of `total` (None: unknown) in the handler's own unit, in its `attempt`.

    `at` is RFC 3339.
    """

    done: float
    total: float | None
    text: str
    attempt: int
    at: str

    @property
    def share(self) -> float | None:
        """What is done of all, 0 to 1; None when the total is not known."""
        return min(1.0, self.done / self.total) if self.total else None

    @classmethod
    def decode(cls, report: bytes) -> Self | None:
        """Reads a report as `progress.lua` keeps it; None for anything else: others may write into Redis."""
        try:
            match orjson.loads(report):
                case {"done": done, "total": total, "text": str(text), "attempt": int(attempt), "at": str(at)}:
                    return cls(float(done), None if total is None else float(total), text, attempt, at)
        except (ValueError, TypeError):
            pass
        return None

    @classmethod
    async def of(cls, partition: Partition, event_id: str) -> dict[str, Self]:
        """What handlers have reported of an event, by group; empty an hour after the last report."""
        redis = partition.redis
        if await redis.type(partition.keys.progress(event_id)) != b"hash":
            return {}
        reports = await redis.hgetall(partition.keys.progress(event_id))
        read = {group.decode("utf-8", "replace"): cls.decode(report) for group, report in reports.items()}
        return {group: reached for group, reached in read.items() if reached is not None}


PROGRESS: Final = Script.load("handlers/progress")


async def progress(call: Call, key: str, *, group: str, delivery: str, is_first: bool, report: bytes) -> bool:
    """Stores and publishes how far a delivery has come; False when a later delivery of the event reports already."""
    return bool(await run(call, PROGRESS, (key,), (group, delivery, int(is_first), PROGRESS_TTL_MS, report)))
