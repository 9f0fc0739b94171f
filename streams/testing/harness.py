"""Harness: the engine in a unit test: no server, no waiting, and the same semantics.

It is a `Streams` whose Redis is in this process and whose clock stands still until the test moves it. Everything else
is the engine's own: its consumers without their loops, its handlers' executor, its Lua scripts.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final, Self, TypeVar

from pydantic import SecretStr

from streams import clock
from streams.client.client import Streams
from streams.errors import NotFound, StreamsError
from streams.events.event import Event
from streams.handlers.callables import shown
from streams.handlers.processor import Processor
from streams.messages.claims import ClaimStore
from streams.messages.event_ids import new_id
from streams.messages.message import Message
from streams.messages.middleware import Middleware
from streams.redis.keys import NEVER_MS
from streams.settings import Settings
from streams.settling import scripts
from streams.testing.clock import VirtualClock
from streams.testing.consumer import HarnessConsumer
from streams.testing.crash import Dying
from streams.testing.dead_letters import MemoryLetters
from streams.testing.overrides import Factory, Overrides
from streams.testing.server import MemoryConnections, MemoryServer, timed

_E = TypeVar("_E", bound=Event)

_MOST: Final = 10_000  # deliveries in one run: a handler that publishes its own event again would never be quiet


class _Defaults(Settings):
    """The engine's defaults, whatever the environment of the tests says."""

    @classmethod
    def settings_customise_sources(cls, settings_cls: Any, init_settings: Any, **_: Any) -> tuple[Any, ...]:  # type: ignore[override]  # pydantic passes these by name
        del settings_cls
        return (init_settings,)


