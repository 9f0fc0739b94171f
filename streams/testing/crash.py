"""Crash: the death of a process, for a test."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from streams.messages.error_text import Fatal
from streams.messages.middleware import Deliver, DeliverBatch, Middleware

if TYPE_CHECKING:
    from streams.messages.delivery import Delivery
    from streams.messages.outcome import Outcome

T = TypeVar("T")
A = TypeVar("A")


class Crash(Fatal):
    """Raise it in a handler, or in a dependency of one, to let its process die there: nothing of what it held is
    settled, and the next consumer gets it with one delivery more.
    """


class Dying(Middleware):
    """Lets the process die in its next `left` deliveries: before the handler begins, or when it has ended."""

    def __init__(self) -> None:
        self.left = 0
        self.after = False

    def wants(self, delivery: Delivery) -> bool:
        """Only while a process is to die."""
        del delivery
        return self.left > 0

    async def deliver(self, delivery: Delivery, call_next: Deliver) -> Outcome:
        """Dies with one."""
        return await self._die(delivery, call_next)

    async def deliver_batch(self, deliveries: Sequence[Delivery], call_next: DeliverBatch) -> Sequence[Outcome]:
        """Dies with many."""
        return await self._die(deliveries, call_next)

    async def _die(self, given: A, call_next: Callable[[A], Awaitable[T]]) -> T:
        self.left -= 1
        if self.after:
            _ = await call_next(given)
        raise Crash
