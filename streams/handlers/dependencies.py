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
from streams.messages.delivery import Delivery, current_batch, current_delivery

if TYPE_CHECKING:
    from streams.app import App

__all__ = ["CurrentApp", "CurrentBatch", "CurrentDelivery", "Depends", "Shared", "SharedContext"]

current_app: ContextVar[App] = ContextVar("current_app")


class Current(_Dependency[Any]):
    """What a context variable has while a handler runs."""

    def __init__(self, variable: ContextVar[Any], *, single: bool = False, batch: bool = False) -> None:
        self._variable = variable
        self.single = single  # what only a handler of one event has
        self.batch = batch  # what only a handler of a batch has

    async def __aenter__(self) -> Any:
        return self._variable.get()


def CurrentDelivery() -> Delivery:
    """The delivery being handled: its message, attempt and deliveries."""
    return cast("Delivery", Current(current_delivery, single=True))


def CurrentBatch() -> Sequence[Delivery]:
    """In a batch handler: the deliveries of its events, in their order."""
    return cast("Sequence[Delivery]", Current(current_batch, batch=True))


def CurrentApp() -> App:
    """The app of the running consumer, as the engine's own dependencies need it; handlers take `CurrentStreams()`."""
    return cast("App", Current(current_app))


def check_dependencies(handler: Callable[..., Any], *, is_batch: bool) -> None:
    """Raises `StreamsError` when a handler depends, directly or through a factory, on what it cannot be given."""
    for dependency in dependencies_of(handler):
        if isinstance(dependency, Current):
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
