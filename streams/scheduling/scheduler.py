"""Scheduler: fires a processor's schedules. Every consumer of the processor runs one; none is a leader.

All of them wake up for a slot, and each may make its event; one script call decides it, and a later one
changes nothing. So a scheduler may die, or answer twice, at any point.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import orjson
from redis.exceptions import RedisError

from streams import clock
from streams.errors import Refused
from streams.logs import get_logger
from streams.messages.error_text import Failure, describe, passes
from streams.messages.middleware import Middleware, publish_chain
from streams.publishing.envelope import Envelope
from streams.publishing.returned_events import events_in
from streams.redis.keys import RUN_TTL_MS
from streams.redis.refusal import LOST
from streams.redis.untrusted import is_time
from streams.scheduling import scripts
from streams.scheduling.schedule import Calls, Schedule, Slot, event_id
from streams.settling.ticker import Ticker

if TYPE_CHECKING:
    from streams.app import App
    from streams.messages.message import Message
    from streams.redis.partition import Partition
    from streams.redis.reconnect import Reconnect

log = get_logger("streams.scheduler")

HEAD_START: Final = (20.0, 80.0)  # ms
_LOOK: Final = 0.5  # seconds: how late a pause, a resume or a run by hand is seen at most
_TRIES: Final = (0.5, 1.0)  # seconds between the tries of a function that raises: three in all
_REFUSED: Final = 5.0
_RETURNS: Final = "a schedule's function returns None, an event, or a list of events, not {given}"


class Scheduler:
    """The schedules of one consumer that live in one partition."""

    def __init__(
        self,
        processor: str,
        client: App,
        partition: Partition,
        schedules: Mapping[str, Schedule],
        calls: Calls,
        reconnect: Reconnect,
        middleware: Sequence[Middleware] = (),
    ) -> None:
        self._schedules = schedules
        self._processor = processor
        self._envelope = Envelope(client)
        self._partition = partition.number
        self._keys = partition.keys
        self._call = partition.redis.execute_command
        self._reconnect = reconnect
        self._middleware = middleware
        self._entered = False
        self._ticker = Ticker()
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._next: dict[str, tuple[int, int | None]] = {}  # schedule: last slot, the one after it
        self._ahead = 0.0  # ms that Redis' clock is ahead of the event loop's
        # Who fired a schedule's last slot goes first, the others a moment later: they find it done, and its function
        # is called once and not once in each process. If the first has died, the next is that moment late.
        self._first = set[str]()
        self._calls = calls
        self._behind = random.uniform(*HEAD_START)

    async def run(self) -> None:
        """Fires for as long as the consumer lives; Redis going away is waited out."""
        try:
            await self._ticker.run(self._tick)
        finally:
            self._calls.close()
            for task in self._busy.values():
                task.cancel()
            while left := [task for task in self._busy.values() if not task.done()]:
                # A consumer that ends cancels this again and again, and waits for it as long as for its other tasks.
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait(left)

    async def _tick(self) -> float:
        """Looks once; returns the seconds until the next look."""
        try:
            return await self._look()
        except LOST as error:
            await self._reconnect.failed(error)
            return 0.0
        except RedisError as error:
            self._reconnect.refused(log, "schedule.refused", error, processor=self._processor)
            return _REFUSED

    def close(self) -> None:
        """Ends the threads of plain functions, for one that does not `run`."""
        self._calls.close()

    async def fire_all(self) -> None:
        """Fires what has come by now, and returns when that is done: for one that is alone, on a clock that stands
        still meanwhile (`streams.testing`).
        """
        self._behind = 0.0
        while True:
            await self._look()
            if self._busy:
                await asyncio.wait(self._busy.values())
            elif self._entered:
                return

    def next_slot(self) -> int | None:
        """When the next slot is, in ms since 1970, as of the last look."""
        return min((at for _, at in self._next.values() if at is not None), default=None)

    async def _look(self) -> float:
        """Looks how the schedules stand and begins what is due; returns the seconds until the next look."""
        if not self._entered:
            await self._enter()
        now, states = await scripts.look_schedules(self._call, self._keys, names=list(self._schedules))
        self._ahead = now - clock.timers().time() * 1000
        self._reconnect.succeeded()
        if not all(is_time(last) for last, _, _ in states):
            self._entered = False  # flushed, forgotten by somebody while it runs here, or overwritten
            return 0.0
        wait = _LOOK
        for schedule, (last, paused, asked) in zip(self._schedules.values(), states, strict=True):
            if schedule.name in self._busy:
                continue
            if is_time(asked):
                self._begin(schedule, self._run(schedule, int(asked)))
            elif not paused:
                head_start = 0 if schedule.name in self._first else self._behind
                following = self._following(schedule, int(last))
                if following is None:
                    continue
                if following + head_start <= now:
                    self._begin(schedule, self._fire_due(schedule, int(last), now))
                else:
                    wait = min(wait, (following + head_start - now) / 1000)
        return wait

    async def _enter(self) -> None:
        await scripts.register_schedules(
            self._call,
            self._keys,
            definitions=[
                (
                    name,
                    orjson.dumps(schedule.definition(self._processor)),
                    f"{schedule.timing.text} {schedule.timing.tz}",
                )
                for name, schedule in self._schedules.items()
            ],
        )
        self._entered = True

    def _following(self, schedule: Schedule, last: int) -> int | None:
        known = self._next.get(schedule.name)
        if known is None or known[0] != last:
            known = self._next[schedule.name] = last, schedule.timing.next_after(last)
        return known[1]

    def _begin(self, schedule: Schedule, work: Coroutine[Any, Any, None]) -> None:
        """Each schedule has a task of its own: one that hangs or fails stops no other."""

        def ended(task: asyncio.Task[None]) -> None:
            del self._busy[schedule.name]
            self._ticker.wake_within(0.0)
            if not task.cancelled() and (error := task.exception()) and not isinstance(error, Refused):
                log.error("schedule.crashed", schedule=schedule.name, exception=Failure(error).traceback)

        task = asyncio.get_running_loop().create_task(work)
        self._busy[schedule.name] = task
        task.add_done_callback(ended)

    def _now(self) -> int:
        return round(clock.timers().time() * 1000 + self._ahead)

    async def _fire_due(self, schedule: Schedule, last: int, now: int) -> None:
        due = schedule.due(last, now)
        missed = due.dropped
        if not due.slots and await self._fire(schedule, due.until, "slot", missed, ()):
            self._tell_missed(schedule, missed)
        for at in due.slots:
            if not await self._decide(schedule, at, "slot", missed):
                self._first.discard(schedule.name)
                return
            self._first.add(schedule.name)
            self._tell_missed(schedule, missed)
            missed = 0

    def _tell_missed(self, schedule: Schedule, count: int) -> None:
        if count:
            log.warning("schedule.missed", schedule=schedule.name, count=count, misfire=schedule.misfire)

    async def _run(self, schedule: Schedule, at: int) -> None:
        if self._now() - at > RUN_TTL_MS:
            await self._fire(schedule, at, "run", 0, ())  # nobody was there: the script drops it
        else:
            await self._decide(schedule, at, "run", 0)

    async def _decide(self, schedule: Schedule, at: int, kind: str, missed: int) -> bool:
        """Makes the events of a slot and fires them; a function that keeps raising has missed the slot.

        Returns whether it was this process that decided the slot.
        """
        for delay in (*_TRIES, None):
            slot = schedule.slot(at, self._now())
            try:
                messages = await self._make(schedule, slot, kind, at)
                return await self._publish(schedule, at, kind, missed, messages)
            except (RedisError, Refused):
                raise  # not the function's doing
            except asyncio.CancelledError as error:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                problem: BaseException = error  # something that it awaited was cancelled by somebody else
            except BaseException as error:  # whatever a function raises, it is its own slot's
                if passes(error) is not None:
                    raise
                problem = error
            log.warning(
                "schedule.failed", schedule=schedule.name, slot=slot.at.isoformat(), error=describe(problem),
                retry_in=delay,
            )  # fmt: skip
            if delay is not None:
                await clock.sleep(delay)
        decided = await self._fire(schedule, at, kind, missed + 1, ())
        if decided:
            log.error("schedule.dropped", schedule=schedule.name, slot=slot.at.isoformat())
        return decided

    async def _make(self, schedule: Schedule, slot: Slot, kind: str, at: int) -> list[Message]:
        result = await self._calls.call(schedule, slot)
        events, other = await events_in(result)
        if other:  # its work is to make an event, and is done again without harm
            raise TypeError(_RETURNS.format(given=other))
        return [
            self._envelope.wrap(
                event, key=schedule.key, priority=schedule.priority, partition=self._partition,
                id=event_id(self._keys.app, schedule.name, kind, at, index),
            )
            for index, event in enumerate(events)
        ]  # fmt: skip

    async def _publish(self, schedule: Schedule, at: int, kind: str, missed: int, messages: Sequence[Message]) -> bool:
        decided = False

        async def fire(messages: Sequence[Message]) -> None:
            nonlocal decided
            decided = await self._fire(schedule, at, kind, missed, messages)

        chain: Callable[[Sequence[Message]], Awaitable[None]] = fire
        if messages:
            chain = publish_chain(self._middleware, fire)
        await chain(messages)
        if decided:
            ids, slot = [message.id for message in messages], schedule.slot(at, self._now())
            log.info(
                "schedule.fired", schedule=schedule.name, slot=slot.at.isoformat(), kind=kind, count=len(ids),
                ids=ids[:5], late=round(slot.late.total_seconds(), 3),
            )  # fmt: skip
        return decided

    async def _fire(self, schedule: Schedule, at: int, kind: str, missed: int, messages: Sequence[Message]) -> bool:
        """Decides a slot, again and again until Redis has answered; returns whether nobody had before."""
        while True:
            try:
                decided, early = await scripts.fire(
                    self._call, self._keys, schedule=schedule.name, at=at, kind=kind, missed=missed, messages=messages
                )
            except LOST as error:
                await self._reconnect.failed(error)
            except RedisError as error:
                self._reconnect.refused(log, "schedule.refused", error, schedule=schedule.name)
                await asyncio.sleep(_REFUSED)
            else:
                if decided >= 0:
                    return bool(decided)
                await asyncio.sleep(early / 1000)
