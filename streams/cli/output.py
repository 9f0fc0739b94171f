"""Output: what commands write, for people and for programs.

Text from messages is hostile: a type or an error text may hold escape sequences that repaint the terminal.
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_WIDE: Final = 10_000  # columns of a pipe: nothing is cut or wrapped for a program
_BIDI: Final = frozenset("\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def safe(text: object, keep: str = "") -> str:
    """The text with control characters and direction overrides written as escapes; those in `keep` stay."""
    return "".join(
        character
        if character in keep or (unicodedata.category(character) not in ("Cc", "Cs") and character not in _BIDI)
        else character.encode("unicode_escape", "surrogatepass").decode()
        for character in str(text)
    )


def write(text: str = "") -> None:
    """One line on stdout, as it is."""
    sys.stdout.write(f"{text}\n")


def note(text: str) -> None:
    """One line for people on stderr: it never mixes with data."""
    sys.stderr.write(f"{safe(text)}\n")


def write_json(value: Any) -> None:
    """One JSON value: indented on a terminal, one line in a pipe."""
    write(orjson.dumps(value, option=orjson.OPT_INDENT_2 if sys.stdout.isatty() else 0, default=str).decode())


@contextmanager
def json_array() -> Iterator[Callable[[Any], None]]:
    """An array that is written item by item, a line each; it is closed also when the command fails on the way."""
    count = 0

    def item(value: Any) -> None:
        nonlocal count
        sys.stdout.write(("[\n" if count == 0 else ",\n") + orjson.dumps(value, default=str).decode())
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


def pairs(made: Sequence[tuple[str, object]]) -> Table:
    """Names and values, one below the other; empty values are left out."""
    from rich.table import Table
    from rich.text import Text

    listed = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    listed.add_column(style="bold", no_wrap=True)
    listed.add_column(overflow="fold")
    for name, value in made:
        if value not in ("", None):
            listed.add_row(name, value if isinstance(value, Text) else Text(safe(value, keep="\n")))
    return listed
