"""Dependencies of handlers: `Depends(factory)`, `Shared(factory)`, and what the engine itself can give them.

The resolver is `uncalled-for`. `Depends` makes its value anew for each delivery, `Shared` once per consumer process
(a mailer with its connection pool) and closes it when the consumer stops.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast

from uncalled_for import Dependency as _Dependency
from uncalled_for import Depends, Shared, SharedContext

if TYPE_CHECKING:
    from streams.client import Streams
    from streams.delivery import Delivery

__all__ = ["CurrentDelivery", "CurrentStreams", "Depends", "Shared", "SharedContext"]

current_delivery: ContextVar[Delivery] = ContextVar("current_delivery")
current_streams: ContextVar[Streams] = ContextVar("current_streams")


class _Current(_Dependency[Any]):
    def __init__(self, variable: ContextVar[Any]) -> None:
        self._variable = variable

    async def __aenter__(self) -> Any:
        return self._variable.get()


def CurrentDelivery() -> Delivery:
    """The delivery being handled: its message, attempt and deliveries."""
    return cast("Delivery", _Current(current_delivery))


def CurrentStreams() -> Streams:
    """The client of the running consumer: publish further events, or keep own keys with a TTL in its Redis.

    What is published through it is not part of the ack; return events from the handler for that.
    """
    return cast("Streams", _Current(current_streams))
