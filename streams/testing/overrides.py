"""Overrides: replaces the factories of dependencies for as long as a harness is open."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from uncalled_for import SharedContext

from streams.errors import StreamsError
from streams.handlers.dependencies import Shared, dependencies_of

if TYPE_CHECKING:
    from streams.handlers.processor import Processor

Factory = Callable[..., Any]

_SHARED: Final[type] = type(Shared(dict))


class Overrides:
    """The overrides of one harness, `{real: replacement}`, and what they have changed."""

    def __init__(self, overrides: Mapping[Factory, Factory]) -> None:
        self._overrides = dict(overrides)
        self._reached: set[Factory] = set()
        self._shared: set[Factory] = set()
        self._in_the_dark = False  # there is a transaction, which opens what it needs by itself
        self._changed: list[tuple[Any, Factory]] = []

    def reach(self, processor: Processor) -> None:
        """Reaches what a processor's handlers and schedules depend on, directly or through a factory."""
        functions = [subscription.handler for subscription in processor.subscriptions.values()]
        functions += [call.function for call in processor.dead_letter_functions.values()]
        functions += [schedule.function for schedule in processor.schedules.values()]
        for dependency in [found for function in functions for found in dependencies_of(function)]:
            factory = getattr(dependency, "factory", None)
            if factory not in self._overrides:
                continue
            self._reached.add(factory)
            if isinstance(dependency, _SHARED):
                self._shared.add(factory)
            else:
                self._changed.append((dependency, factory))
                dependency.factory = self._overrides[factory]
        self._in_the_dark |= any(subscription.transaction for subscription in processor.subscriptions.values())

    def check(self) -> None:
        """Raises `StreamsError` for a factory that nothing depends on: the real one would run unnoticed."""
        for factory in self._overrides:
            if factory not in self._reached and not self._in_the_dark:
                name = getattr(factory, "__qualname__", repr(factory))
                raise StreamsError(f"overrides: no handler or schedule depends on {name}")

    async def share(self) -> None:
        """Opens the replacements of what is shared, in the `SharedContext` of the caller, under the names of the real:
        a transaction that asks for the same is given it too.
        """
        for factory, replacement in self._overrides.items():
            if factory in self._shared or (self._in_the_dark and factory not in self._reached):
                shared: Any = Shared(replacement)
                SharedContext.resolved.get()[factory] = await shared.__aenter__()

    def restore(self) -> None:
        """Takes the overrides back."""
        for dependency, factory in reversed(self._changed):
            dependency.factory = factory
        self._changed.clear()
