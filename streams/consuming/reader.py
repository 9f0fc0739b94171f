"""Reader: brings messages from Redis into this consumer's hands, never more than it has room for.

A consumer has one for each priority lane: COUNT counts per stream, so one read over all lanes would give neither
priority nor shares, and a full lane must not keep a high message out.
It reads on a connection of its own with a short BLOCK. A read is never cancelled while it waits: Redis would hand
entries to a connection that nobody listens to; to stop, the read is unblocked.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol

from redis.exceptions import NoPermissionError, RedisError, ResponseError

from streams.consuming import scripts
from streams.logs import get_logger
from streams.messages.delivery import Delivery, Holder, begin_by
from streams.messages.message import Message
from streams.messages.size_limits import Sizes, reply_most, whole_up_to
from streams.redis import script
from streams.redis.connection import TooMuch
from streams.redis.entries import fetch
from streams.redis.keys import came_back
from streams.redis.refusal import LOST

if TYPE_CHECKING:
    from streams.executing.handler_pool import HandlerPool
    from streams.redis.partition import Member
    from streams.settling.ordering import Ordering

log = get_logger("streams.reader")

_AHEAD: Final = 0.2  # seconds of work to hold: enough to hide the round trip, little enough to share
_MEASURE: Final = 0.05  # seconds between two looks at the rate
_LEFT_OUT_FOR: Final = 1.0  # seconds between two looks at a key that is no stream
_FETCH: Final = 4  # entries that are read one by one, in a call: a large one takes Redis a while
_ASIDE_MOST: Final = 1_000  # outcomes that Redis refuses, beside which as many are held as ever


class TakesInHand(Holder, Protocol):
    """The holder of what is read."""

    def feed(self, deliveries: list[Delivery], /) -> None:
        """Takes deliveries into hand, and hands them on."""

    def watch(self, source: str, /) -> AbstractContextManager[set[bytes]]:
        """The entries of a source that are in hand, and all that come into hand while it is watched."""

    async def ensure_groups(self) -> None:
        """Makes the group wherever it is missing."""


class Reader:
    """The read loop of one consumer over one lane of its streams (and, with the normal lane, the group's inbox)."""

    def __init__(
        self,
        member: Member,
        holder: TakesInHand,
        pool: HandlerPool,
        *,
        lane: int,
        sources: list[str],
        ordering: Ordering | None = None,
    ) -> None:
        settings = member.settings
        self._connections = connections = member.connections
        self._keys, self._group, self._consumer = member.keys, member.group, member.consumer
        self._sources, self._lane, self._ordering = sources, lane, ordering
        self._names = {source.encode(): source for source in sources}
        self._batches = pool.batches
        # Enough for one batch of each kind beside those that run, or they would never fill.
        self._least = pool.concurrency + (pool.batches.collector.sizes if pool.batches is not None else 0)
        self._most = max(self._least, settings.prefetch)
        self._target = self._least
        self._queue = pool.ready
        # What a long read brings at its end would have to wait for a renewal: its lease may have begun with the read.
        self._block = min(settings.block, settings.lease / 4)
        self._lease = settings.lease
        self._reconnect = member.reconnect
        self._held = 0
        self._holder = holder
        self._connection = connections.direct(timeout=10.0, most=reply_most(settings))
        self._sizes, self._cut, self._aside = Sizes(settings), whole_up_to(settings), 0
        self._left_out: set[str] = set()  # keys that hold something else than a stream
        self._look_again = 0.0
        self._room, self._active = asyncio.Event(), 1
        self._handled, self._measured_at = 0, 0.0
        self._stopping = self._paused = self._unsure = False
        self._client_id = self._made = 0

    def took(self, count: int) -> None:
        """Notes that this consumer holds more deliveries of this lane."""
        self._held += count

    def settled(self, count: int) -> None:
        """Notes that deliveries left this consumer's hands: there may be room again."""
        self._held -= count
        self._handled += count
        self._room.set()

    def put_aside(self, count: int) -> None:
        """Notes how many more (or fewer) are held because Redis refuses their outcome: others go on beside them."""
        self._aside += count
        self._room.set()

    def room(self) -> int:
        """How many more messages this consumer will hold."""
        if self._paused:
            return 0
        in_batches = self._batches.running if self._batches is not None else 0
        # What runs is held too. Slots that slow handlers leave all at once would find few of this lane beside the
        # others, and be taken by those of a lower lane: its share would be another than that of its weight.
        share = self._least if self._queue.waits_below(self._lane) else 0
        held = self._held - min(self._aside, _ASIDE_MOST)
        return min(self._target + share + in_batches - held, self._sizes.room(held))

    def room_to_reclaim(self) -> int:
        """How many messages of dead consumers it takes over: some beyond what it holds otherwise, or a reader that
        fills every free place under a steady load would keep them waiting for as long as the load lasts.
        """
        return 0 if self._paused else self.room() + self._least

    def batch_began(self) -> None:
        """Notes that there is room for as many more as a batch that runs has."""
        self._room.set()

    def pause(self, on: bool) -> None:
        """Stops reading, or goes on; a read that waits already may still bring something."""
        self._paused = on
        self._room.set()

    async def run(self) -> None:
        """Reads until `stop`; Redis going away is waited out."""
        while not self._stopping:
            self._adapt()
            room = self.room()
            few = 1 if self._target == self._least else min(self._target // 4, self._sizes.most(self._target))
            if self._paused or room < max(1, few):
                self._room.clear()
                await self._room.wait()
                continue
            try:
                if self._unsure:
                    await self._read_own_pending()
                    self._unsure = False
                if not self._client_id or self._made != self._connection.made:
                    self._client_id = await self._connection.client_id()
                    self._made = self._connection.made
                asked = monotonic()
                count = self._sizes.most(max(1, room // self._active))
                reply = await self._read(count)
            except TooMuch:
                log.warning("reader.too_much", group=self._group, asked=count)
                self._unsure, self._client_id = True, 0  # its entries are pending here, and are read one by one
                self._sizes.overran(count)
            except NoPermissionError as error:
                await self._reconnect.failed(error)
            except ResponseError as error:
                await self._refused(error)
            except LOST as error:
                # The reply may have been lost on its way: then entries are pending here that nobody has seen.
                self._unsure, self._client_id = True, 0
                await self._reconnect.failed(error)
            else:
                self._reconnect.succeeded()
                if reply:
                    self._active = len(reply)
                    self._sizes.met(sum(len(entries) for _, entries in reply), self._connection.received)
                    # It may have lain in the socket while this process was stopped, and be another's by now.
                    self._holder.feed(self._deliveries(reply, begin_by(asked, self._lease)))

    async def take(self) -> int:
        """Reads once what is there, as far as there is room, and returns how much that was: for one that is told when
        to read (`streams.testing`).
        """
        room = self.room()
        found = self._deliveries(await self._read(room) or ()) if room > 0 else []
        if found:
            self._holder.feed(found)
        return len(found)

    async def _read(self, count: int) -> Any:
        if not (sources := self._readable()):
            return await asyncio.sleep(min(0.5, self._block))
        block = round(self._block * 1000)
        if self._ordering is not None:
            return await self._ordering.read(self._call, self._consumer, sources, count, block, self._cut)
        return await self._call(
            b"XREADGROUP", b"GROUP", self._group, self._consumer, b"COUNT", count,
            b"BLOCK", block, b"STREAMS", *sources, *(b">" for _ in sources),
        )  # fmt: skip

    async def _call(self, *command: Any) -> Any:
        return await self._connection.call(*command, timeout=self._block + 5)

    def _deliveries(self, reply: Any, until: float = float("inf")) -> list[Delivery]:
        holder, decode = self._holder, Message.decode
        return [
            Delivery(
                decode(entry_id, fields, came_back=back), holder,
                source=source, entry_id=entry_id, count=1, begin_by=until,
            )
            for name, entries in reply
            for source, back in ((self._names[name], came_back(name)),)
            for entry_id, fields in entries
        ]  # fmt: skip

    def _adapt(self) -> None:
        """Sets how much to hold from how fast it is handled: `concurrency` when slow, up to `STREAMS_PREFETCH`."""
        now = asyncio.get_running_loop().time()
        elapsed = now - self._measured_at
        if elapsed >= _MEASURE:
            ahead = int(self._handled / elapsed * _AHEAD)
            self._target = min(self._most, max(self._least, ahead))
            self._handled, self._measured_at = 0, now

    async def _refused(self, error: ResponseError) -> None:
        if "NOGROUP" in str(error) or "no longer exists" in str(error):
            # Somebody flushed or evicted the stream. From 0, or what was published since would never be seen.
            log.error("stream.reset", group=self._group, error=str(error)[:200])
            await self._holder.ensure_groups()
        elif "WRONGTYPE" in str(error):
            await self._leave_out(error)
        elif "UNBLOCKED" not in str(error):
            self._reconnect.refused(log, "reader.refused", error, group=self._group)
        if not self._stopping:
            await asyncio.sleep(min(0.5, self._block))

    def _readable(self) -> list[str]:
        """The sources without those that hold something else, which are looked at again from time to time."""
        self._left_out = self._left_out if monotonic() < self._look_again else set()
        return [source for source in self._sources if source not in self._left_out]

    async def _leave_out(self, error: ResponseError) -> None:
        """One key that is no stream must not keep the others unread: a read of several fails as a whole."""
        call, streams = self._connection.call, (b"stream", b"none")
        try:
            self._left_out = {each for each in self._sources if await call(b"TYPE", each) not in streams}
        except (*LOST, RedisError) as lost:
            await self._reconnect.failed(lost)
        else:
            self._look_again = monotonic() + _LEFT_OUT_FOR
            self._reconnect.refused(log, "reader.refused", error, group=self._group, left_out=sorted(self._left_out))

    async def _read_own_pending(self) -> None:
        """Finds what Redis thinks we hold and we do not. By XPENDING and XRANGE: reading history with `0` would raise
        the delivery count of everything that is being handled, and break its fence.
        """
        for source in self._readable():
            # Watched from before Redis is asked: what is settled meanwhile is pending in its answer and in our hands no
            # more, what is reclaimed meanwhile is in its answer and in our hands already.
            with self._holder.watch(source) as seen:
                found = [each for each in await self._find_own(source, seen) if each.entry_id not in seen]
            if found:
                log.info("reader.recovered", group=self._group, source=self._keys.short(source), count=len(found))
                self._holder.feed(found)

    async def _find_own(self, source: str, seen: set[bytes]) -> list[Delivery]:
        call = self._connection.call
        pending = await call(b"XPENDING", source, self._group, b"-", b"+", self._most * 4, self._consumer)
        if not (unseen := [(entry_id, count) for entry_id, _, _, count in pending if entry_id not in seen]):
            return []
        # Their lease may be over, and this consumer's own reclaim would take them over a second time.
        until = begin_by(monotonic(), self._lease)
        lost = await self._renew(source, unseen)
        counts = dict(each for position, each in enumerate(unseen, 1) if position not in lost)
        ids, found = list(counts), []
        for at in range(0, len(ids), _FETCH):
            page = await fetch(call, source, ids=ids[at : at + _FETCH], cut=self._cut)
            found += [
                Delivery(
                    Message.decode(entry_id, fields, came_back=came_back(source)), self._holder,
                    source=source, entry_id=entry_id, count=counts[entry_id], begin_by=until,
                )
                for entry_id, fields in page
            ]  # fmt: skip
        return found

    async def _renew(self, source: str, entries: list[tuple[bytes, int]]) -> set[int]:
        consumers = self._keys.consumers(self._group)
        keys, arguments = scripts.renew_arguments(consumers, self._group, self._consumer, {source: entries})
        return set(await script.run(self._connection.call, scripts.RENEW, keys, arguments))

    async def stop(self) -> None:
        """Ends the loop soon: a read that waits is told to stop waiting."""
        self._stopping = True
        self._room.set()
        if self._client_id:
            try:
                await self._connections.client.client_unblock(self._client_id)
            except (RedisError, OSError) as error:
                log.debug("reader.not_unblocked", error=error.__class__.__name__)

    async def aclose(self) -> None:
        """Closes the connection."""
        await self._connection.aclose()
