"""Priority queue: the deliveries that a consumer has read and not started, one queue per priority, and which is next.

Weighted, by stride: under full load high, normal and low start 16 : 4 : 1, so low is never starved. A priority that was
empty joins where the others are, so that it has no saved credit and a new high message is next.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final

from streams.redis.keys import PRIORITIES

if TYPE_CHECKING:
    from streams.messages.delivery import Delivery

WEIGHTS: Final = {"high": 16, "normal": 4, "low": 1}

_STRIDES: Final = tuple(1 / WEIGHTS[lane] for lane in PRIORITIES)
HIGH: Final = PRIORITIES.index("high")
_NORMAL: Final = PRIORITIES.index("normal")


class PriorityQueue:
    """Three queues of deliveries, and one before them; and the tasks that are idle until there is something to do."""

    def __init__(self) -> None:
        self.idle: deque[asyncio.Future[None]] = deque()
        self.waking = False
        self._queues: tuple[deque[Delivery], ...] = tuple(deque() for _ in range(len(PRIORITIES) + 1))
        self._high, self._normal, self._low, self._first = self._queues
        self._passes = [0.0] * len(PRIORITIES)
        self._now = 0.0

    def __len__(self) -> int:
        return sum(map(len, self._queues))

    def __bool__(self) -> bool:
        return any(self._queues)

    async def wait(self) -> None:
        """Returns when there may be something to do. A task that was woken wakes the next one before it begins."""
        idle = asyncio.get_running_loop().create_future()
        self.idle.append(idle)
        await idle
        self.waking = False

    def wake(self) -> None:
        """Lets one idle task look for work."""
        while self.idle and not self.waking:
            idle = self.idle.popleft()
            if not idle.done():
                self.waking = True
                idle.set_result(None)

    def put(self, delivery: Delivery) -> None:
        """Queues a delivery behind those of its lane."""
        lane = lane_of(delivery)
        queue = self._queues[lane]
        if not queue:
            self._passes[lane] = max(self._passes[lane], self._now)
        queue.append(delivery)

    def put_first(self, delivery: Delivery) -> None:
        """Queues a delivery before all lanes, behind others that were: its turn has come once, and it is let in now."""
        self._first.append(delivery)

    def put_all(self, deliveries: Sequence[Delivery]) -> None:
        """Queues deliveries of one lane."""
        lane = lane_of(deliveries[0])
        if not self._queues[lane]:
            self._passes[lane] = max(self._passes[lane], self._now)
        self._queues[lane].extend(deliveries)

    def take(self) -> Delivery | None:
        """Takes the delivery that is next, or None."""
        if self._first:
            return self._first.popleft()
        if self._normal and not self._high and not self._low:
            return self._normal.popleft()  # nothing to weigh, and nothing to keep account of
        chosen, lowest = -1, 0.0
        for lane, queue in enumerate(self._queues[:-1]):
            if queue and (chosen < 0 or self._passes[lane] < lowest):
                chosen, lowest = lane, self._passes[lane]
        if chosen < 0:
            return None
        self._now = lowest
        self._passes[chosen] = lowest + _STRIDES[chosen]
        return self._queues[chosen].popleft()

    def waits_below(self, lane: int) -> bool:
        """Whether anything of a lower lane is here."""
        return any(self._queues[lane + 1 : len(PRIORITIES)])

    @property
    def has_high(self) -> bool:
        """Whether anything of the high lane is here."""
        return bool(self._high) or any(lane_of(delivery) == HIGH for delivery in self._first)

    def take_high(self) -> Delivery | None:
        """Takes the next delivery of the high lane, or None. It is not weighed against the others, and does not count
        against its lane: where only high ones may go, it takes nothing from them.
        """
        for position, delivery in enumerate(self._first):
            if lane_of(delivery) == HIGH:
                del self._first[position]
                return delivery
        return self._high.popleft() if self._high else None

    def take_all(self) -> list[Delivery]:
        """Empties the queues."""
        everything = [delivery for queue in self._queues for delivery in queue]
        for queue in self._queues:
            queue.clear()
        return everything

    def drop(self, deliveries: Collection[Delivery]) -> None:
        """Takes out the given deliveries, wherever they are."""
        for queue in self._queues:
            kept = [delivery for delivery in queue if delivery not in deliveries]
            queue.clear()
            queue.extend(kept)


def lane_of(delivery: Delivery) -> int:
    """The index of a priority in `PRIORITIES`: what came back to the inbox keeps the one it was published with."""
    source = delivery.source
    if delivery.message.carried is not None:
        source = delivery.message.carried.origin.partition(" ")[0]
    if source.endswith(":high"):
        return HIGH
    return 2 if source.endswith(":low") else _NORMAL
