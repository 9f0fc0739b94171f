"""Reader: brings messages from Redis into this consumer's hands, never more than it has room for.

A consumer has one for each priority lane: COUNT counts per stream, so one read over all lanes would give neither
priority nor shares, and a full lane must not keep a high message out.
It reads on a connection of its own with a short BLOCK. A read is never cancelled while it waits: Redis would hand
entries to a connection that nobody listens to; to stop, the read is unblocked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import NoPermissionError, RedisError, ResponseError

from streams import scripts
from streams.connection import LOST, Connections
from streams.delivery import Delivery
from streams.logger import get_logger
from streams.message import Message

if TYPE_CHECKING:
    from streams.batches import Batches
    from streams.keys import Keys
    from streams.reconnect import Reconnect
    from streams.turns import Turns

log = get_logger("streams.reader")

_AHEAD: Final = 0.2  # seconds of work to hold: enough to hide the round trip, little enough to share
_MEASURE: Final = 0.05  # seconds between two looks at the rate


class Reader:
    """The read loop of one consumer over one lane of its streams (and, with the normal lane, the group's inbox)."""

    def __init__(
        self,
        connections: Connections,
        keys: Keys,
        *,
        group: str,
        consumer: str,
        sources: list[str],
        concurrency: int,
        waits_below: Callable[[], bool],
        reconnect: Reconnect,
        ensure_groups: Callable[[], Awaitable[None]],
        feed: Callable[[list[Delivery]], None],
        watch: Callable[[str], AbstractContextManager[set[bytes]]],
        turns: Turns | None = None,
    ) -> None:
        settings = connections.settings
        self._connections = connections
        self._keys = keys
        self._group = group
        self._consumer = consumer
        self._sources = sources
        self._turns = turns
        self._names = {source.encode(): source for source in sources}
        self._least = concurrency
        self._most = max(concurrency, settings.prefetch)
        self._target = concurrency
        self._waits_below = waits_below
        self._block = settings.block
        self._lease = settings.lease
        self._reconnect = reconnect
        self._ensure_groups = ensure_groups
        self._held = 0
        self._feed = feed
        self._watch = watch
        self._connection = connections.direct(timeout=10.0)
        self._room = asyncio.Event()
        self._active = 1
        self._batches: Batches | None = None
        self._handled, self._measured_at = 0, 0.0
        self._stopping = False
        self._paused = False
        self._unsure = False
        self._client_id = self._made = 0

    def fill(self, batches: Batches) -> None:
        """Holds enough for one batch of each kind beside those that run, or they would never fill."""
        self._batches = batches
        self._least += batches.collector.sizes
        self._most = max(self._least, self._most)
        self._target = self._least
        batches.began.append(self._room.set)

    def took(self, count: int) -> None:
        """Notes that this consumer holds more deliveries of this lane."""
        self._held += count

    def settled(self, count: int) -> None:
        """Notes that deliveries left this consumer's hands: there may be room again."""
        self._held -= count
        self._handled += count
        self._room.set()

    def room(self) -> int:
        """How many more messages this consumer will hold."""
        if self._paused:
            return 0
        in_batches = self._batches.running if self._batches is not None else 0
        # What runs is held too. Slots that slow handlers leave all at once would find few of this lane beside the
        # others, and be taken by those of a lower lane: its share would be another than that of its weight.
        share = self._least if self._waits_below() else 0
        return self._target + share + in_batches - self._held

    def room_to_reclaim(self) -> int:
        """How many messages of dead consumers it takes over: some beyond what it holds otherwise, or a reader that
        fills every free place under a steady load would keep them waiting for as long as the load lasts.
        """
        return 0 if self._paused else self.room() + self._least

    def pause(self, on: bool) -> None:
        """Stops reading, or goes on; a read that waits already may still bring something."""
        self._paused = on
        self._room.set()

    async def run(self) -> None:
        """Reads until `stop`; Redis going away is waited out."""
        while not self._stopping:
            self._adapt()
            room = self.room()
            if self._paused or room < (1 if self._target == self._least else self._target // 4):
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
                reply = await self._read(max(1, room // self._active))
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
                    # It may have lain in the socket while this process was stopped, and be another's by now.
                    self._unsure = monotonic() - asked > self._lease
                    if not self._unsure:
                        self._feed(self._deliveries(reply))

    async def take(self) -> int:
        """Reads once what is there, as far as there is room, and returns how much that was: for one that is told when
        to read (`streams.testing`).
        """
        room = self.room()
        found = self._deliveries(await self._read(room) or ()) if room > 0 else []
        if found:
            self._feed(found)
        return len(found)

    async def _read(self, count: int) -> Any:
        if self._turns is not None:
            return await self._turns.read(self._call, self._consumer, self._sources, count, round(self._block * 1000))
        return await self._connection.call(
            b"XREADGROUP", b"GROUP", self._group, self._consumer, b"COUNT", count,
            b"BLOCK", round(self._block * 1000), b"STREAMS", *self._sources, *(b">" for _ in self._sources),
            timeout=self._block + 5,
        )  # fmt: skip

    async def _call(self, *command: Any) -> Any:
        return await self._connection.call(*command, timeout=self._block + 5)

    def _deliveries(self, reply: Any) -> list[Delivery]:
        group, consumer = self._group, self._consumer
        return [
            Delivery(
                Message.decode(entry_id, fields),
                group=group, consumer=consumer, source=source, entry_id=entry_id, count=1,
            )
            for name, entries in reply
            for source in (self._names[name],)
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
            await self._ensure_groups()
        elif "UNBLOCKED" not in str(error):
            log.error("reader.refused", group=self._group, error=str(error)[:300])
        if not self._stopping:
            await asyncio.sleep(min(0.5, self._block))

    async def _read_own_pending(self) -> None:
        """Finds what Redis thinks we hold and we do not. By XPENDING and XRANGE: reading history with `0` would raise
        the delivery count of everything that is being handled, and break its fence.
        """
        for source in self._sources:
            # Watched from before Redis is asked: what is settled meanwhile is pending in its answer and in our hands no
            # more, what is reclaimed meanwhile is in its answer and in our hands already.
            with self._watch(source) as seen:
                found = await self._find_own(source, seen)
                found = [delivery for delivery in found if delivery.entry_id not in seen]
            if found:
                log.info("reader.recovered", group=self._group, source=self._keys.short(source), count=len(found))
                self._feed(found)

    async def _find_own(self, source: str, seen: set[bytes]) -> list[Delivery]:
        pending = await self._connection.call(
            b"XPENDING", source, self._group, b"-", b"+", self._most * 4, self._consumer
        )
        unseen = [(entry_id, count) for entry_id, _, _, count in pending if entry_id not in seen]
        if not unseen:
            return []
        # Their lease may be over, and this consumer's own reclaim would take them over a second time.
        lost = await self._renew(source, unseen)
        found = []
        for position, (entry_id, count) in enumerate(unseen, 1):
            if position in lost:
                continue
            entries = await self._connection.call(b"XRANGE", source, entry_id, entry_id)
            if entries:
                message = Message.decode(entry_id, entries[0][1])
                found.append(
                    Delivery(
                        message,
                        group=self._group, consumer=self._consumer, source=source, entry_id=entry_id, count=count,
                    )
                )  # fmt: skip
        return found

    async def _renew(self, source: str, entries: list[tuple[bytes, int]]) -> set[int]:
        consumers = self._keys.consumers(self._group)
        keys, arguments = scripts.renew_arguments(consumers, self._group, self._consumer, {source: entries})
        return set(await scripts.run(self._connection.call, scripts.RENEW, keys, arguments))

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
