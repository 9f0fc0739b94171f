"""Declaration: whether a handler can work, said where it is declared.

Found at the first event, a handler with a wrong argument costs every event of its stream. Each refusal is one line
that says what to write.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Sequence
from typing import Annotated, Any, Final, ForwardRef, TypeVar, Union, get_args, get_origin

from uncalled_for import get_dependency_parameters, validate_dependencies

from streams.errors import StreamsError
from streams.events.event import Event
from streams.handlers.callables import (
    function_of,
    is_coroutine_function,
    is_required,
    parameters_of,
    short_name_of,
    shown,
    takes_position,
)
from streams.handlers.dependencies import check_dependencies, dependencies_of

_NOTHING_FOR: Final = (str, bytes, bytearray, int, float, bool, complex)
_LISTS: Final = "a handler with batch=Batch(...) takes a list; write (events: list[{event}])"


def check_handler(handler: Any, event: type[Event], *, is_batch: bool) -> None:
    """Raises `StreamsError` for a handler that cannot take its event, or whose dependencies cannot be made."""
    _check_callable(handler)
    write = f"(events: list[{event.__name__}])" if is_batch else f"(event: {event.__name__})"
    name = short_name_of(handler)
    given = _check_dependencies(handler, is_batch=is_batch)
    parameters = parameters_of(handler)
    if parameters is None:
        return
    if not parameters or not takes_position(parameters[0]):
        raise StreamsError(f"{name}() takes no event as its first argument; write {write}")
    if parameters[0].name in given:
        raise StreamsError(f"{name}() takes a dependency first; the event comes first: write {write[:-1]}, ...)")
    _check_rest(name, parameters[1:], given, write, is_method=parameters[0].name in ("self", "cls"))
    if parameters[0].kind is not inspect.Parameter.VAR_POSITIONAL:
        _check_annotation(name, handler, parameters[0], event, is_batch=is_batch)
    _check_returns(name, handler)


def check_schedule(function: Any, slot: type) -> None:
    """Raises `StreamsError` for a schedule's function that cannot be called with its slot, or with nothing."""
    _check_callable(function)
    name = short_name_of(function)
    given = _check_dependencies(function, is_batch=False)
    parameters = parameters_of(function) or []
    own = [each for each in parameters if each.name not in given and each.kind is not each.VAR_KEYWORD]
    if own and takes_position(own[0]) and parameters[0] is not own[0]:
        raise StreamsError(f"{name}() takes a dependency first; the slot comes first: write (slot: Slot, ...)")
    if more := [each.name for each in own[1:] if is_required(each)]:
        names = ", ".join([own[0].name, *more])
        raise StreamsError(f"{name}() takes the slot and dependencies, not {names}; write {more[0]} = Depends(...)")
    if own and own[0].kind is not inspect.Parameter.VAR_POSITIONAL:
        hint = _hint(function, own[0].annotation)
        if not _fits(hint, slot):
            raise StreamsError(f"{name}() takes {_hinted(hint)}, but is given the slot; write (slot: Slot), or ()")
    _check_returns(name, function)


def check_dead_letter_function(function: Any, event: type[Event], letter: type) -> tuple[str, str]:
    """The names of the first two arguments of a function that takes an event and its dead letter; raises
    `StreamsError` for one that cannot.
    """
    _check_callable(function)
    write, name = f"async def (event: {event.__name__}, letter: {letter.__name__})", short_name_of(function)
    if not is_coroutine_function(function):
        raise StreamsError(f"{name}() must be a coroutine function; write {write}")
    given = _check_dependencies(function, is_batch=False)
    parameters = parameters_of(function) or []
    first = parameters[:2]
    if len(first) < 2 or any(not takes_position(each) or each.name in given for each in first):
        raise StreamsError(f"{name}() takes the event and its dead letter first; write {write}")
    if any(each.kind is inspect.Parameter.VAR_POSITIONAL for each in first):
        raise StreamsError(f"{name}() takes its arguments as *{first[-1].name}; write {write}")
    _check_rest(name, parameters[2:], given, write)
    _check_annotation(name, function, first[0], event, is_batch=False)
    if not _fits(hint := _hint(function, first[1].annotation), letter):
        raise StreamsError(f"{name}() takes {_hinted(hint)}, but is given {letter.__name__}; write {write}")
    _check_returns(name, function)
    return first[0].name, first[1].name


def _check_callable(handler: Any) -> None:
    if isinstance(handler, classmethod):
        raise StreamsError(
            "a classmethod has no class yet where it is declared; after the class, write "
            "processor.on(...)(TheClass.the_method)"
        )
    if isinstance(handler, type) or not callable(handler):
        raise StreamsError(f"{shown(handler)} is no function; decorate a function, or give a bound method")
    function = function_of(handler)
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise StreamsError(
            f"{short_name_of(handler)}() yields, so that a call of it does nothing; return a list of events"
        )


def _check_dependencies(handler: Any, *, is_batch: bool) -> set[str]:
    """Checks what a function depends on, through factories too; returns the parameters that are given by it."""
    try:
        given = set(get_dependency_parameters(handler))
        validate_dependencies(handler)
        check_dependencies(handler, is_batch=is_batch)
        for dependency in dependencies_of(handler):
            _check_factory(dependency)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        if parameters_of(handler) is None:
            return set()  # a function of a C module
        raise StreamsError(f"{short_name_of(handler)}(): {error}") from error
    return given


