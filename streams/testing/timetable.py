"""Timetable: the schedules of the processors in a harness, fired by its clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streams.failure import describe
from streams.middleware import publish_chain
from streams.scheduler import Scheduler, log

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streams.client import Streams
    from streams.message import Message
    from streams.middleware import Middleware
    from streams.processor import Processor
    from streams.schedule import Schedule
    from streams.testing.memory import Memory

_TRIES = 3


class Timetable(Scheduler):
    """One processor's. A function that raises three times has missed its slot, without any time between the tries."""

    def __init__(self, processor: Processor, client: Streams, memory: Memory, layers: Sequence[Middleware]) -> None:
        nothing: Any = None
        super().__init__(processor, client, client.partitions[0], processor.schedules, nothing)
        self._memory = memory
        self._slots = dict.fromkeys(processor.schedules, memory.now())
        self._layers = layers

    def next_slot(self) -> int | None:
        """The next slot of any schedule, in ms since 1970."""
        return min(
            (at for name, last in self._slots.items() if (at := self._schedules[name].timing.next_after(last))),
            default=None,
        )

    async def fire(self) -> bool:
        """Publishes what is due; says whether a slot was decided."""
        decided = False
        for name, schedule in self._schedules.items():
            due = schedule.due(self._slots[name], self._memory.now())
            if due.until:
                decided, self._slots[name] = True, due.until
            for at in due.slots:
                await self._publish_slot(schedule, at)
        return decided

    async def _publish_slot(self, schedule: Schedule, at: int) -> None:
        for left in reversed(range(_TRIES)):
            try:
                messages = await self._make(schedule, schedule.slot(at, self._memory.now()), "slot", at)
                await publish_chain(self._layers, self._append)(messages)
            except Exception as error:  # noqa: BLE001 - whatever a function raises, it is its own slot's
                log.warning("schedule.failed", schedule=schedule.name, error=describe(error))
                if not left:
                    log.error("schedule.given_up", schedule=schedule.name)
            else:
                return

    async def _append(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self._memory.append(message.target, message.encode())
