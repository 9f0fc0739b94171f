"""Streams: what a service holds to publish events, to ask about them and to look after them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from pydantic import SecretStr

from streams.app import App
from streams.durations import Duration
from streams.events.event import Event, Priority
from streams.handlers.dependencies import Current, current_app
from streams.messages.claims import ClaimStore
from streams.messages.message import Message
from streams.messages.middleware import Middleware
from streams.messages.publishable import checked_events
from streams.publishing.delay import expiry, moment
from streams.publishing.envelope import Envelope
from streams.publishing.router import Router
from streams.receipt import Receipt
from streams.settings import Settings

if TYPE_CHECKING:
    from streams.admin.cancel import Cancellation
    from streams.admin.replay import Replays
    from streams.admin.replay_job import Replay
    from streams.admin.retire import Retired
    from streams.admin.trim import Trimmed
    from streams.dead_letters.dead_letters import DeadLetters
    from streams.inspecting.event_status import EventStatus
    from streams.inspecting.follow import Update
    from streams.inspecting.reconciliation import Accounts
    from streams.inspecting.snapshot import Snapshot
    from streams.inspecting.states import Reason
    from streams.scheduling.admin import Schedules


class Streams(App):
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
        settings = settings or Settings.load()
        if url is not None:
            settings = settings.model_copy(update={"redis_url": SecretStr(url)})
        super().__init__(settings, claims)
        self._envelope = Envelope(self)
        self._router = Router(self.partitions, middleware)

    async def aclose(self) -> None:
        """Waits for publishes on their way and closes every connection; in the event loop in which it was used, or when
        that one is closed.
        """
        if not self.connections.is_over:
            self.connections.enter()
        await self._router.aclose()
        await super().aclose()

    async def publish(
        self,
        event: Event,
        *,
        delay: Duration | None = None,
        at: datetime | None = None,
        once: str = "",
        key: str = "",
        priority: Priority | None = None,
        expires: timedelta | datetime | None = None,
        replicated: bool | None = None,
    ) -> Receipt:
        """Appends one event to its stream and returns when it is in Redis.

        `delay` (seconds or timedelta) or `at` (an aware datetime) hold it back, never released early. `once` is a name
        of the business (`order-7:paid`, at most 1,000 bytes) under which only one event is published in 24 hours: the
        receipt of a later one is the first one's. `key` is the ordering key, at most 200 bytes; empty for none.
        `priority` is the event's own if it is not given. After `expires` (an aware datetime, or a timedelta from now)
        no handler is begun for it. Repeated by itself until `STREAMS_PUBLISH_TIMEOUT`, never added twice. `replicated`
        (or `STREAMS_REPLICATED`): returns when `STREAMS_REPLICAS` replicas have it as well.

        Raises `Unpublishable` (no event, a wrong argument, or a value that would not be read as it is), `TooLarge`,
        `Refused`, `Unreachable` (nothing happened), `PublishUncertain` (it may have), `NotReplicated` (it is in Redis,
        and no replica has confirmed it), or `StreamsError` itself when Redis is full, and in another event loop than
        that of the first use.
        """
        when = moment(delay, at)
        message = self._envelope.wrap(
            event, when=when, key=key, priority=priority, once=once, expires=expiry(expires, when)
        )
        message.replicated = self.settings.replicated if replicated is None else replicated
        if not self._checked:
            await self._make_sure()
        await self._publish((message,))
        return Receipt(message.id, type(event).stream, self.partition_of(message.target))

    async def publish_many(
        self,
        events: Iterable[Event],
        *,
        key: str = "",
        priority: Priority | None = None,
        replicated: bool | None = None,
    ) -> list[Receipt]:
        """Appends many events in order, 500 to a round trip; the receipts are in the same order.

        Each round trip, to one partition, is all or nothing; an error has the receipts of those before it in
        `published`. Of a list or a tuple all are looked at first, so one that cannot be published leaves out all; an
        iterator is published as it goes.
        """
        made = self._wrapped(checked_events(events), key, priority)
        messages = list(made) if isinstance(events, list | tuple) else made
        if not self._checked:
            await self._make_sure()
        wait = self.settings.replicated if replicated is None else replicated
        return await self._router.add_many(messages, self._publish, replicated=wait)

    def _wrapped(self, events: Iterable[Event], key: str, priority: Priority | None) -> Iterator[tuple[str, Message]]:
        for event in events:
            message = self._envelope.wrap(event, key=key, priority=priority)
            yield type(event).stream, message

    async def append(self, messages: Sequence[Message]) -> None:
        """Adds messages that were made elsewhere (a relay's) in order, all of them or none, as `publish` does.

        Each has its `target`; one whose `once` is taken is left out.
        """
        if not self._checked:
            await self._make_sure()
        await self._publish(messages)

    def message(self, event: Event, **options: Any) -> Message:
        """Wraps an event for its stream without publishing it: see `Envelope.wrap`."""
        return self._envelope.wrap(event, **options)

    def address(self, message: Message, stream: str, *, priority: Priority = "normal", once: str = "") -> None:
        """Gives a message that was made elsewhere its `target`, and the key of its `once`."""
        self._envelope.address(message, stream, priority=priority, once=once)

    async def _publish(self, messages: Sequence[Message]) -> None:
        if self.claims is not None:
            await self.claims.check_in(messages, self.settings.max_bytes)
        await self._router.add(messages)

    def dead_letters(self, group: str) -> DeadLetters:
        """The dead letters of one group."""
        from streams.dead_letters.dead_letters import DeadLetters

        return DeadLetters(self, group)

    async def trim(
        self, *streams: str, keep: int | None = None, older_than: timedelta | None = None, dry_run: bool = False
    ) -> list[Trimmed]:
        """Removes what every group has finished, beyond `keep` or older than `older_than`: see `admin.trim`."""
        from streams.admin.trim import trim

        return await trim(self, streams, keep=keep, older_than=older_than, dry_run=dry_run)

    async def release(self, messages: Sequence[Message]) -> int:
        """Removes from the claim store what removed messages had there: see `admin.claim_cleanup.release`."""
        from streams.admin.claim_cleanup import release

        return await release(self, messages)

    async def retire(self, group: str, *, apply: bool = False) -> Retired:
        """Removes a group that no process runs any more, or reports what that would drop: see `admin.retire`."""
        from streams.admin.retire import retire

        return await retire(self, group, apply=apply)

    @property
    def replays(self) -> Replays:
        """Replays from history to one group."""
        from streams.admin.replay import Replays

        return Replays(self)

    async def replay(self, stream: str, *, group: str, rate: float | None = None, **which: Any) -> Replay:
        """Delivers a stream's history again to one group; `which` as for `Replays.plan`; `rate`: limit per second."""
        return await self.replays.begin(await self.replays.plan(stream, group=group, **which), rate=rate)

    async def accounts(self) -> Accounts:
        """What was published, compared with its outcomes: see `Accounts`."""
        from streams.inspecting.reconciliation import Accounts

        return await Accounts.take(self)

    async def snapshot(self) -> Snapshot:
        """How it stands now: see `take_snapshot`."""
        from streams.inspecting.snapshot_reader import take_snapshot

        return await take_snapshot(self)

    async def cancel(self, id: str) -> Cancellation:
        """Cancels one event in every group that has not finished it: see `Cancellation`."""
        from streams.admin.cancel import cancel

        return await cancel(self, id)

    async def pause(self, group: str) -> bool:
        """Stops a group's consumers from beginning anything; what runs is finished. False if it was paused already.

        Raises `NotFound` for a group that no consumer has ever made.
        """
        from streams.admin.pause import pause

        return await pause(self, group, on=True)

    async def resume(self, group: str) -> bool:
        """Lets a paused group go on. False if it was not paused."""
        from streams.admin.pause import pause

        return await pause(self, group, on=False)

    @property
    def schedules(self) -> Schedules:
        """The schedules that processors have: list, pause, resume, run."""
        from streams.scheduling.admin import Schedules

        return Schedules(self)

    def progress(self, id: str, *, group: str = "") -> AsyncGenerator[Update, None]:
        """The steps of one event until every group (or the one) has finished it: see `follow`."""
        from streams.inspecting.follow import follow

        return follow(self, id, group=group)

    async def event(self, id: str) -> EventStatus:
        """Where one event is: see `EventStatus.find`."""
        from streams.inspecting.event_status import EventStatus

        return await EventStatus.find(self, id, follow_ups=True)

    async def why(self, id: str) -> tuple[Reason, ...]:
        """Why one event is not done, group by group, with the remedy: see `inspecting.diagnosis`."""
        from streams.inspecting.diagnosis import why

        return await why(self, id)


def CurrentStreams() -> Streams:
    """The client of the running consumer: publish further events, or keep own keys with a TTL in its Redis.

    What is published through it is not part of the ack; return events from the handler for that.
    """
    return cast("Streams", Current(current_app))