def _check_factory(dependency: Any) -> None:
    if not hasattr(dependency, "factory"):
        return
    factory, kind = dependency.factory, type(dependency).__name__.strip("_")
    if not callable(factory):
        raise StreamsError(f"{kind}({shown(factory)}) needs a function that makes the value: {kind}(make_it)")
    given = {*get_dependency_parameters(factory), *getattr(dependency, "bindings", ())}
    if missing := [
        parameter.name
        for parameter in parameters_of(factory) or ()
        if is_required(parameter) and parameter.name not in given
    ]:
        raise StreamsError(
            f"{kind}({short_name_of(factory)}) cannot be made: nothing gives it {missing[0]}; "
            f"write {missing[0]} = Depends(...)"
        )


def _check_rest(
    name: str, rest: Sequence[inspect.Parameter], given: set[str], write: str, *, is_method: bool = False
) -> None:
    for parameter in rest:
        if parameter.name in given and parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
            raise StreamsError(f"{name}(): {parameter.name} is given by its name; remove the / behind it")
        if is_required(parameter) and parameter.name not in given:
            if is_method:
                raise StreamsError(
                    f"{name}() is a method, and takes more than {write}; register the bound one after the class: "
                    "processor.on(...)(TheClass().the_method)"
                )
            raise StreamsError(
                f"{name}(): nothing gives it {parameter.name}; write {parameter.name} = Depends(...), or a default"
            )


def _check_annotation(
    name: str, handler: Any, parameter: inspect.Parameter, event: type[Event], *, is_batch: bool
) -> None:
    hint = _hint(handler, parameter.annotation)
    if is_batch:
        if not _is_list_of(hint, event):
            raise StreamsError(f"{name}() takes {_hinted(hint)}: {_LISTS.format(event=event.__name__)}")
    elif not _fits(hint, event):
        if _is_list_of(hint, event) and get_origin(_bare(hint)) is not None:
            raise StreamsError(f"{name}() takes a list; give batch=Batch(...), or write (event: {event.__name__})")
        raise StreamsError(
            f"{name}() takes {_hinted(hint)}, but is given {event.__name__}; write (event: {event.__name__})"
        )


def _check_returns(name: str, handler: Any) -> None:
    function = function_of(handler)
    hint = _bare(_hint(handler, getattr(function, "__annotations__", {}).get("return", inspect.Parameter.empty)))
    if isinstance(hint, type) and hint in _NOTHING_FOR:
        raise StreamsError(
            f"{name}() returns {hint.__name__}, which is ignored; it returns None, an event, or a list of events"
        )


def _hint(function: Any, annotation: Any) -> Any:
    """An annotation as an object; a string where it cannot be known what it means."""
    if isinstance(annotation, ForwardRef):
        annotation = annotation.__forward_arg__
    if not isinstance(annotation, str):
        return annotation
    found = inspect.unwrap(function_of(function)) if callable(function) else function
    names = dict(getattr(found, "__globals__", {}))
    closure = getattr(found, "__closure__", None) or ()
    for name, cell in zip(getattr(getattr(found, "__code__", None), "co_freevars", ()), closure, strict=False):
        try:
            names[name] = cell.cell_contents
        except ValueError:  # not yet assigned
            continue
    try:
        found = eval(annotation, names)  # noqa: S307 - as typing.get_type_hints does, for one of the annotations
        return eval(found, names) if isinstance(found, str) else found  # noqa: S307 - quoted, and text anyway
    except Exception:  # noqa: BLE001 - a name that is imported for type checkers only, or local to a function
        return annotation


def _bare(hint: Any) -> Any:
    while True:
        if get_origin(hint) is Annotated:
            hint = get_args(hint)[0]
        elif hasattr(hint, "__supertype__"):
            hint = hint.__supertype__
        elif type(hint).__name__ == "TypeAliasType":
            hint = hint.__value__
        else:
            return hint


def _fits(hint: Any, event: type) -> bool:
    """Whether what is annotated may be given an object of this class. What cannot be known fits."""
    hint = _bare(hint)
    if hint in (inspect.Parameter.empty, Any, object) or isinstance(hint, TypeVar):
        return True
    if isinstance(hint, str):
        return _may_name(hint, event)
    if hint is None:
        return False
    origin = get_origin(hint)
    if origin is Union or origin is types.UnionType:
        return any(_fits(each, event) for each in get_args(hint))
    kind = origin or hint
    if not isinstance(kind, type):
        return True
    try:
        return getattr(kind, "_is_protocol", False) or issubclass(event, kind)
    except TypeError:
        return True


def _may_name(text: str, event: type) -> bool:
    """Whether a name that is not known here may be that of the event: any may, but those of other known events."""
    last = text.strip().rpartition(".")[2]
    return last == event.__name__ or last not in {known.__name__ for known in _subclasses(Event)}


def _subclasses(kind: type) -> set[type]:
    below: set[type] = set(kind.__subclasses__())
    return below.union(*map(_subclasses, below))


def _is_list_of(hint: Any, event: type[Event]) -> bool:
    hint = _bare(hint)
    if hint in (inspect.Parameter.empty, Any, object) or isinstance(hint, TypeVar | str):
        return not isinstance(hint, str) or hint.partition("[")[0].rpartition(".")[2] != event.__name__
    origin = get_origin(hint)
    if origin is Union or origin is types.UnionType:
        return any(_is_list_of(each, event) for each in get_args(hint))
    kind = origin or hint
    try:
        if not isinstance(kind, type) or not issubclass(list, kind):
            return False
    except TypeError:
        return True
    inside = get_args(hint)
    return not inside or _fits(inside[0], event)


def _hinted(hint: Any) -> str:
    return hint if isinstance(hint, str) else shown(hint)
