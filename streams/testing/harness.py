"""Harness: the engine in a unit test: no server, no waiting, and the same semantics.

It is a `Streams` whose Redis is a store in this process and whose clock stands still until the test moves it. Handlers
run in the engine's own executor with its retries, breaker, lanes, batches and settlement; only what Lua does on Redis
is done here by Python, and one conformance suite holds for both (tests/conformance).
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final, Self, TypeVar, overload

from schemas.event import Event, registered
from streams import clock, scripts
from streams.claims import ClaimStore
from streams.client import Streams
from streams.errors import NotFound, StreamsError
from streams.keys import NEVER_MS
from streams.message import TIME, Message, new_id
from streams.middleware import Middleware
from streams.outcome import Duration
from streams.outcome import seconds as _seconds
from streams.processor import Processor
from streams.settings import Settings
from streams.testing.crash import Dying
from streams.testing.delivering import due_of
from streams.testing.member import Member
from streams.testing.memory import Memory, MemoryConnections
from streams.testing.overriding import Factory, overriding
from streams.testing.virtual_time import VirtualTime

E = TypeVar("E", bound=Event)

_MOST: Final = 100_000


class _Defaults(Settings):
    """The engine's defaults, whatever the environment of the tests says."""

    @classmethod
    def settings_customise_sources(cls, settings_cls: Any, init_settings: Any, **_: Any) -> tuple[Any, ...]:  # type: ignore[override]
        del settings_cls
        return (init_settings,)


