"""Blocking proxy: an object of the engine for code without an event loop: the same methods, each of which blocks.

A proxy has no signatures of its own. `blocking(Class.method)` has those of `method`, for people, for `inspect` and
for mypy, which also checks that the method belongs to the class.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import wraps
from typing import Any, Concatenate, Final, Generic, ParamSpec, TypeVar

_N = TypeVar("_N")
_N_co = TypeVar("_N_co", covariant=True)
_P = ParamSpec("_P")
_T = TypeVar("_T")
_END: Final[Any] = object()


class BlockingProxy(Generic[_N_co]):
    """The blocking proxy of an object of the engine; a subclass says how the object is called."""

    @abstractmethod
    def call(self, ask: Callable[[_N_co], Coroutine[Any, Any, _T]]) -> _T:
        """Runs a coroutine of the object, and waits for its result."""


def blocking(
    method: Callable[Concatenate[_N, _P], Coroutine[Any, Any, _T]],
) -> Callable[Concatenate[BlockingProxy[_N], _P], _T]:
    """The method that returns what the coroutine method does, when it is done."""

    @wraps(method)
    def wait(self: BlockingProxy[_N], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return self.call(lambda target: method(target, *args, **kwargs))

    return wait


def blocking_iter(
    method: Callable[Concatenate[_N, _P], AsyncIterator[_T]],
) -> Callable[Concatenate[BlockingProxy[_N], _P], Iterator[_T]]:
    """The method that iterates over what the asynchronous one does, asking for one after the other."""

    @wraps(method)
    def iterate(self: BlockingProxy[_N], /, *args: _P.args, **kwargs: _P.kwargs) -> Iterator[_T]:
        async def opened(target: _N) -> AsyncIterator[_T]:
            return method(target, *args, **kwargs)

        found = self.call(opened)

        async def following(_: _N) -> _T:
            return await anext(found, _END)

        while (item := self.call(following)) is not _END:
            yield item

    return iterate
