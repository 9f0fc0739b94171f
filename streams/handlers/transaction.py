"""Transaction: where a handler's effects, the fact that they are done, and its follow-up events become one commit.

The engine knows no database: it hands a delivery over with the call that handles it, and publishes what comes back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from streams.messages.delivery import Delivery
    from streams.messages.message import Message

Handle = Callable[[], Awaitable[Sequence["Message"]]]


class Transaction(Protocol):
    """Makes the effects of a handler happen once, however often its event is delivered."""

    async def run(self, delivery: Delivery, handle: Handle) -> Sequence[Message]:
        """Calls `handle` inside a transaction and commits its effects together with the follow-up messages it returns.

        If the event was handled before (same group, same event id), `handle` is not called, and the follow-ups that
        were committed then are returned: the process may have died before they were published. Whatever it raises is
        the delivery's failure, and nothing was committed.
        """
