"""Batch collector: collects deliveries for a batch handler until the batch is full or has waited long enough.

One queue for each such handler and partition, across priorities and inbox, in the order read. A message that crashed a
process before is not collected: it runs alone, or it would take a whole batch down with it again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from streams import clock
from streams.durations import seconds
from streams.messages.message import TYPE

if TYPE_CHECKING:
    from streams.executing.calls import Route
    from streams.executing.priority_queue import PriorityQueue
    from streams.handlers.batch import Batch
    from streams.messages.delivery import Delivery


class RunningBatch:
    """Deliveries that one call of a batch handler takes."""

    __slots__ = ("cancelled", "deliveries", "lost", "route")

    def __init__(self, deliveries: list[Delivery], route: Route) -> None:
        self.deliveries = deliveries
        self.route = route
        self.cancelled: set[Delivery] = set()  # while it ran: the handler goes on for the others
        self.lost: set[Delivery] = set()  # somebody else has them now: nothing of them is settled

    def begin(self, deadline: float) -> None:
        """Sets until when its handler may run (0: none runs)."""
        for delivery in self.deliveries:
            delivery.deadline = deadline

    @property
    def deadline(self) -> float:
        """Until when its handler may run (0: none runs)."""
        return self.deliveries[0].deadline if self.deliveries else 0.0

    @property
    def thread(self) -> int:
        """The thread its handler is in (0: none)."""
        return self.deliveries[0].thread if self.deliveries else 0


class _Gathering:
    def __init__(self, route: Route, batch: Batch) -> None:
        self.route = route
        self.size = batch.size
        self.within = seconds(batch.within)
        self.waiting: deque[tuple[Delivery, float]] = deque()  # with the time it may wait until
        self.overdue = False  # the first one has waited long enough
        self.timer: asyncio.TimerHandle | None = None

    def is_ready(self) -> bool:
        return self.overdue or len(self.waiting) >= self.size


class Collector:
    """The queues. When one of them has become ready, a task that waits in `queue` is woken."""

    def __init__(self, routes: Iterable[Route], queue: PriorityQueue) -> None:
        self._batches = {
            route.subscription.event.type.encode(): (route, route.subscription.batch)
            for route in routes
            if route.subscription.batch is not None
        }
        self.sizes = sum(batch.size for _, batch in self._batches.values())
        self._queue = queue
        self._gatherings: dict[tuple[str, bytes], _Gathering] = {}  # by partition and type
        self._alone: deque[Delivery] = deque()
        self._gave = False

    def __len__(self) -> int:
        return len(self._alone) + sum(len(gathering.waiting) for gathering in self._gatherings.values())

    def collect(self, deliveries: Sequence[Delivery], suspect_from: int) -> list[Delivery]:
        """Takes in what is for a batch handler, of one partition; returns the rest."""
        rest: list[Delivery] = []
        found: dict[bytes, list[Delivery]] = {}
        for delivery in deliveries:
            type = delivery.message.values[TYPE]
            is_fresh = delivery.count == 1 and delivery.message.carried is None and delivery.counted
            if type not in self._batches or (not is_fresh and delivery.suspected(suspect_from)):
                rest.append(delivery)
            elif type in found:
                found[type].append(delivery)
            else:
                found[type] = [delivery]
        for type, of_type in found.items():
            self._gather(of_type, type)
        return rest

    def _gather(self, deliveries: list[Delivery], type: bytes) -> None:
        # By partition, as a batch is settled by one script, which touches one slot.
        place = deliveries[0].source.partition("}")[0], type
        gathering = self._gatherings.get(place)
        if gathering is None:
            gathering = self._gatherings[place] = _Gathering(*self._batches[type])
        until = clock.timers().time() + gathering.within
        for delivery in deliveries:
            delivery.route = gathering.route
            gathering.waiting.append((delivery, until))
        self._watch(gathering)

    def set_aside(self, delivery: Delivery) -> None:
        """Queues one that must be handled alone, before anything else."""
        delivery.deadline = 0.0
        self._alone.append(delivery)

    def _watch(self, gathering: _Gathering) -> None:
        """Sees to it that the queue becomes ready when its first delivery has waited long enough."""
        if not gathering.waiting:
            if gathering.timer is not None:
                gathering.timer.cancel()
                gathering.timer = None
        elif gathering.timer is None and not gathering.overdue:
            timers, until = clock.timers(), gathering.waiting[0][1]
            if until <= timers.time():
                gathering.overdue = True
            else:
                gathering.timer = timers.call_at(until, self._ripen, gathering)

    def _ripen(self, gathering: _Gathering) -> None:
        # A flag and not a look at the clock: a timer may fire a moment early, and nobody would come again.
        gathering.timer, gathering.overdue = None, True
        self._queue.wake()

    def is_ready(self) -> bool:
        """Whether `take` has something to give."""
        return bool(self._alone) or any(gathering.is_ready() for gathering in self._gatherings.values())

    def is_next(self, *, others_wait: bool) -> bool:
        """Whether it has, and it is its turn: it gives way to others every second time."""
        if not self.is_ready() or (others_wait and self._gave):
            self._gave = False
            return False
        return True

    def take(self) -> RunningBatch | Delivery:
        """Takes what is next: one that is handled alone, or the batch whose first delivery has waited longest."""
        self._gave = True
        if self._alone:
            return self._alone.popleft()
        ready = (gathering for gathering in self._gatherings.values() if gathering.is_ready())
        chosen = min(ready, key=lambda gathering: gathering.waiting[0][1])
        waiting = chosen.waiting
        bundle = RunningBatch([waiting.popleft()[0] for _ in range(min(chosen.size, len(waiting)))], chosen.route)
        self._begin_anew(chosen)
        return bundle

    def _begin_anew(self, gathering: _Gathering) -> None:
        if gathering.timer is not None:
            gathering.timer.cancel()
        gathering.timer, gathering.overdue = None, False
        self._watch(gathering)

    def drop(self, deliveries: Collection[Delivery]) -> None:
        """Takes out the given deliveries, wherever they are."""
        self._alone = deque(delivery for delivery in self._alone if delivery not in deliveries)
        for gathering in self._gatherings.values():
            kept = [pair for pair in gathering.waiting if pair[0] not in deliveries]
            if len(kept) < len(gathering.waiting):
                gathering.waiting = deque(kept)
                self._begin_anew(gathering)

    def take_all(self) -> list[Delivery]:
        """Empties the queues."""
        everything = list(self._alone)
        self._alone.clear()
        for gathering in self._gatherings.values():
            everything += [delivery for delivery, _ in gathering.waiting]
            gathering.waiting.clear()
            self._begin_anew(gathering)
        return everything
