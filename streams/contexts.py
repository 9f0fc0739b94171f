"""Contexts: each delivery runs in a context of its own, so that no context variable of one is seen by the next.

A task per delivery would do it too, and costs a drain a quarter of its rate (measured). Here the coroutine of a
delivery is stepped inside its context by the task of the slot.
"""

from __future__ import annotations

import contextvars
import decimal
from collections.abc import Callable, Coroutine, Generator
from types import coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Contexts:
    """Makes contexts like the one it was made in. Later changes to that one are not in them."""

    def __init__(self) -> None:
        # `decimal` keeps its context in a context variable, as an object that is changed in place: a plain copy would
        # share it. Without one, a delivery that uses decimals makes its own.
        self._decimal: decimal.Context | None = None
        self._base = contextvars.Context()
        for variable, value in contextvars.copy_context().items():
            if variable.name == "decimal_context" and isinstance(value, decimal.Context):
                self._decimal = None if _is_default(value) else value.copy()
                if self._decimal is not None:
                    self._decimal.clear_flags()  # what other code has met says nothing of a delivery
            else:
                self._base.run(variable.set, value)

        self.new: Callable[[], contextvars.Context] = self._base.copy if self._decimal is None else self._with_decimal

    def _with_decimal(self) -> contextvars.Context:
        assert self._decimal is not None
        context = self._base.copy()
        context.run(decimal.setcontext, self._decimal.copy())
        return context


def _is_default(context: decimal.Context) -> bool:
    """Whether a new decimal context would be the same."""
    return all(
        getattr(context, name) == getattr(decimal.DefaultContext, name)
        for name in ("prec", "rounding", "Emin", "Emax", "capitals", "clamp", "traps")
    )


async def run_in(context: contextvars.Context, work: Coroutine[Any, Any, T]) -> T:
    """Awaits a coroutine with every step of it inside `context`."""
    try:
        awaited = context.run(work.send, None)
    except StopIteration as done:
        result: T = done.value
        return result
    return await go_on_in(context, work, awaited)


@coroutine
def go_on_in(context: contextvars.Context, work: Coroutine[Any, Any, T], awaited: Any) -> Generator[Any, Any, T]:
    """The same for a coroutine that has begun there, and waits for `awaited`."""
    step: Any
    given: Any = None
    try:
        while True:
            try:
                given, step = (yield awaited), work.send
            except GeneratorExit:
                context.run(work.close)
                raise
            except BaseException as error:  # noqa: BLE001 - a cancel above all: it is thrown in where it is waited for
                given, step = error, work.throw
            awaited = context.run(step, given)
    except StopIteration as done:
        result: T = done.value
        return result
    finally:
        given = None  # an exception that was thrown in has this frame in its traceback: a cycle
