"""Overriding: other factories in the place of those that handlers depend on, for as long as a harness is open."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from streams.dependencies import dependencies_of
from streams.errors import StreamsError

Factory = Callable[..., Any]


@contextmanager
def overriding(functions: Iterable[Factory], overrides: Mapping[Factory, Factory]) -> Iterator[None]:
    """Gives `functions`, and what they depend on, the values of other factories: `{real: replacement}`.

    The dependencies themselves are changed, so it holds for the whole process until it ends. Raises `StreamsError` for
    a factory that none of them depends on: an override that does nothing would let the real one run.
    """
    changed: list[tuple[Any, Factory]] = []
    try:
        used = set()
        for function in functions:
            for dependency in list(dependencies_of(function)):
                factory = getattr(dependency, "factory", None)
                if factory is not None and factory in overrides:
                    used.add(factory)
                    changed.append((dependency, factory))
                    dependency.factory = overrides[factory]
        for factory in overrides:
            if factory not in used:
                name = getattr(factory, "__qualname__", repr(factory))
                raise StreamsError(f"overrides: no handler or schedule depends on {name}")
        yield
    finally:
        for dependency, factory in reversed(changed):
            dependency.factory = factory
