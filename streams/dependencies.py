"""Dependencies of handlers: `Depends(factory)`, `Shared(factory)`, and what the engine itself can give them.

The resolver is `uncalled-for`. `Depends` makes its value anew for each delivery, `Shared` once per consumer process
(a mailer with its connection pool) and closes it when the consumer stops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast

from uncalled_for import Dependency as _Dependency
from uncalled_for import Depends, Shared, SharedContext, get_dependency_parameters

from streams.errors import StreamsError

if TYPE_CHECKING:
    from streams.client import Streams
    from streams.delivery import Delivery

__all__ = ["CurrentBatch", "CurrentDelivery", "CurrentStreams", "Depends", "Shared", "SharedContext"]

current_delivery: ContextVar[Delivery | None] = ContextVar("current_delivery")  # None while a batch is handled
current_batch: ContextVar[Sequence[Delivery]] = ContextVar("current_batch")
current_streams: ContextVar[Streams] = ContextVar("current_streams")


class _Current(_Dependency[Any]):
    def __init__(self, variable: ContextVar[Any], *, single: bool = False, batch: bool = False) -> None:
        self._variable = variable
        self.single = single  # what only a handler of one event has
        self.batch = batch  # what only a handler of a batch has

    async def __aenter__(self) -> Any:
        return self._variable.get()


def CurrentDelivery() -> Delivery:
    """The delivery being handled: its message, attempt and deliveries."""
    return cast("Delivery", _Current(current_delivery, single=True))


def CurrentBatch() -> Sequence[Delivery]:
    """In a batch handler: the deliveries of its events, in their order."""
    return cast("Sequence[Delivery]", _Current(current_batch, batch=True))


def CurrentStreams() -> Streams:
    """The client of the running consumer: publish further events, or keep own keys with a TTL in its Redis.

    What is published through it is not part of the ack; return events from the handler for that.
    """
    return cast("Streams", _Current(current_streams))


def check_dependencies(handler: Callable[..., Any], *, is_batch: bool) -> None:
    """Raises `StreamsError` when a handler depends, directly or through a factory, on what it cannot be given."""
    for dependency in dependencies_of(handler):
        if isinstance(dependency, _Current):
            if is_batch and dependency.single:
                raise StreamsError(
                    "a batch handler has many deliveries, not one, nor the progress of one: take CurrentBatch()"
                )
            if dependency.batch and not is_batch:
                raise StreamsError("CurrentBatch() belongs to a handler with batch=Batch(...)")


def dependencies_of(function: Callable[..., Any]) -> Iterator[Any]:
    """What a function depends on, directly or through a factory."""
    for dependency in get_dependency_parameters(function).values():
        yield dependency
        if callable(factory := getattr(dependency, "factory", None)):
            yield from dependencies_of(factory)
