"""Watch: sees how it stands with the demo's group, waits until it stands as it should, and shows it meanwhile."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from streams import Streams, StreamsError
from streams.inspecting import EventStatus, GroupState, GroupStatus, Snapshot

from .check import NotInTime
from .child_process import ChildProcess
from .display import Display, Figures
from .environment import Environment

GROUP: Final = "email"

_PATIENCE: Final = 40.0  # seconds for any one thing: a busy machine is slow, a broken demo never gets there
_POLL: Final = 0.05
_LOOK_EVERY: Final = 0.25


class Watch:
    """Looks from outside, through the engine's public face and the mail server's log. Changes nothing."""

    def __init__(self, environment: Environment, streams: Streams) -> None:
        self.expected = 0  # how many different mails there will be
        self.killed: ChildProcess | None = None  # the one whose end is part of the scenario
        self._environment = environment
        self._streams = streams

    async def until(self, what: str, condition: Callable[[], Any]) -> None:
        """Waits until `condition` (plain or async) is true.

        Raises `NotInTime`, naming `what`, when that takes too long or one of the processes ends by itself.
        """
        deadline = time.monotonic() + _PATIENCE
        while True:
            answer = condition()
            if await answer if inspect.isawaitable(answer) else answer:
                return
            self._check_processes()
            if time.monotonic() > deadline:
                raise NotInTime(f"waited {_PATIENCE:g} s for {what}")
            await asyncio.sleep(_POLL)

    async def group(self) -> GroupState:
        """The group of the consumers."""
        return group_of(await self._streams.snapshot())

    async def trail(self, event: str) -> GroupStatus:
        """Where the group has an event."""
        for group in (await self._streams.event(event)).groups:
            if group.group == GROUP:
                return group
        raise NotInTime(f"the group {GROUP} does not know the event {event}")

    async def alive(self, count: int, group: str = GROUP) -> bool:
        """Whether so many consumers of a group live, by their heartbeats."""
        groups = (await self._streams.snapshot()).groups
        return any(each.name == group and each.alive >= count for each in groups)

    async def family(self, event: str) -> list[EventStatus]:
        """An event and all that followed from it, causes before effects."""
        found = [await self._streams.event(event)]
        for trail in found:  # it grows meanwhile
            found += [await self._streams.event(follow_up.id) for follow_up in trail.follow_ups]
        return found

    async def through(self, event: str) -> list[EventStatus]:
        """The same when every group has finished every event of it; empty until then."""
        found = await self.family(event)
        return found if all(group.state == "acked" for trail in found for group in trail.groups) else []

    async def has(self, state: str, *events: str) -> bool:
        """Whether the group has all these events in this state."""
        return all([(await self.trail(event)).state == state for event in events])

    async def settled(self) -> bool:
        """Whether everything published is delivered, and everything delivered is settled."""
        group = await self.group()
        return not (group.lag or group.pending)

    async def held(self, process: ChildProcess) -> int:
        """How many deliveries are pending on this process, as Redis sees it."""
        return _held(await self.group(), process)

    @asynccontextmanager
    async def showing(self, display: Display) -> AsyncIterator[None]:
        """Shows how it stands, again and again, inside the block."""
        # Asked to stop, not cancelled: before Python 3.12 a cancelled call of redis-py may go on as if it were not.
        over = asyncio.Event()
        watching = asyncio.create_task(self._show(display, over))
        try:
            yield
        finally:
            over.set()
            await asyncio.gather(watching, return_exceptions=True)

    async def _show(self, display: Display, over: asyncio.Event) -> None:
        while not over.is_set():
            with suppress(StreamsError, NotInTime):  # only for the eye: the steps find out what is wrong
                display.stand(self._standing(await self.group()))
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY):
                    await over.wait()

    def _standing(self, group: GroupState) -> Figures:
        consumers = tuple(
            (
                process.name,
                f"pid {process.pid}, {'holds' if process.running else 'killed, held'} {_held(group, process)}",
            )
            for process in self._environment.consumers
        )
        mails = self._environment.mail_log.look().taken
        expected = max(mails, self.expected)
        return Figures(mails, expected, group.lag, group.pending, group.waiting, group.dead, consumers)

    def _check_processes(self) -> None:
        for process in self._environment.processes():
            done = process in self._environment.helpers and process.returncode == 0
            if not process.running and process is not self.killed and not done:
                raise NotInTime(f"{process.name} ended by itself (exit {process.returncode}); see {process.log}")


def group_of(snapshot: Snapshot) -> GroupState:
    """The demo's group; raises `NotInTime` when it is not made yet."""
    for group in snapshot.groups:
        if group.name == GROUP:
            return group
    raise NotInTime(f"there is no group {GROUP} yet")


def _held(group: GroupState, process: ChildProcess) -> int:
    # A consumer's name is host-pid-random.
    return sum(consumer.pending for consumer in group.consumers if f"-{process.pid}-" in consumer.name)
