"""Suspects: messages that were being handled in several crashes of a process; each runs alone."""

from __future__ import annotations

from bisect import insort
from collections.abc import Collection
from operator import attrgetter
from time import monotonic
from typing import TYPE_CHECKING, Final

from streams.executing.dead_letter_call import has_call
from streams.messages.delivery import Delivery, suspect_from
from streams.messages.outcome import DeadLettered, Outcome

if TYPE_CHECKING:
    from streams.executing.executor import Executor

_CRASHES: Final = attrgetter("crashes")


class Suspects:
    """Those that wait. One that reaches `limit` crashes is dead-lettered without being run."""

    def __init__(self, executor: Executor, limit: int) -> None:
        self.threshold = suspect_from(limit)
        self._executor = executor
        self._limit = limit
        self.waiting: list[Delivery] = []  # looked at for each delivery: whether there are any

    def put(self, delivery: Delivery) -> None:
        """Queues one. The fewest crashes first: what was hit by another's crash is done before the next one."""
        insort(self.waiting, delivery, key=_CRASHES)

    def take(self) -> Delivery:
        """Takes the next one."""
        return self.waiting.pop(0)

    def drop(self, deliveries: Collection[Delivery]) -> None:
        """Takes out the given ones."""
        self.waiting = [delivery for delivery in self.waiting if delivery not in deliveries]

    def take_all(self) -> list[Delivery]:
        """Empties the queue."""
        everything, self.waiting = self.waiting, []
        return everything

    async def run(self, delivery: Delivery) -> Outcome | None:
        """Runs one; None when its lease was lost, so that nothing of it may be settled."""
        if delivery.crashes >= self._limit:
            if has_call(delivery, self._limit) and not await self._count(delivery):
                return None
            return DeadLettered("crashed", f"its process died {delivery.crashes} times while it was being handled")
        if not await self._count(delivery):
            return None
        delivery.deadline = monotonic() + self._executor.assign_route(delivery)
        return await self._executor.execute(delivery)

    async def _count(self, delivery: Delivery) -> bool:
        """Makes a delivery count before something runs that may kill the process; False when its lease was lost."""
        delivery.deadline = 0.0  # it waits for the others' settlement first, and that has no deadline
        if await delivery.holder.count_suspect(delivery):
            return True
        delivery.holder.lost({delivery})
        return False
