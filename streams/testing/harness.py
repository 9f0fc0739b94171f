"""Harness: the engine without a server, for the tests of those who write processors.

It is a `Streams`: what is Python in the engine (messages, executor, lanes, breaker, back-off, settlement, schedules) is
the engine's own; what is Lua in Redis is done in memory. Nothing waits: time is the test's to move.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from contextvars import Context, copy_context
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from pydantic import SecretStr

from schemas.event import Event
from streams import clock
from streams.client import Streams
from streams.connection import Connections
from streams.dependencies import SharedContext, current_streams
from streams.errors import NotFound, StreamsError
from streams.history import operator, record
from streams.message import KEY, Message
from streams.middleware import Middleware, publish_chain
from streams.partition import Partition
from streams.settings import Settings
from streams.testing.clock import VirtualClock
from streams.testing.finding import find
from streams.testing.letters import MemoryLetters
from streams.testing.memory import Memory, as_entry
from streams.testing.timetable import Timetable
from streams.testing.worker import Worker

if TYPE_CHECKING:
    from streams.cancellation import Cancellation, State
    from streams.processor import Processor
    from streams.trail import Trail
    from streams.whereabouts import GroupTrail

_E = TypeVar("_E", bound=Event)

_MOST: Final = 10_000  # deliveries in one run: a handler that publishes its own event again would never be quiet
_OVER: Final = ("acked", "dead", "discarded", "cancelled", "expired", "missed")


class Harness(Streams):
    """`async with Harness(email, report) as streams:` with one or more processors.

    `start` is what the clock shows first (an aware datetime; now unless given), `seed` makes the jitter of back-off
    repeatable, `settings` are the engine's (there is always one partition). Raises `StreamsError` for a processor that
    uses what is not modelled: batches, limits. Progress, the loss accounting, trimming and everything that reads
    Redis itself raise it when they are asked for. What is not virtual: timeouts of handlers are real seconds, and a
    handler's own `asyncio.sleep` and `datetime.now` are the machine's (`streams.now()` is the test's).
    """

    def __init__(
        self,
        *processors: Processor,
        start: datetime | None = None,
        seed: int = 0,
        settings: Settings | None = None,
        middleware: Sequence[Middleware] = (),
    ) -> None:
        given = settings or Settings()
        nowhere = SecretStr("redis://harness.invalid")
        super().__init__(settings=given.model_copy(update={"redis_url": nowhere, "partitions": 1}))
        self.partitions = (_Partition(0, self.settings, self.connections),)
        self._clock = VirtualClock(start)
        self._memory = Memory(self.keys, self._clock)
        self._publish = publish_chain(middleware, self._add)
        dice = random.Random(seed)
        self._workers = [
            Worker(processor, self, self._memory, self._clock, dice, middleware) for processor in processors
        ]
        self._timetables = [
            Timetable(processor, self, self._memory, middleware) for processor in processors if processor.schedules
        ]
        self._open = ExitStack()
        self._context: Context | None = None
        self._sharing: asyncio.Task[None] | None = None
        self._done = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._open.enter_context(clock.replaced(self._clock.now))
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sharing = asyncio.get_running_loop().create_task(self._share(ready))
        await ready
        return self

    async def _share(self, ready: asyncio.Future[None]) -> None:
        """Keeps what handlers share open, in a task as a test's fixture may be entered and left in two contexts."""
        async with SharedContext():
            current_streams.set(self)
            self._context = copy_context()
            ready.set_result(None)
            await self._done.wait()

    async def aclose(self) -> None:
        """Ends it: shared dependencies are closed."""
        for worker in self._workers:
            await worker.aclose()
        self._done.set()
        if self._sharing is not None:
            await self._sharing
        self._open.close()
        await super().aclose()

    async def check(self) -> None:
        """There is no server to refuse."""

    async def _add(self, messages: Sequence[Message]) -> None:
        self._memory.publish(messages)

    def now(self) -> datetime:
        """What the clock shows, in UTC."""
        return self._clock.now()

    async def add_entry(self, stream: str, fields: Mapping[str, Any]) -> str:
        """Adds an entry as a publisher in another language would, by XADD; returns its id."""
        return self._memory.append(self.keys.stream(stream), as_entry(dict(fields))).decode()

    async def run(self) -> int:
        """Handles all that is due now until nothing is left; returns how many deliveries that took.

        Raises `StreamsError` when it is not quiet after 10,000 deliveries.
        """
        if self._context is None:
            raise StreamsError("a Harness is used as a context manager: `async with Harness(...) as streams:`")
        count, moved = 0, True
        while moved:
            moved = self._clock.fire()
            for timetable in self._timetables:
                moved |= await asyncio.get_running_loop().create_task(timetable.fire(), context=self._context.copy())
            moved |= self._memory.release_due()
            for worker in self._workers:
                if await worker.turn(self._context):
                    count, moved = count + 1, True
            if count > _MOST:
                raise StreamsError(f"not quiet after {_MOST:,} deliveries: does a handler publish its own event again?")
        return count

    async def advance(
        self, duration: timedelta | None = None, *, days: float = 0, hours: float = 0, minutes: float = 0,
        seconds: float = 0,
    ) -> int:  # fmt: skip
        """Moves the clock on, stopping wherever something is due, and handles what is; returns how many deliveries."""
        ahead = (duration or timedelta()) + timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        if ahead < timedelta():
            raise StreamsError(f"the clock cannot go back by {-ahead}")
        until = self._clock.ms + round(ahead.total_seconds() * 1000)
        count = await self.run()
        while (following := self._next()) is not None and following <= until:
            self._clock.ms = max(self._clock.ms, following)
            count += await self.run()
        self._clock.ms = until
        return count + await self.run()

    def _next(self) -> int | None:
        moments = [self._memory.next_due(), self._clock.next_timer()]
        moments += [timetable.next_slot() for timetable in self._timetables]
        return min((moment for moment in moments if moment is not None), default=None)

    def published(self, event: type[_E]) -> list[_E]:
        """The events of a type that have come to their stream, by anybody, in order; delayed ones when they are due."""
        return [
            event.decode(message.data, message.version)
            for message in self._memory.published
            if message.type == event.type
        ]

    def crash(self, group: str, times: int = 1, *, after: bool = False) -> None:
        """Lets the process of a group die in its next `times` deliveries, before their handler begins (with `after`:
        when it has ended and nothing is settled). What it had in hand is delivered again, and counted.
        """
        if times < 1:
            raise StreamsError(f"times={times} must be at least 1")
        self._worker(group).crash(times, after=after)

    async def pause(self, group: str) -> bool:
        """Stops a group from beginning anything. False if it was paused already; raises `NotFound`."""
        self._worker(group)
        changed = group not in self._memory.paused
        self._memory.paused.add(group)
        return changed

    async def resume(self, group: str) -> bool:
        """Lets a paused group go on, at the next `run`. False if it was not paused; raises `NotFound`."""
        self._worker(group)
        changed = group in self._memory.paused
        self._memory.paused.discard(group)
        return changed

    def dead_letters(self, group: str) -> MemoryLetters:
        """What one group gave up; it has a length and positions as well, for asserts."""
        return MemoryLetters(self, group, self._memory)

    async def event(self, id: str) -> Trail:
        """Where one event is; raises `NotFound`."""
        return find(self._memory, id)

    async def cancel(self, id: str) -> Cancellation:
        """Calls off one event in every group that has not finished it; raises `NotFound`."""
        from streams.cancellation import Cancellation

        trail, done = find(self._memory, id), dict[str, Any]()
        message = trail.message
        assert message is not None
        if trail.due_in is not None:
            self._memory.unwait(id)
        for group in trail.groups:
            done[group.group] = await self._cancel_in(trail, group, message)
        states: dict[str, State] = done
        if states and set(states.values()) == {"cancelled"} and trail.due_in is None:
            fresh = all(group.state == "unread" and not group.where.startswith("inbox:") for group in trail.groups)
            if fresh:
                self._memory.delete(self._memory.keys.lane(trail.stream), trail.entry_id.encode())
        return Cancellation(trail.id, states)

    async def _cancel_in(self, trail: Trail, at: GroupTrail, message: Message) -> str:
        memory, group = self._memory, at.group
        if at.state in _OVER:
            return at.state
        line = record(message, "cancelled", attempt=at.attempts, deliveries=at.deliveries, by=operator())
        if at.waiting_id:
            if trail.due_in is None:
                _, fields = memory.unwait(at.waiting_id)
                back = Message.decode(b"0-0", fields)
                memory.pass_turn(group, message.values[KEY], back.carried.origin if back.carried else "")
            memory.append(memory.keys.history(group), line)
            return "cancelled"
        short, _, entry_id = at.where.partition(" ")
        inbox = memory.keys.inbox(group)
        source = inbox if short.startswith("inbox:") else memory.keys.lane(short)
        if at.state == "running":
            await self._worker(group).call_off(source, entry_id.encode())
            return "cancelling"
        if any(other.state == "running" for other in trail.groups) and source != inbox:
            self._worker(group).call_off_unread(source, entry_id.encode())
            return "cancelling"
        if source == inbox:
            memory.delete(inbox, entry_id.encode())
        memory.append(memory.keys.history(group), line)
        return "cancelled"

    def _worker(self, group: str) -> Worker:
        for worker in self._workers:
            if worker.group == group:
                return worker
        raise NotFound(f"no group {group} in {self.settings.app}; the harness was not given that processor")


class _Nothing:
    """Where the engine would call Redis."""

    async def execute_command(self, *command: Any, **_: Any) -> Any:
        raise StreamsError(_TOLD.format(f"{str(command[0])[:40]}: what asks Redis itself"))

    def __getattr__(self, name: str) -> Any:
        raise StreamsError(_TOLD.format(f"redis.{name}"))

    async def aclose(self) -> None:
        """Nothing is open."""


_TOLD: Final = "{} is not modelled by the harness; test it against a Redis (docs/testing.md)"


class _Partition(Partition):
    """The one partition."""

    def __init__(self, number: int, settings: Settings, connections: Connections) -> None:
        super().__init__(number, settings, connections)
        self._nothing: Any = _Nothing()

    @property
    def redis(self) -> Any:
        return self._nothing
