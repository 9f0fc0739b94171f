"""Output: what commands write, for people and for programs.

Text from messages is hostile: a type or an error text may hold escape sequences that repaint the terminal.
"""

from __future__ import annotations

import errno
import io
import json
import os
import sys
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_WIDE: Final = 10_000  # columns of a pipe: nothing is cut or wrapped for a program
_OF_OUTPUT: Final = frozenset({errno.EPIPE, errno.ENOSPC, errno.EBADF, errno.EIO, errno.EDQUOT, errno.EFBIG})
_BIDI: Final = frozenset("\u061c\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def safe(text: object, keep: str = "") -> str:
    """The text with control characters and direction overrides written as escapes; those in `keep` stay."""
    return "".join(
        character
        if character in keep or (unicodedata.category(character) not in ("Cc", "Cs") and character not in _BIDI)
        else character.encode("unicode_escape", "surrogatepass").decode()
        for character in str(text)
    )


def brief(text: str, most: int = 128) -> str:
    """A name from outside, cut: a publisher may make an id or type of any length."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text):,} characters)"


def write(text: str = "") -> None:
    """One line on stdout, as it is."""
    sys.stdout.write(f"{text}\n")


def note(text: str) -> None:
    """One line for people on stderr: it never mixes with data."""
    sys.stderr.write(f"{safe(text)}\n")


def write_json(value: Any) -> None:
    """One JSON value: indented on a terminal, one line in a pipe."""
    write(json_text(value, indent=sys.stdout.isatty()))


def json_text(value: Any, *, indent: bool = False) -> str:
    """A value as JSON. On a terminal what `safe` escapes is escaped, and where stdout is not UTF-8, all that is not
    ASCII: both as JSON does it, so that it reads as the same value.
    """
    try:
        text = orjson.dumps(value, option=orjson.OPT_INDENT_2 if indent else 0, default=str).decode()
    except TypeError:  # what came from the command line may be no UTF-8
        text = json.dumps(value, default=str, indent=2 if indent else None)
    if not _is_utf8():
        return "".join(each if each.isascii() and each != "\x7f" else _escaped(each) for each in text)
    if sys.stdout.isatty():
        return "".join(each if each == "\n" or safe(each) == each else _escaped(each) for each in text)
    return text


def _escaped(character: str) -> str:
    return "\\u007f" if character == "\x7f" else json.dumps(character)[1:-1]


def _is_utf8() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


class Lenient(io.TextIOBase):
    """A stdout that may be full or closed: what is written is lost then, and that is said once. For a command that has
    done something that must not be done twice because its receipt could not be printed.
    """

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._failed = False

    def write(self, text: str) -> int:
        """Writes, or loses it."""
        self._try(lambda: self._inner.write(text))
        return len(text)

    def flush(self) -> None:
        """Writes what is buffered, or loses it."""
        self._try(self._inner.flush)

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return bool(self._inner.isatty())

    def fileno(self) -> int:
        """Its descriptor."""
        return int(self._inner.fileno())

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Of the stdout behind it."""
        return str(self._inner.encoding)

    def _try(self, act: Callable[[], object]) -> None:
        if self._failed:
            return
        try:
            act()
        except OSError as error:
            self._failed = True
            discard_stdout(self._inner)
            note(f"done, but it cannot be printed: {error.strerror}")


def is_of_output(error: BaseException) -> bool:
    """Whether an error is of what was written, not of Redis, whose errors redis-py wraps."""
    return isinstance(error, OSError) and error.errno in _OF_OUTPUT


def discard_stdout(stdout: Any) -> None:
    """Lets what is left in a stdout that cannot be written go nowhere: Python flushes it once more when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stdout.fileno())
    os.close(nowhere)


def open_missing() -> None:
    """Opens what the shell has closed (`>&-`) to nowhere: the next file or socket would be taken for stdout. Text that
    the encoding of an output does not have is written with escapes.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # Takes the lowest number that is free: this one. What is written to 1 fails, as it does in other programs.
            os.open(os.devnull, os.O_RDONLY if number == 1 else os.O_RDWR)
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - open for as long as the process
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name) or open(number, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - likewise
        setattr(sys, name, stream)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def json_array() -> Iterator[Callable[[Any], None]]:
    """An array that is written item by item, a line each; it is closed also when the command fails on the way."""
    count = 0

    def item(value: Any) -> None:
        nonlocal count
        sys.stdout.write(("[\n" if count == 0 else ",\n") + json_text(value))
        count += 1

    try:
        yield item
    finally:
        sys.stdout.write("\n]\n" if count else "[]\n")


def console(*, stderr: bool = False) -> Console:
    """A rich console; a pipe is as wide as anything written to it."""
    from rich.console import Console

    file = sys.stderr if stderr else sys.stdout
    return Console(
        file=file, width=None if file.isatty() else _WIDE, highlight=False, markup=False, emoji=False, soft_wrap=False
    )


def print_rich(what: Any) -> None:
    """Prints something of rich; a pipe gets no blanks at the ends of lines."""
    screen = console()
    if sys.stdout.isatty():
        screen.print(what)
        return
    with screen.capture() as captured:
        screen.print(what)
    for line in captured.get().splitlines():
        write(line.rstrip())


def table(*columns: str, right: Iterable[str] = (), whole: Iterable[str] = ()) -> Table:
    """A plain table: `right` columns hold numbers, `whole` columns ids, which are never wrapped or cut."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        numbers = column in right
        made.add_column(
            column, justify="right" if numbers else "left", no_wrap=numbers or column in whole, overflow="fold"
        )
    return made


def row(made: Table, *cells: object, style: str = "") -> None:
    """Adds a row of safe text."""
    from rich.text import Text

    made.add_row(*(cell if isinstance(cell, Text) else Text(safe(cell)) for cell in cells), style=style or None)


def pairs(made: Sequence[tuple[str, object]], several: Collection[str] = ()) -> Table:
    """Names and values, one below the other; empty values are left out. A value is one line, whatever it holds; of
    those named in `several` each line is marked: none can be taken for a line of the command's own.
    """
    from rich.table import Table
    from rich.text import Text

    listed = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    listed.add_column(style="bold", no_wrap=True)
    listed.add_column(overflow="fold")
    for name, value in made:
        if value not in ("", None):
            shown = "\n".join(f"| {safe(line)}" for line in str(value).splitlines()) if name in several else safe(value)
            listed.add_row(name, value if isinstance(value, Text) else Text(shown))
    return listed
