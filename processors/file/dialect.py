"""Dialect: how a CSV file is written, found out from its beginning."""

from __future__ import annotations

import codecs
import csv
import re
from dataclasses import asdict, dataclass
from typing import Any, Final

from processors.file.header import Header, missing, read_header
from processors.file.refused import FileRefused

HEAD: Final = 64 * 1024
"""The bytes of the beginning that are looked at."""

_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_DELIMITERS: Final = (";", "\t", ",", "|")
_SEPARATOR_LINE: Final = re.compile(r"sep=([;,|\t])\r?", re.IGNORECASE)  # Excel's own
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")
_COMMA_AMOUNT: Final = re.compile(r"\s*[€$£]?\s*\d[\d.\s]*,\d{1,2}\s*[€$£]?\s*")
_OTHER_TEXTS: Final = (
    ("<", "a web page or XML"), ("{\\rtf", "a rich text document"), ("{", "JSON"), ("[", "JSON"), ("%PDF", "a PDF"),
    ("#!", "a program"), ("%!PS", "PostScript"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a file is written. `position` and `line` are where its rows begin: bytes, and lines before them."""

    encoding: str
    delimiter: str
    newline: str
    decimal: str
    position: int
    line: int
    columns: dict[str, int]
    width: int

    @property
    def header(self) -> Header:
        """Which column is which."""
        return Header(self.columns, self.width)

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values; `Dialect(**values)` reads them."""
        return asdict(self)


def read_dialect(head: bytes, *, is_all: bool) -> Dialect:
    """Finds out how a file is written from its first `HEAD` bytes; `is_all` says that there are no more.

    By its content alone: what it is called says nothing. Text is UTF-8, UTF-16 with its mark, or else Windows' Latin
    (cp1252). Raises `FileRefused` for what is no text, no table, or names no SKU and quantity.
    """
    if not head.strip():
        raise FileRefused("the file is empty")
    encoding, mark = _encoding(head, is_all=is_all)
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(head[len(mark) :], final=is_all)
    except UnicodeDecodeError:
        raise FileRefused(_what(head)) from None
    if _CONTROLS.search(text):
        raise FileRefused(_what(head))
    begins = text.lstrip()[:10]
    for start, name in _OTHER_TEXTS:
        if begins.startswith(start):
            raise FileRefused(f"the file is {name}, and no CSV")
    newline = "\r" if "\r" in text and "\n" not in text else "\n"
    lines = text.split(newline)
    if len(lines) > 2 and not is_all:
        lines.pop()  # cut off
    skipped = 0
    while skipped < len(lines) - 1 and not lines[skipped].strip():
        skipped += 1
    separator = _SEPARATOR_LINE.fullmatch(lines[skipped])
    skipped += separator is not None and skipped < len(lines) - 1
    delimiter, header, cells, taken = _table(lines[skipped:], separator[1] if separator else None)
    if not header.is_complete:
        raise FileRefused(missing(header, cells))
    before = lines[: skipped + taken]
    position = len(mark) + sum(len(line.encode(encoding)) + len(newline.encode(encoding)) for line in before)
    decimal = _decimal(lines[skipped + taken : skipped + taken + 1000], delimiter, header)
    return Dialect(encoding, delimiter, newline, decimal, position, len(before), header.columns, header.width)


def _encoding(head: bytes, *, is_all: bool) -> tuple[str, bytes]:
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding, mark
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head, final=is_all)
    except UnicodeDecodeError:
        return "cp1252", b""
    return "utf-8", b""


def _table(lines: list[str], delimiter: str | None) -> tuple[str, Header, list[str], int]:
    """The delimiter with which the first line names most of what is looked for, or else has most columns."""
    best: tuple[tuple[int, int], str, Header, list[str], int] | None = None
    for candidate in (delimiter,) if delimiter else _DELIMITERS:
        reader = csv.reader((f"{line}\n" for line in lines), delimiter=candidate)
        try:
            cells = next(reader)
            header = read_header(cells)
        except csv.Error as error:
            raise FileRefused(f"the first line cannot be read: {error}") from None
        score = (len(header.columns), len(cells))
        if best is None or score > best[0]:
            best = (score, candidate, header, cells, reader.line_num)
    assert best is not None
    return best[1:]


def _decimal(lines: list[str], delimiter: str, header: Header) -> str:
    """A comma, if a price is written with one; where the comma separates columns it is in quotes."""
    column = header.columns.get("price")
    if column is None:
        return "."
    try:
        for cells in csv.reader((f"{line}\n" for line in lines), delimiter=delimiter):
            if column < len(cells) and _COMMA_AMOUNT.fullmatch(cells[column]):
                return ","
    except csv.Error:
        pass  # it is told with its line when the rows are read
    return "."


def _what(head: bytes) -> str:
    """What a file that is no text seems to be, for a person."""
    import puremagic

    try:
        found = puremagic.magic_string(head)[0]
        name = found.name or found.extension
    except (puremagic.PureError, ValueError, IndexError):
        name = "of an unknown kind"
    return f"the file is no text but seems to be {name[:80]}; only CSV can be imported"
