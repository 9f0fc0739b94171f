"""Control listener: receives what operators ask of a running group: pause, resume, cancel an event, report.

A channel announces each request at once. The state in Redis is what counts: a consumer that starts, or was cut off,
reads all of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from redis.exceptions import ConnectionError, RedisError, ResponseError

from streams.logs import get_logger
from streams.redis.keys import CALLS_KEPT
from streams.redis.refusal import LOST
from streams.redis.untrusted import text

if TYPE_CHECKING:
    from streams.consuming.status_reporter import StatusReporter
    from streams.messages.delivery import Delivery
    from streams.redis.partition import Member

log = get_logger("streams.control")

_ANSWER: Final = 5.0  # seconds that a channel has to answer PING
_LOOK: Final = 15.0  # seconds of silence after which it looks for itself: a channel can die without a word


class Controlled(Protocol):
    """What is asked of a consumer in one partition. Each may be asked any number of times."""

    def cancel(self, source: str, entry_id: bytes, /) -> None:
        """Stops one delivery, if it is here."""

    def pause_asked(self, on: bool, /) -> None:
        """Notes whether its group is paused."""


class ControlListener:
    """Listens for one consumer, and has done what is asked of it; its reporter answers questions."""

    def __init__(self, member: Member, controlled: Controlled, reporter: StatusReporter) -> None:
        self._client: Any = member.connections.client  # redis-py's annotations are unions over both protocols
        self._keys = member.keys
        self._group = member.group
        self._reconnect = member.reconnect
        self._controlled = controlled
        self._reporter = reporter
        self._calls: dict[tuple[str, bytes], None] = {}

    def cancelled(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Those of the deliveries that were cancelled before they came here."""
        if not self._calls:
            return []
        return [delivery for delivery in deliveries if (delivery.source, delivery.entry_id) in self._calls]

    def _cancel(self, source: str, entry_id: bytes) -> None:
        if (source, entry_id) not in self._calls:
            self._calls[source, entry_id] = None
            if len(self._calls) > CALLS_KEPT:
                del self._calls[next(iter(self._calls))]
            self._controlled.cancel(source, entry_id)

    async def run(self) -> None:
        """Listens for as long as the consumer lives."""
        while True:
            try:
                async with self._client.pubsub(ignore_subscribe_messages=True) as channel:
                    await channel.subscribe(self._keys.control(self._group))
                    await self._listen(channel)
            except LOST as error:
                await self._reconnect.failed(error)
            except RedisError as error:
                log.error("control.refused", group=self._group, error=str(error)[:300])
                await asyncio.sleep(_LOOK)

    async def _listen(self, channel: Any) -> None:
        await self.look()
        asked = False
        while True:
            message = await channel.get_message(timeout=_ANSWER if asked else _LOOK)
            if message is None:
                if asked:
                    raise ConnectionError("the channel does not answer: it was forgotten by what stands between")
                asked = True
                await channel.ping()
                await self.look()
                continue
            asked = False
            await self.handle(message["data"])

    async def handle(self, words: bytes) -> None:
        """Looks at what a word on the channel is about, and does what is written there. The word alone is not believed:
        a channel is the same for all databases of a server, so it may be about the group of this name in another one.
        """
        word, _, rest = words.partition(b" ")
        if word == b"cancel":
            if await self._client.zscore(self._keys.cancelled(self._group), rest) is not None:
                source, _, entry_id = rest.partition(b" ")
                self._cancel(text(source), entry_id)
        elif word in (b"pause", b"resume"):
            self._controlled.pause_asked(bool(await self._client.sismember(self._keys.paused(), self._group)))
        elif word == b"report":
            await self._reporter.answer(rest)

    async def begin(self) -> None:
        """Reads what has been asked before this consumer reads its first message, waiting for Redis if it is away."""
        while True:
            try:
                await self.look()
            except LOST as error:
                await self._reconnect.failed(error)
            else:
                return

    async def look(self) -> None:
        """Reads what has been asked so far. A key that is damaged says nothing, and keeps no consumer from starting."""
        paused = await self._read(self._client.sismember, self._keys.paused(), self._group)
        self._controlled.pause_asked(bool(paused))
        for call in await self._read(self._client.zrange, self._keys.cancelled(self._group), 0, -1) or ():
            source, _, entry_id = call.partition(b" ")
            self._cancel(text(source), entry_id)
        self._reconnect.succeeded(by_reading=True)

    async def _read(self, command: Callable[..., Awaitable[Any]], key: str, *arguments: Any) -> Any:
        try:
            return await command(key, *arguments)
        except ResponseError as error:
            log.error("control.refused", group=self._group, key=self._keys.short(key), error=str(error)[:300])
            return None