class Harness(Streams):
    """Processors under test, and the client that publishes to them.

    `overrides` gives dependencies other factories, `{open_mailer: lambda: fake}`; further options are settings by name
    (`attempts=5`), the engine's defaults otherwise: the environment is not read. The clock begins at `start`, an aware
    datetime, or now. Ids, jitter and order are the same again under the same `seed` and `start`. Raises `StreamsError`
    for what is not modelled.
    """

    def __init__(
        self,
        *processors: Processor,
        overrides: Mapping[Factory, Factory] | None = None,
        middleware: Sequence[Middleware] = (),
        claims: ClaimStore | None = None,
        start: datetime | None = None,
        seed: int = 0,
        **settings: Any,
    ) -> None:
        if start is not None and start.tzinfo is None:
            raise StreamsError(f"start={start.isoformat()} has no time zone; use an aware datetime")
        given = _Defaults(**settings)
        if given.partitions != 1:
            raise StreamsError("the harness has one partition; test more of them with a real Redis")
        self._time = VirtualTime(start or datetime.now(UTC), self._let_pass)
        self._random = Random(seed)
        self.memory = Memory(lambda: self._time.ms)
        super().__init__(settings=given, middleware=middleware, claims=claims)
        self._checked = True
        self._middleware = tuple(middleware)
        self._overrides = dict(overrides or {})
        self._processors = list(processors)
        self._members: list[Member] = []
        self._incarnations = 0
        self._dying: defaultdict[str, Dying] = defaultdict(Dying)
        self._running = False
        self._stack = AsyncExitStack()

    def _connect(self) -> MemoryConnections:
        return MemoryConnections(self.settings, self.memory)

    async def __aenter__(self) -> Self:
        self._use_clock()
        functions = [
            function
            for processor in self._processors
            for function in (
                *(subscription.handler for subscription in processor.subscriptions.values()),
                *(schedule.function for schedule in processor.schedules.values()),
            )
        ]
        self._stack.enter_context(overriding(functions, self._overrides))
        try:
            for processor in self._processors:
                self._members.append(await self._incarnate(processor))
        except BaseException:
            await self.aclose()
            raise
        return self

    async def aclose(self) -> None:
        """Ends the processors at once, and takes the overrides back."""
        await self.leave()
        await self._stack.aclose()
        await super().aclose()
        clock.reset()

    async def join(self, processor: Processor) -> None:
        """Starts one more processor: what was published before it was there is delivered to it as well."""
        if any(member.group == processor.name for member in self._members):
            raise StreamsError(f"{processor.name} is here already")
        self._use_clock()
        self._members.append(await self._incarnate(processor))

    async def leave(self) -> None:
        """Ends the processors; what they have not handled stays for those that join later."""
        for member in self._members:
            await member.aclose()
        self._members.clear()

    async def _incarnate(self, processor: Processor) -> Member:
        self._incarnations += 1
        member = Member(
            processor,
            self,
            name=f"harness-{self._incarnations}",
            random=self._random.random,
            middleware=(*self._middleware, self._dying[processor.name]),
        )
        await member.open()
        return member

    def _use_clock(self) -> None:
        clock.install(self._time)

    @property
    def now(self) -> datetime:
        """What the clock says, UTC."""
        return self._time.now()

    def message(self, event: Event, *, id: str = "", **options: Any) -> Message:
        """Wraps an event for its stream, by this clock and this seed; else as `Streams.message`."""
        made = super().message(event, id=id or new_id(self._time.ms, self._random), **options)
        made.values[TIME] = self._time.now().isoformat().encode()
        return made

    async def run(self) -> None:
        """Handles everything that is due by now and everything that this leads to, until nothing is left to do now.

        Retries, delayed events, slots of schedules and incomplete batches wait for `advance`. Raises `StreamsError`
        when it does not end (100,000 deliveries), or when it is called inside a handler or twice at once.
        """
        async with self._one_at_a_time():
            await self._run()

    async def advance(
        self, by: Duration = 0, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0
    ) -> None:
        """Moves the clock forward (`by` is seconds or a timedelta) and handles what comes due on the way, in its order
        and at its time. Raises as `run`.
        """
        more = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        async with self._one_at_a_time():
            await self._advance_to(self._time.ms + round((_seconds(by) + _seconds(more)) * 1000))

    async def advance_to(self, at: datetime) -> None:
        """The same up to an aware datetime. Raises `StreamsError` for one in the past."""
        if at.tzinfo is None or at < self.now:
            raise StreamsError(f"at={at.isoformat()} must be an aware datetime that is not before {self.now}")
        async with self._one_at_a_time():
            await self._advance_to(round(at.timestamp() * 1000))

    async def _advance_to(self, target: int) -> None:
        await self._run()
        while (at := self._next()) is not None and at <= target:
            self._time.move_to(max(at, self._time.ms + 1))
            await self._run()
        self._time.move_to(target)
        await self._run()

    def _next(self) -> int | None:
        """When the next thing happens by itself, in ms since 1970."""
        due = due_of(self.memory.store, self.keys.due())
        slots = [at for member in self._members if (at := member.next_due) is not None and at > self._time.ms]
        times = [at for at in (due, self._time.next_timer(), *slots) if at is not None and at < NEVER_MS]
        return min(times, default=None)

    async def _run(self) -> None:
        keys, store = self.keys, self.memory.store
        call = self.partitions[0].connections.direct(timeout=0).call
        began = sum(member.taken for member in self._members)
        while True:
            before = store.moves
            await scripts.release_due(
                call, due=keys.due(), waiting=keys.waiting(), groups=keys.groups(), books=keys.books(), most=500
            )
            for member in self._members:
                member.beat()
                await member.fire()
                await member.serve()
            taken = sum([await member.take() for member in self._members])
            for member in self._members:
                await member.quiet()
            crashed = await self._bring_back()
            if sum(member.taken for member in self._members) - began > _MOST:
                raise StreamsError(f"still not quiet after {_MOST:,} deliveries; do two events cause each other?")
            if not taken and not crashed and store.moves == before:
                return

    async def crash(self, group: str = "") -> None:
        """Lets the process of a group (of all, without one) die where it is: what its handlers are doing is cut off,
        nothing of it is settled, and the next consumer, which is there at once, is given it with one delivery more.

        A handler can do it to itself: `raise Crash`. Raises `NotFound` for a group that is not here.
        """
        self._use_clock()
        hit = [member for member in self._members if group in ("", member.group)]
        if not hit:
            raise NotFound(f"no processor {group} in this harness")
        for member in hit:
            member.crashed = True
        if not self._running:  # else whoever runs sees to it
            await self._bring_back()

    def crash_next(self, group: str, times: int = 1, *, after: bool = False) -> None:
        """Lets the process of a group die in its next `times` deliveries: before the handler begins, or, with `after`,
        when it has ended and nothing of it is settled yet, so that what it did happens again.

        Raises `NotFound` for a group that is not here, `StreamsError` for less than one time.
        """
        if not any(member.group == group for member in self._members):
            raise NotFound(f"no processor {group} in this harness")
        if times < 1:
            raise StreamsError(f"times={times} must be at least 1")
        self._dying[group].left, self._dying[group].after = times, after

    async def _bring_back(self) -> int:
        crashed = [number for number, member in enumerate(self._members) if member.crashed]
        for number in crashed:
            await self._members[number].aclose()
            before = self._members[number]
            self._members[number] = await self._incarnate(before.processor)
            self._members[number].taken += before.taken
        return len(crashed)

    @overload
    def published(self) -> list[Event]: ...

    @overload
    def published(self, event: type[E]) -> list[E]: ...

    def published(self, event: type[Event] | None = None) -> list[Any]:
        """The events that were published so far, of one type or of all, in their order: by the test, by handlers and by
        schedules; also those that are delayed, or were called off since.
        """
        found = []
        for fields in self.memory.store.published:
            message = Message.decode(b"0-0", fields)
            known = registered(message.type)
            if known is not None and event in (None, known):
                found.append(known.decode(message.data, message.version))
        return found

    @asynccontextmanager
    async def _one_at_a_time(self) -> AsyncIterator[None]:
        if self._running:
            raise StreamsError("run() and advance() wait for the handlers: call them from the test, one at a time")
        self._use_clock()
        self._running = True
        try:
            yield
        finally:
            self._running = False

    async def _let_pass(self, duration: float) -> None:
        """The engine waits: for what a handler or a schedule does, time stands still; for the test it passes."""
        if not self._running:
            await self.advance(duration)
        else:
            await asyncio.sleep(0)
