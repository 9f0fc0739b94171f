"""Reclaimer: takes over the deliveries of dead consumers, and retires those consumers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from streams.consuming import scripts
from streams.logs import get_logger
from streams.messages.delivery import Delivery, begin_by
from streams.messages.message import Message
from streams.messages.size_limits import whole_up_to
from streams.redis.keys import came_back
from streams.redis.partition import clock_ms
from streams.redis.refusal import LOST
from streams.redis.untrusted import text

if TYPE_CHECKING:
    from streams.consuming.leases import Leases
    from streams.consuming.reader import Reader, TakesInHand
    from streams.redis.partition import Member
    from streams.settling.ordering import Ordering

log = get_logger("streams.reclaim")

_PAGE: Final = 100  # entries looked at in one call
_CHECKS: Final = 4  # per lease, so that recovery takes at most a lease and a quarter
_SILENT: Final = 10  # leases after which a consumer that holds nothing is removed
_VANISHED_SHOWN: Final = 5


class Reclaimer:
    """Walks the pending lists by a kept cursor, on its own jittered timer."""

    def __init__(
        self,
        member: Member,
        holder: TakesInHand,
        leases: Leases,
        readers: Mapping[str, Reader],
        *,
        suspect: int,
        ordering: Ordering | None = None,
    ) -> None:
        self._keys, self._group, self._consumer = member.keys, member.group, member.consumer
        self._lease = member.settings.lease
        self._suspect = suspect
        self._cut = whole_up_to(member.settings)
        self._order = ordering.order if ordering is not None else ()
        self._reconnect = member.reconnect
        self._holder = holder
        self._leases = leases
        self._readers = readers  # by source: each says how much room there is
        self._sources = list(readers)
        self._client = member.connections.client
        self._connection = member.connections.direct(timeout=10.0)
        self._cursors = dict.fromkeys(readers, b"0-0")
        self._round = 0

    async def run(self) -> None:
        """Looks four times a lease for as long as the consumer lives."""
        while True:
            await asyncio.sleep(self._lease / _CHECKS * random.uniform(0.75, 1.0))
            if not self._leases.fresh():
                continue
            try:
                for source in self._sources:
                    await self._unless_refused(partial(self._walk, source), self._keys.short(source))
                self._round += 1
                if self._round % (2 * _CHECKS) == 0:
                    await self._unless_refused(self._retire, "")
            except LOST as error:
                await self._reconnect.failed(error)

    async def _unless_refused(self, step: Callable[[], Awaitable[None]], source: str) -> None:
        """One step of the round; what Redis refuses about one key is said, and keeps the others from nothing."""
        try:
            await step()
        except LOST:
            raise
        except RedisError as error:
            # NOGROUP is mended by the reader; anything else is tried again at the next look.
            if "NOGROUP" not in str(error):
                self._reconnect.refused(log, "reclaim.refused", error, group=self._group, source=source)

    async def _walk(self, source: str) -> None:
        while (room := self._readers[source].room_to_reclaim()) > 0:
            asked = monotonic()
            following, vanished, taken = await scripts.reclaim(
                self._connection.call,
                source,
                group=self._group,
                consumer=self._consumer,
                lease_ms=round(self._lease * 1000),
                cursor=self._cursors[source],
                most=min(_PAGE, room),
                suspect=self._suspect,
                cut=self._cut,
                order=self._order,
            )
            self._cursors[source] = following
            if vanished:
                shown = [entry_id.decode() for entry_id in vanished[:_VANISHED_SHOWN]]
                log.error(
                    "delivery.vanished",
                    group=self._group, source=self._keys.short(source), count=len(vanished), first=shown,
                )  # fmt: skip
            # An answer that lay in the socket for a lease may be about what others have by now: it is silent again.
            if taken and monotonic() - asked <= self._lease:
                many, short = len(taken), self._keys.short(source)
                log.warning("delivery.reclaimed", group=self._group, source=short, count=many)
                self._take(source, taken, begin_by(asked, self._lease))
            if following == b"0-0":
                return

    async def take_over(self) -> int:
        """Takes over all that others hold, whether they live or not; returns how much that was: for one that is alone
        (`streams.testing`).
        """
        count = 0
        for source in self._sources:
            _, _, taken = await scripts.reclaim(
                self._connection.call, source,
                group=self._group, consumer=self._consumer, lease_ms=0, cursor=b"0-0", most=1_000_000,
                suspect=self._suspect, cut=self._cut, order=self._order,
            )  # fmt: skip
            if taken:
                self._take(source, taken, inf)
            count += len(taken)
        return count

    def _take(self, source: str, taken: list[scripts.Taken], until: float) -> None:
        deliveries = [
            Delivery(
                Message.decode(entry_id, fields, came_back=came_back(source)),
                self._holder,
                source=source,
                entry_id=entry_id,
                count=count,
                counted=bool(counted),
                begin_by=until,
            )
            for entry_id, count, counted, fields in taken
        ]
        self._holder.feed(deliveries)

    async def _retire(self) -> None:
        oldest = clock_ms(await self._client.time()) - round(self._lease * 1000 * _SILENT)
        key = self._keys.consumers(self._group)
        silent: list[bytes] = await self._connection.call(b"ZRANGE", key, b"-inf", oldest, b"BYSCORE")
        for name in silent:
            if await scripts.retire_consumer(
                self._connection.call,
                self._keys,
                group=self._group,
                consumer=name,
                streams=self._sources,
                silent_ms=round(self._lease * 1000 * _SILENT),
            ):
                log.info("consumer.retired", group=self._group, consumer=text(name))

    async def aclose(self) -> None:
        """Closes the connection."""
        await self._connection.aclose()
