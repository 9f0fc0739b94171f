"""Error text: what an exception may say where people read it (dead letters, logs, traces), whatever it is.

An exception is user code: its `__str__` may raise, hang on to gigabytes or do things, its class may lie, its causes may
go round in a circle. Describing one never raises for that, and asks each exception for its text once.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Sequence
from typing import Any, Final

from pydantic import ValidationError

from streams.redaction import LONGEST, one_line, scrub

CAUSE: Final = "\n\ncaused by\n"
"""Before the section of what an exception was raised from, or of the first exception in a group."""

OTHER: Final = "\n\nand by\n"
"""Before another exception of the group."""

CONTEXT: Final = "\n\nwhile handling\n"
"""Before the section of what was being handled when the exception was raised."""

NOTE: Final = " [note: "
"""Begins the text of an `add_note`."""

LONGEST_TRACEBACK: Final = 8_000
_DEEPEST: Final = (12, 6, 3)  # frames of a section; fewer where all of them would not fit
_MOST_SECTIONS: Final = 8
_MOST_LEAVES: Final = 1_000
_SHOWN: Final = 5

# Read past the class of an exception, which may have a property of that name.
_of: Final[Any] = BaseException.__dict__
_members: Final[Any] = BaseExceptionGroup.__dict__["exceptions"]
_message: Final[Any] = BaseExceptionGroup.__dict__["message"]
_name: Final[Any] = type.__dict__["__name__"]


class Fatal(BaseException):
    """No failure of a delivery: the process is to end where it is raised. A process that does not end by itself, as
    that of a test, raises it (`streams.testing.Crash`).
    """


def is_group(error: BaseException) -> bool:
    """Whether it is a group of exceptions, whatever it says of its class."""
    return issubclass(type(error), BaseExceptionGroup)


def leaves(error: BaseException) -> list[BaseException]:
    """The exceptions of a group and of the groups in it, each once, at most 1,000; of any other just itself."""
    if not is_group(error):
        return [error]
    found: dict[int, BaseException] = {}
    todo, seen = [error], set[int]()
    while todo and len(found) < _MOST_LEAVES:
        each = todo.pop()
        if not is_group(each):
            found[id(each)] = each
        elif id(each) not in seen:
            seen.add(id(each))
            todo.extend(reversed(_members.__get__(each)))
    return list(found.values())


def passes(error: BaseException) -> BaseException | None:
    """What must be raised on, as it is no failure of a delivery: a `KeyboardInterrupt`, the cancel of the task (also
    in a group with nothing else), and the end of a coroutine that is closed. None for everything else.
    """
    kind = type(error)
    if is_group(error):
        inside = leaves(error)
        for each in inside:
            if issubclass(type(each), KeyboardInterrupt | Fatal):
                return each
        return inside[0] if all(issubclass(type(each), asyncio.CancelledError) for each in inside) else None
    is_signal = issubclass(kind, KeyboardInterrupt | Fatal | asyncio.CancelledError | GeneratorExit)
    return error if is_signal else None


def describe(error: BaseException) -> str:
    """One line: see `Failure.text`."""
    return Failure(error).text


def describe_traceback(error: BaseException) -> str:
    """Where it happened: see `Failure.traceback`."""
    return Failure(error).traceback


class Failure:
    """An exception in words. Of a group, `leading` is the exception that stands first."""

    def __init__(self, error: BaseException, leading: BaseException | None = None) -> None:
        self._error = error
        self._leading = leading
        self._lines: dict[int, str] = {}
        self._kept: list[BaseException] = []  # an id is an exception's own while it lives

    @property
    def text(self) -> str:
        """One line of at most 500 characters: class, scrubbed message and notes; of a validation error only fields and
        rules. Of a group what is in it, then the group: `ValueError: no (in ExceptionGroup: two failed)`.
        """
        if not is_group(self._error):
            return self._line(self._error)
        inside = self._inside(self._error)
        label = _labelled(_class_of(self._error), _message.__get__(self._error), 120)
        more = f"; and {len(inside) - _SHOWN} more" if len(inside) > _SHOWN else ""
        tail = f"{more} (in {label})"
        room = (LONGEST - len(tail)) // min(len(inside), _SHOWN) - 2
        return "; ".join(self._line(each)[:room] for each in inside[:_SHOWN]) + tail

    @property
    def message(self) -> str:
        """The message alone, without the class; may be empty."""
        return one_line(_said(self._error))

    @property
    def traceback(self) -> str:
        """The frames and the line of the exception and of what caused it, without values, at most 8,000 characters."""
        text = ""
        for deepest in _DEEPEST:
            text = self._sections(deepest)
            if len(text) <= LONGEST_TRACEBACK:
                break
        return text[:LONGEST_TRACEBACK]

    def _sections(self, deepest: int) -> str:
        parts: list[str] = []
        seen: set[int] = set()
        todo: list[tuple[str, BaseException]] = [("", self._error)]
        while todo and len(seen) < _MOST_SECTIONS:
            before, error = todo.pop()
            if id(error) in seen:
                continue
            seen.add(id(error))
            grouped = is_group(error)
            line = _labelled(_class_of(error), _message.__get__(error), LONGEST) if grouped else self._line(error)
            parts.append(before + _frames(error, deepest) + line)
            if grouped:
                inside = self._inside(error)
                todo += [(OTHER, each) for each in reversed(inside[1:_SHOWN])]
                todo.append((CAUSE, inside[0]))
            elif (cause := _of["__cause__"].__get__(error)) is not None:
                todo.append((CAUSE, cause))
            elif _of["__suppress_context__"].__get__(error):
                continue
            elif (context := _of["__context__"].__get__(error)) is not None:
                todo.append((CONTEXT, context))
        return "".join(parts)

    def _inside(self, error: BaseException) -> list[BaseException]:
        """What is in a group, the leading one first, what was only cancelled last."""
        inside = leaves(error)
        if len(inside) > 1:
            inside.sort(key=lambda each: (each is not self._leading, issubclass(type(each), asyncio.CancelledError)))
        return inside

    def _line(self, error: BaseException) -> str:
        line = self._lines.get(id(error))
        if line is None:
            self._kept.append(error)
            notes = "".join(f"{NOTE}{one_line(note, 200)}]" for note in _notes(error))
            # Of what does not fit a class, the class says more than `ValidationError`, and its text begins with that.
            fits_not = issubclass(type(error), ValidationError)
            length = max(100, LONGEST - len(notes))
            line = one_line(_said(error), length) if fits_not else _labelled(_class_of(error), _said(error), length)
            line = self._lines[id(error)] = (line + notes)[:LONGEST]
        return line


def name_of_class(given: object) -> str:
    """The name of an object's class, whatever the object or the class say themselves."""
    return _class_of(given)


