"""Maintenance: once a minute each consumer trims its streams, where that is configured, and reconciles the ledger.

Any number of consumers may do it at once: each step is a script that does what is left to do.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from streams.admin.trim import trim
from streams.dead_letters.dead_letters import DeadLetters
from streams.errors import StreamsError
from streams.inspecting.reconciliation import Accounts
from streams.logs import get_logger
from streams.settling import limits
from streams.settling.ordering import Ordering
from streams.settling.unsupported import bring_forward

if TYPE_CHECKING:
    from streams.app import App
    from streams.handlers.processor import Processor
    from streams.redis.partition import Partition

log = get_logger("streams.upkeep")

_EVERY: Final = 60.0  # seconds
_ROUNDS: Final = 20
_FULL: Final = 0.8  # the share of STREAMS_DEAD_MOST from which it is said


class Maintenance:
    """The upkeep of one consumer."""

    def __init__(self, client: App, processor: Processor) -> None:
        self._client = client
        self._settings = client.settings
        self._group = processor.name
        self._streams = sorted(processor.streams)
        self._known = {type: each.event.version for type, each in processor.subscriptions.items()}
        self._ordered = processor.ordered
        self._limited = processor.limited
        self._gaps: dict[tuple[int, str], int] = {}

    async def run(self) -> None:
        """Looks after the streams for as long as the consumer lives."""
        await asyncio.sleep(random.uniform(0.1, 1.0))
        look = self._repair  # a processor that was ordered before must not leave its lines standing for a minute
        while True:
            await look()
            await asyncio.sleep(_EVERY * random.uniform(0.75, 1.25))
            look = self.look

    async def look(self) -> None:
        """One look: mend turns and limits, trim, cap the dead letters, compare the books."""
        await self._repair()
        for step in (self._trim, self._cap, self._compare):
            await self._unless_refused(step)

    async def _repair(self) -> None:
        for partition in self._client.partitions:
            await self._unless_refused(partial(self._bring_forward, partition))
            await self._unless_refused(partial(self._mend_turns, partition))
            await self._unless_refused(partial(self._mend_limits, partition))

    async def _unless_refused(self, step: Callable[[], Awaitable[None]]) -> None:
        """One step; what it fails with is said, and keeps the others from nothing."""
        try:
            await step()
        except (RedisError, OSError, StreamsError, ValueError) as error:
            log.warning("maintenance.failed", group=self._group, error=str(error)[:300])

    async def _bring_forward(self, partition: Partition) -> None:
        for _ in range(_ROUNDS):  # a consumer of the old code may come upon them first, and put them aside again
            count = await bring_forward(partition, self._group, self._known)
            if not count:
                break
            log.info("delivery.brought_forward", group=self._group, count=count)
            await asyncio.sleep(1.0)

    async def _mend_turns(self, partition: Partition) -> None:
        await Ordering(partition.keys, self._group).repair(partition.redis, release_all=not self._ordered)

    async def _mend_limits(self, partition: Partition) -> None:
        lost, freed = await limits.repair(
            partition.redis, partition.keys, group=self._group, release_all=not self._limited
        )
        if lost:
            log.warning("limit.repaired", group=self._group, lost=lost)
        if freed:
            log.info("limit.dropped", group=self._group, let_go=freed)

    async def _trim(self) -> None:
        keep, keep_for = self._settings.keep, self._settings.keep_for
        if keep is None and keep_for is None:
            return
        age = None if keep_for is None else timedelta(seconds=keep_for)
        for done in await trim(self._client, self._streams, keep=keep, older_than=age):
            if done.removed:
                log.info("stream.trimmed", stream=done.stream, removed=done.removed, kept=done.kept)
            if done.held_by:
                log.warning("stream.held", stream=done.stream, kept=done.kept, held_by=done.held_by)

    async def _cap(self) -> None:
        most = self._settings.dead_most
        if most is None:
            return
        letters = DeadLetters(self._client, self._group)
        count = await letters.count()
        if count >= _FULL * most:
            log.error("dead.filling", group=self._group, count=count, most=most)
        if count > most:
            tally = await letters.discard(limit=count - most, by="STREAMS_DEAD_MOST")
            log.error("dead.dropped", group=self._group, count=tally.done)

    async def _compare(self) -> None:
        found = {}
        for gap in (await Accounts.take(self._client)).gaps():
            if gap.group in ("", self._group):
                place = gap.partition, gap.place
                found[place] = gap.count
                if self._gaps.get(place) != gap.count:
                    log.error(
                        "ledger.discrepancy",
                        group=gap.group, where=gap.where, count=gap.count, after=gap.after, before=gap.before,
                    )  # fmt: skip
        self._gaps = found
