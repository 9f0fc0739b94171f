"""Callables: how functions, partials, methods, objects with `__call__` and wrappers may be called."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Final

_P = inspect.Parameter
_BY_POSITION: Final = (_P.POSITIONAL_ONLY, _P.POSITIONAL_OR_KEYWORD, _P.VAR_POSITIONAL)
_MOST_LAYERS: Final = 50


def function_of(given: Any) -> Any:
    """The function that is called in the end: of a partial, a method, a static method, or an object's `__call__`. A
    wrapper is itself.
    """
    for _ in range(_MOST_LAYERS):
        if isinstance(given, functools.partial | functools.partialmethod):
            given = given.func
        elif inspect.ismethod(given) or isinstance(given, staticmethod | classmethod):
            given = given.__func__
        elif inspect.isroutine(given) or isinstance(given, type) or not callable(given):
            break
        else:
            called = inspect.getattr_static(type(given), "__call__", None)
            if called is None or called is given:
                break
            given = called
    return given


def is_coroutine_function(given: Any) -> bool:
    """Whether a call gives a coroutine at once, so that it needs no thread."""
    return inspect.iscoroutinefunction(given) or inspect.iscoroutinefunction(function_of(given))


def name_of(given: Any) -> str:
    """The dotted name of a function, for people: `processors.email.handlers.send_welcome`."""
    found = given if hasattr(given, "__qualname__") else function_of(given)
    module = getattr(found, "__module__", None) or getattr(type(given), "__module__", "")
    name = getattr(found, "__qualname__", None) or type(given).__qualname__
    return f"{module}.{name}"


def parameters_of(given: Callable[..., Any]) -> list[inspect.Parameter] | None:
    """The parameters of a call; None when nothing can be known of them (some functions of C modules)."""
    try:
        return list(inspect.signature(given).parameters.values())
    except (TypeError, ValueError):
        return None


def takes_position(parameter: inspect.Parameter) -> bool:
    """Whether a positional argument can be given to it."""
    return parameter.kind in _BY_POSITION


def is_required(parameter: inspect.Parameter) -> bool:
    """Whether a call must give it."""
    return parameter.default is _P.empty and parameter.kind not in (_P.VAR_POSITIONAL, _P.VAR_KEYWORD)


def short_name_of(given: Any) -> str:
    """The name without the module, and without the functions it is local to."""
    found = given if hasattr(given, "__qualname__") else function_of(given)
    name = str(getattr(found, "__qualname__", None) or type(given).__qualname__)
    return name.rpartition("<locals>.")[2]


def shown(given: object) -> str:
    """A value in an error message, at most 60 characters."""
    try:
        text = given.__name__ if isinstance(given, type) and not hasattr(given, "__args__") else repr(given)
    except Exception:  # noqa: BLE001 - a __repr__ of the application
        text = type(given).__name__
    return text if len(text) <= 60 else f"{text[:57]}..."