def _class_of(error: object) -> str:
    return one_line(str(_name.__get__(type(error))), 100) or "Exception"


def _labelled(name: str, text: str, length: int) -> str:
    text = one_line(text, length)
    return f"{name}: {text}"[:length] if text else name


def _said(error: BaseException) -> str:
    """What an exception says of itself; where that cannot be read, what it was made of."""
    if issubclass(type(error), ValidationError):
        return _problems(error)
    try:
        return str.__str__(str(error))
    except KeyboardInterrupt:
        raise
    except BaseException as broken:  # noqa: BLE001 - a __str__ of the application may raise anything
        made_of = [_part(part) for part in _of["args"].__get__(error) if type(part) in (str, int, float, bool)]
        return ", ".join((f"(its text cannot be read: {_class_of(broken)})", *made_of))


def _part(value: str | float) -> str:
    try:
        return str(value)
    except ValueError:  # Python writes no integer of more than some thousand digits
        return f"an integer of {int(value).bit_length()} bits"


def _problems(error: Any) -> str:
    try:
        if (count := error.error_count()) > _MOST_LEAVES:
            return f"{error.title}: {count} problems"
        problems: Sequence[Any] = error.errors(include_url=False, include_context=False, include_input=False)
        lines = "; ".join(
            f"{'.'.join(map(str, problem['loc'])) or 'data'}: {problem['msg']}" for problem in problems[:_SHOWN]
        )
    except KeyboardInterrupt:
        raise
    except BaseException as broken:  # noqa: BLE001 - a rule's own exception is asked for its text here
        return f"(its problems cannot be read: {_class_of(broken)})"
    return f"{error.title}: {lines}"


def _notes(error: BaseException) -> list[str]:
    try:
        notes = getattr(error, "__notes__", None)
        return [note for note in notes if isinstance(note, str)][:3] if isinstance(notes, list | tuple) else []
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - as a text
        return []


def _frames(error: BaseException, deepest: int) -> str:
    try:
        found = traceback.extract_tb(_of["__traceback__"].__get__(error), limit=-deepest)
        lines = [line if len(line) <= 400 else f"{line[:400].rstrip()}\n" for line in traceback.format_list(found)]
        return scrub("".join(lines), LONGEST_TRACEBACK)
    except KeyboardInterrupt:
        raise
    except BaseException as broken:  # noqa: BLE001 - the loader of a module is asked for its source
        return f"  (its frames cannot be read: {_class_of(broken)})\n"