class Harness(Streams):
    """`async with Harness(email, report) as streams:` with one or more processors.

    `overrides` gives dependencies other factories, `{open_mailer: lambda: fake}`. `start` is what the clock shows first
    (an aware datetime; now unless given). `seed` makes ids and the jitter of back-off repeatable. `settings` are the
    engine's, its defaults unless given: the environment is not read. There is always one partition. Raises
    `StreamsError` for what cannot be; docs/start/testing.md says what is not virtual.
    """

    def __init__(
        self,
        *processors: Processor,
        overrides: Mapping[Factory, Factory] | None = None,
        start: datetime | None = None,
        seed: int = 0,
        settings: Settings | None = None,
        middleware: Sequence[Middleware] = (),
        claims: ClaimStore | None = None,
    ) -> None:
        if start is not None and start.tzinfo is None:
            raise StreamsError(f"start={start.isoformat()} has no time zone; use an aware datetime")
        given = settings or _Defaults()
        self._clock = VirtualClock(start or datetime.now(UTC), self._let_pass)
        self._server = MemoryServer(self._clock)
        nowhere = SecretStr("redis://harness.invalid")
        super().__init__(
            settings=given.model_copy(update={"redis_url": nowhere, "partitions": 1}),
            middleware=middleware,
            claims=claims,
        )
        self._checked = True  # there is no server to refuse
        self._rng = Random(seed)
        self._middleware = tuple(middleware)
        self._overriding = Overrides(overrides or {})
        self._processors = list(processors)
        self._members: dict[str, HarnessConsumer] = {}
        self._dying: defaultdict[str, Dying] = defaultdict(Dying)
        self._open = ExitStack()
        self._is_open = self._running = False

    def _connect(self, settings: Settings) -> MemoryConnections:
        return MemoryConnections(settings, self._server)

    async def __aenter__(self) -> Self:
        self._open.enter_context(clock.replaced(self._clock))
        self._open.enter_context(timed(self._clock))
        self._open.callback(self._overriding.restore)
        self._is_open = True
        try:
            for processor in self._processors:
                await self.join(processor)
            self._overriding.check()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def aclose(self) -> None:
        """Ends it: its processors die, and what they share is closed."""
        await self.leave()
        self._is_open = False
        await super().aclose()
        self._open.close()

    async def join(self, processor: Processor) -> None:
        """Starts one more processor: what was published before it was there is delivered to it as well."""
        if not isinstance(processor, Processor):
            raise StreamsError(f"a Harness takes processors, not {shown(processor)}")
        if processor.name in self._members:
            raise StreamsError(f"{processor.name} is here already")
        self._overriding.reach(processor)
        self._members[processor.name] = await self._incarnate(processor)

    async def leave(self) -> None:
        """Ends the processors; what they have not handled stays for those that join later."""
        for member in self._members.values():
            await member.die()
        self._members.clear()

    async def _incarnate(self, processor: Processor) -> HarnessConsumer:
        layers = (*self._middleware, self._dying[processor.name])
        member = HarnessConsumer(
            processor, self, self._server, rng=self._rng, middleware=layers, overrides=self._overriding
        )
        await member.open()
        return member

    def now(self) -> datetime:
        """What the clock shows, in UTC."""
        return self._clock.now()

    def new_id(self) -> str:
        """An id of this clock and this seed."""
        return new_id(self._clock.ms, self._rng)

    async def add_entry(self, stream: str, fields: Mapping[str, Any]) -> str:
        """Adds an entry as a publisher in another language would, by XADD; returns its id."""
        flat = [part for pair in fields.items() for part in pair]
        entry_id: bytes = self._server.command("XADD", self.keys.stream(stream), "*", *flat)
        return entry_id.decode()

    async def run(self) -> int:
        """Handles all that is due now until nothing is left; returns how many deliveries that took.

        Retries, delayed events, slots of schedules and incomplete batches wait for `advance`. Raises `StreamsError`
        when it is not quiet after 10,000 deliveries, and when it is called by a handler or twice at once.
        """
        async with self._one_at_a_time():
            return await self._run()

    async def advance(
        self, duration: timedelta | None = None, *, days: float = 0, hours: float = 0, minutes: float = 0,
        seconds: float = 0,
    ) -> int:  # fmt: skip
        """Moves the clock on, stopping wherever something is due, and handles what is; returns how many deliveries.

        Raises as `run`, and for a duration below 0.
        """
        ahead = (duration or timedelta()) + timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        if ahead < timedelta():
            raise StreamsError(f"the clock cannot go back by {-ahead}")
        until = self._clock.ms + round(ahead.total_seconds() * 1000)
        async with self._one_at_a_time():
            count = await self._run()
            while (following := self._next()) is not None and following <= until:
                self._clock.ms = following
                count += await self._run()
            self._clock.ms = until
            return count + await self._run()

    def _next(self) -> int | None:
        """When the next thing happens by itself, in ms since 1970."""
        head = self._server.command("ZRANGE", self.keys.due(), 0, 0, "WITHSCORES")
        due = int(head[1]) if head and int(head[1]) < NEVER_MS else None
        moments = [due, self._clock.next_timer(), *(member.next_due for member in self._members.values())]
        # What has come and is still there waits for something else: a slot of a schedule that is paused.
        return min((moment for moment in moments if moment is not None and moment > self._clock.ms), default=None)

    async def _run(self) -> int:
        call, keys = self.partitions[0].connections.direct(timeout=0).call, self.keys
        count = 0
        while True:
            before = self._server.added
            self._clock.fire()
            await scripts.release_due(call, keys, most=500)
            for member in self._members.values():
                await member.look()
            taken = sum([await member.take() for member in self._members.values()])
            for member in self._members.values():
                await member.quiet()
            taken += await self._bring_back()
            count += taken
            if count > _MOST:
                raise StreamsError(f"not quiet after {_MOST:,} deliveries: does a handler publish its own event again?")
            if not taken and self._server.added == before:
                return count

    def crash(self, group: str, times: int = 1, *, after: bool = False) -> None:
        """Lets the process of a group die in its next `times` deliveries, before their handler begins (with `after`:
        when it has ended and nothing is settled). What it had in hand is delivered again, and counted. In the middle
        of a handler, or of what it depends on, `raise Crash` does the same. Raises `NotFound` and `StreamsError`.
        """
        if times < 1:
            raise StreamsError(f"times={times} must be at least 1")
        self._member(group)
        self._dying[group].left, self._dying[group].after = times, after

    async def kill(self, group: str) -> None:
        """Lets the process of a group die where it is: what its handlers are doing is cut off, nothing of it is
        settled, and the next process, which is there at once, is given it. Raises `NotFound`.
        """
        self._member(group).dead = True
        if not self._running:  # else `run` does it
            await self._bring_back()

    def _member(self, group: str) -> HarnessConsumer:
        if group not in self._members:
            raise NotFound(f"no group {group} in {self.settings.app}; the harness was not given that processor")
        return self._members[group]

    async def _bring_back(self) -> int:
        """Replaces the processes that have died; returns how many deliveries the next ones were given."""
        taken = 0
        for group, member in list(self._members.items()):
            if member.dead:
                await member.die()
                born = self._members[group] = await self._incarnate(member.processor)
                await member.retire()
                taken += born.taken
        return taken

    def published(self, event: type[_E]) -> list[_E]:
        """The events of a type in their stream, from any publisher, in order; delayed ones when they are due."""
        messages = [Message.decode(*entry) for entry in self._server.published]
        return [event.decode(message.data, message.version) for message in messages if message.type == event.type]

    def dead_letters(self, group: str) -> MemoryLetters:
        """The dead letters of one group; it has a length and positions as well, for asserts."""
        return MemoryLetters(self, group, self._server)

    @asynccontextmanager
    async def _one_at_a_time(self) -> AsyncIterator[None]:
        if not self._is_open:
            raise StreamsError("a Harness is used as a context manager: `async with Harness(...) as streams:`")
        if self._running:
            raise StreamsError("run() and advance() wait for the handlers: call them from the test, one at a time")
        self._running = True
        try:
            yield
        finally:
            self._running = False

    async def _let_pass(self, seconds: float) -> None:
        """The engine waits: for what a handler or a schedule does, time stands still; for the test it passes."""
        if self._running:
            await asyncio.sleep(0)
        else:
            await self.advance(seconds=max(0.0, seconds))
