"""Streams: what a service holds to publish events and to ask about them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

from schemas.event import Event
from streams import boot
from streams.claims import ClaimStore
from streams.connection import Connections
from streams.dependencies import current_delivery
from streams.errors import NotFound, StreamsError, TooLarge
from streams.keys import Keys, Priority
from streams.message import Message
from streams.middleware import Middleware
from streams.outcome import Duration, seconds
from streams.publisher import Publisher
from streams.settings import Settings

if TYPE_CHECKING:
    import redis.asyncio

    from streams.accounting import Accounts
    from streams.cancellation import Cancellation
    from streams.dead_letters import DeadLetters
    from streams.replay import Replay
    from streams.replays import Replays
    from streams.retention import Retired, Trimmed
    from streams.schedules import Schedules
    from streams.snapshot import Snapshot
    from streams.trail import Trail

_MANY = 500


@dataclass(frozen=True, slots=True)
class Receipt:
    """Says that an event is in Redis: its id, the stream it went to and the partition."""

    id: str
    stream: str
    partition: int = 0


class Streams:
    """The client: `async with Streams() as streams: await streams.publish(event)`.

    Where Redis is comes from the environment (`REDIS_URL`, ...; see `Settings`). Opening it connects to nothing; the
    first publish connects and checks that the server is safe for events.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        settings: Settings | None = None,
        middleware: Sequence[Middleware] = (),
        claims: ClaimStore | None = None,
    ) -> None:
        settings = settings or Settings()
        if url is not None:
            settings = settings.model_copy(update={"redis_url": type(settings)(redis_url=url).redis_url})
        self.settings = settings
        self.keys = Keys(settings.app)
        self.connections = Connections(settings)
        if claims is None and settings.storage_url is not None:
            claims = ClaimStore(settings.storage_url.get_secret_value())
        self.claims = claims  # where data over the size cap goes; None: it is refused
        self._publisher = Publisher(self.connections, self.keys, middleware)
        self._publish = self._publisher.publish if claims is None else self._check_in_and_publish
        self._targets: dict[tuple[str, Priority], str] = {}
        self._source = settings.source or f"/{settings.app}"
        self._checked = False
        self._checking = asyncio.Lock()

    @property
    def redis(self) -> redis.asyncio.Redis:
        """The shared client (bytes in, bytes out), for a processor's own keys (`keys.own`), never for the engine's."""
        return self.connections.client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Waits for publishes on their way and closes every connection."""
        await self._publisher.aclose()
        await self.connections.aclose()

    async def check(self) -> None:
        """Raises `Refused` when the server is not safe for events, `Unreachable` when it does not answer."""
        async with self._checking:
            if not self._checked:
                await boot.check(self.connections.client, self.settings, self.connections.place)
                self._checked = True

    async def publish(
        self,
        event: Event,
        *,
        delay: Duration | None = None,
        at: datetime | None = None,
        once: str = "",
        key: str = "",
        priority: Priority = "normal",
    ) -> Receipt:
        """Appends one event to its stream and returns when it is in Redis.

        `delay` (seconds or timedelta) or `at` (an aware datetime) hold it back, never released early. `once` is a name
        of the business (`order-7:paid`) under which only one event is published in 24 hours: the receipt of a later
        one is the first one's. `key` is the ordering key, at most 200 bytes. Repeated by itself until
        `STREAMS_PUBLISH_TIMEOUT`, never added twice.
        Raises `TooLarge`, `Refused`, `Unreachable` (nothing happened) or `PublishUncertain` (it may have).
        """
        message = self.message(event, when=_when(delay, at), key=key, priority=priority)
        message.once = self.keys.once(once) if once else ""
        if not self._checked:
            await self.check()
        await self._publish((message,))
        return Receipt(message.id, event.stream, self.keys.partition)

    async def publish_many(
        self, events: Iterable[Event], *, key: str = "", priority: Priority = "normal"
    ) -> list[Receipt]:
        """Appends many events in order, 500 to a round trip; the receipts are in the same order.

        Each round trip is all or nothing; an error says which events are in: those before it.
        """
        if not self._checked:
            await self.check()
        receipts: list[Receipt] = []
        batch: list[Message] = []
        for event in events:
            batch.append(self.message(event, key=key, priority=priority))
            receipts.append(Receipt(batch[-1].id, event.stream, self.keys.partition))
            if len(batch) == _MANY:
                await self._publish(batch)
                batch = []
        if batch:
            await self._publish(batch)
        return receipts

    async def append(self, messages: Sequence[Message]) -> None:
        """Adds messages that were made elsewhere (a relay's) in order, all of them or none, as `publish` does.

        Each has its `target`; one whose `once` is taken is left out.
        """
        if not self._checked:
            await self.check()
        await self._publish(messages)

    async def _check_in_and_publish(self, messages: Sequence[Message]) -> None:
        assert self.claims is not None
        await self.claims.check_in(messages, self.settings.max_bytes)
        await self._publisher.publish(messages)

    def dead_letters(self, group: str) -> DeadLetters:
        """What one group gave up."""
        from streams.dead_letters import DeadLetters

        return DeadLetters(self, group)

    async def trim(
        self,
        *streams: str,
        keep: int | None = None,
        older_than: timedelta | None = None,
        dry_run: bool = False,
    ) -> list[Trimmed]:
        """Removes what every group is through with, beyond `keep` or older than `older_than`: see `retention.trim`."""
        from streams.retention import trim

        return await trim(self, streams, keep=keep, older_than=older_than, dry_run=dry_run)

    async def retire(self, group: str, *, apply: bool = False) -> Retired:
        """Gives up a group that nobody runs any more, or says what that would give up: see `retention.retire`."""
        from streams.retention import retire

        return await retire(self, group, apply=apply)

    @property
    def replays(self) -> Replays:
        """Replays from history to one group."""
        from streams.replays import Replays

        return Replays(self)

    async def replay(self, stream: str, *, group: str, rate: float | None = None, **which: Any) -> Replay:
        """Delivers a stream's history again to one group; `which` as for `Replays.plan`, `rate`: a most per second."""
        return await self.replays.begin(await self.replays.plan(stream, group=group, **which), rate=rate)

    async def accounts(self) -> Accounts:
        """What was published against what became of it: see `Accounts`."""
        from streams.accounting import Accounts

        return await Accounts.take(self)

    async def snapshot(self) -> Snapshot:
        """How it stands now: see `Snapshot.take`."""
        from streams.snapshot import Snapshot

        return await Snapshot.take(self)

    async def cancel(self, id: str) -> Cancellation:
        """Calls off one event in every group that has not finished it: see `Cancellation`."""
        from streams.cancellation import cancel

        return await cancel(self, id)

    async def pause(self, group: str) -> bool:
        """Stops a group's consumers from beginning anything; what runs is finished. False if it was paused already.

        Raises `NotFound` for a group that no consumer has ever made.
        """
        return await self._pause(group, on=True)

    async def resume(self, group: str) -> bool:
        """Lets a paused group go on. False if it was not paused."""
        return await self._pause(group, on=False)

    async def _pause(self, group: str, *, on: bool) -> bool:
        from streams import scripts
        from streams.entries import refusing

        control = self.keys.control(group)
        with refusing(self.connections):
            if not await self.redis.hexists(self.keys.groups(), group):
                raise NotFound(f"no group {group} in {self.settings.app}; streams status lists them")
            return await scripts.pause(
                self.redis.execute_command, paused=self.keys.paused(), group=group, channel=control, on=on
            )

    @property
    def schedules(self) -> Schedules:
        """The schedules that processors have: list, pause, resume, run."""
        from streams.schedules import Schedules

        return Schedules(self)

    async def event(self, id: str) -> Trail:
        """Where one event is: see `Trail.find`."""
        from streams.trail import Trail

        return await Trail.find(self, id)

    def message(
        self,
        event: Event,
        *,
        when: str = "",
        key: str = "",
        priority: Priority = "normal",
        cause: Message | None = None,
        id: str = "",
    ) -> Message:
        """Wraps an event for its stream; inside a handler it names the handled event as its cause."""
        if cause is None:
            delivery = current_delivery.get(None)
            cause = delivery.message if delivery is not None else None
        if len(key.encode()) > 200:
            raise StreamsError("the ordering key is longer than 200 bytes; use an id or a hash")
        target = self._targets.get((event.stream, priority))
        if target is None:
            target = self._targets[event.stream, priority] = self.keys.stream(event.stream, priority)
        message = Message.for_event(event, source=self._source, target=target, when=when, key=key, cause=cause, id=id)
        most = self.settings.max_bytes if self.claims is None else self.claims.most
        if len(message.data) > most:
            raise TooLarge(
                f"{event.type}: {len(message.data)} bytes are over the cap of {most}; set STORAGE_URL, or store "
                "the large part elsewhere and publish a reference (or raise STREAMS_MAX_BYTES here and at consumers)"
            )
        return message


def _when(delay: Duration | None, at: datetime | None) -> str:
    if delay is not None and at is not None:
        raise StreamsError("give delay= or at=, not both")
    if delay is not None:
        try:
            return f"+{round(seconds(delay) * 1000)}"
        except ValueError as error:
            raise StreamsError(str(error)) from error
    if at is None:
        return ""
    if at.tzinfo is None:
        raise StreamsError(f"at={at.isoformat()} has no time zone; use an aware datetime")
    milliseconds = round(at.timestamp() * 1000)
    if milliseconds < time.time() * 1000 - 1000:
        raise StreamsError(f"at={at.isoformat()} is in the past")
    return f"@{milliseconds}"
