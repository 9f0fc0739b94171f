"""Dialect: how a file of stock is written, found out from its beginning."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from processors.file.encoding import LATIN, marked
from processors.file.header import Header, missing, plain, read_header
from processors.file.import_options import ImportOptions
from processors.file.refused import FileRefused

HEAD: Final = 64 * 1024
"""The bytes of the beginning that are looked at."""

HEADER_WITHIN: Final = 20
"""Rows in which the header is looked for: above it are titles, dates, remarks."""

_DELIMITERS: Final = (";", "\t", ",", "|")
_SEPARATOR_LINE: Final = re.compile(r'"?sep=([;,|\t])["\s;,|]*', re.IGNORECASE)  # Excel's own
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b\x0e-\x19\x1b-\x1f\x7f]")
_CONTROLS_SHARE: Final = 0.02  # of the characters: a few came in with pasted text
_OTHER_TEXTS: Final = (
    ("<", "a web page or XML"), ("{\\rtf", "a rich text document"), ("{", "JSON"), ("[", "JSON"), ("%PDF", "a PDF"),
    ("#!", "a program"), ("%!PS", "PostScript"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a file is written. `line` and `row` are how many of them stand before its rows, as bytes are read and as a
    spreadsheet counts; `columns`, `quantities`, `instead`, `numbers` and `cells` are its header's. `decimal` is
    empty where the file does not say it; `location` is the chosen one. A workbook has a `sheet`, and no encoding,
    delimiter and newline.
    """

    encoding: str
    delimiter: str
    newline: str
    line: int
    row: int
    columns: dict[str, int]
    cells: list[str]
    quantities: list[int]
    instead: dict[int, int] = field(default_factory=dict)
    numbers: list[int] = field(default_factory=list)
    is_comma: bool = False
    decimal: str = ""
    sheet: str = ""
    location: str = ""

    @property
    def width(self) -> int:
        """How many columns the header has."""
        return len(self.cells)

    @property
    def used(self) -> list[int]:
        """The columns that are read."""
        named = {*self.columns.values(), *self.quantities, *self.instead.values(), *self.numbers}
        return sorted(named | set(self.beside.values()))

    @property
    def beside(self) -> dict[str, int]:
        """By field, the columns without a name to the right of numbers, if commas stand between the cells: what was cut
        off a number at its comma stands there.
        """
        if self.delimiter != ",":
            return {}
        behind = {name: self.columns[name] + 1 for name in ("quantity", "price", "threshold") if name in self.columns}
        return {
            name: column for name, column in behind.items() if column < self.width and not self.cells[column].strip()
        }

    def column_name(self, name: str) -> str:
        """What the file calls a field, or the field's own name."""
        return self.cells[self.columns[name]] if name in self.columns else name

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values, to be looked at later."""
        return {**asdict(self), "instead": {str(column): new for column, new in self.instead.items()}}


def read_dialect(head: bytes, *, is_all: bool, options: ImportOptions | None = None, encoding: str = "") -> Dialect:
    """Finds out how a CSV file is written from its first `HEAD` bytes; `is_all` says that there are no more. It takes
    some milliseconds at most, whatever the bytes are.

    By its content alone: what it is called says nothing. `encoding` is what the whole file is written in, if that is
    known. Raises `FileRefused` for what is no text, no table, or names no SKU and quantity.
    """
    options = options or ImportOptions()
    if not head.strip():
        raise FileRefused("the file is empty")
    text = _text(head, encoding or options.encoding, is_all=is_all)
    begins = text.lstrip()[:10]
    for start, name in _OTHER_TEXTS:
        if begins.startswith(start):
            raise FileRefused(f"the file is {name}, and no CSV")
    newline = _newline(text)
    lines = text.split(newline)
    if len(lines) > 2 and not is_all:
        lines.pop()  # cut off
    skipped = 0
    while skipped < len(lines) - 1 and not lines[skipped].strip():
        skipped += 1
    separator = _SEPARATOR_LINE.fullmatch(lines[skipped][:100].strip())
    is_separated = separator is not None and skipped < len(lines) - 1
    skipped += is_separated
    best: tuple[tuple[Any, ...], str, Header, int, int] | None = None
    refusals: list[tuple[int, FileRefused]] = []
    for delimiter in (separator[1],) if separator else _DELIMITERS:
        records, ends = _records(lines[skipped:], delimiter)
        try:
            place, header, last = find_header(records, options)
        except FileRefused as refusal:
            refusals.append((max(map(len, records)), refusal))
            continue
        score = (header.is_complete, len(header.columns), -place if header.is_complete else 0, len(header.cells))
        if best is None or score > best[0]:
            best = (score, delimiter, header, ends[last], last + 1)
    if refusals and (best is None or not best[2].is_complete):
        raise max(refusals, key=lambda refusal: refusal[0])[1]
    assert best is not None
    _, delimiter, header, taken, rows = best
    if not header.is_complete:
        raise FileRefused(missing(header))
    return Dialect(
        encoding, delimiter, newline, skipped + taken, skipped + rows - is_separated, header.columns, header.cells,
        header.quantities, header.instead, header.numbers, header.is_comma and delimiter == ";",
        location=options.for_header(header.cells)[1],
    )  # fmt: skip


def find_header(records: Sequence[Sequence[str]], options: ImportOptions) -> tuple[int, Header, int]:
    """Finds the header among the first records: where it is, and the last line of it, as some systems write several.

    Without a complete one it is the one with which most is found, or the first that has columns.
    """
    best: tuple[tuple[int, int], int, Header] | None = None
    refused: FileRefused | None = None
    for place, cells in enumerate(records[:HEADER_WITHIN]):
        if not any(cell.strip() for cell in cells):
            continue
        try:
            header = read_header(cells, *options.for_header(cells))
        except FileRefused as refusal:
            refused = refused or refusal
            continue
        if header.is_complete:
            last = place
            while last + 1 < len(records) and _repeats(header, records[last + 1]):
                last += 1
            return place, header, last
        score = (len(header.columns) + 2 * bool(header.question), -place)
        if best is None or score > best[0]:
            best = (score, place, header)
    if refused is not None:
        raise refused
    if best is None:
        return 0, Header({}, [""]), 0
    return best[1], best[2], best[1]


def _repeats(header: Header, cells: Sequence[str]) -> bool:
    """Whether a line names the SKU and the quantity once more, in the same columns: a line for people, one for
    programs.
    """
    columns = (header.columns["sku"], header.quantities[0])
    if max(columns) >= len(cells):
        return False
    second = read_header(cells)
    return (
        second.columns.get("sku") == columns[0]
        and second.columns.get("quantity") == columns[1]
        and bool(plain(cells[columns[1]]))
    )


def _text(head: bytes, encoding: str, *, is_all: bool) -> str:
    found, mark = marked(head)
    known = found or encoding or "utf-8"
    if known == "utf-16":
        known = "utf-16-le"
    try:
        text = codecs.getincrementaldecoder(known)().decode(head[mark:], final=is_all)
    except UnicodeDecodeError as error:
        if encoding and not found:
            raise FileRefused(f"the file is not written in {encoding}: byte {error.start} cannot be") from None
        text = head.decode(LATIN, "replace")
    if is_all:
        text = text.removesuffix("\x1a")  # where DOS ends a file
    if "\0" in text or len(_CONTROLS.findall(text)) > max(2, _CONTROLS_SHARE * len(text)):
        raise FileRefused(_what(head))
    return text


def _newline(text: str) -> str:
    """What ends the first line: a line break within quotes does not."""
    is_quoted, before = False, ""
    for match in re.finditer(r'"|\r|\n', text):
        sign = match[0]
        if sign == '"':
            before = text[match.start() - 1 : match.start()]
            is_quoted = not is_quoted if is_quoted or before in ("", ";", ",", "\t", "|", '"', "\r", "\n") else False
        elif not is_quoted:
            if text.startswith("\r\r\n", match.start()):
                return "\n"  # a program has written each line's end twice
            return "\n" if sign == "\n" or text[match.start() + 1 : match.start() + 2] == "\n" else "\r"
    return "\r" if "\r" in text and "\n" not in text else "\n"


def _records(lines: Sequence[str], delimiter: str) -> tuple[list[list[str]], list[int]]:
    """The first records, and after how many lines each of them ends."""
    reader = csv.reader((f"{line.rstrip(chr(13))}\n".replace("\r", " ") for line in lines), delimiter=delimiter)
    records: list[list[str]] = []
    ends: list[int] = []
    try:
        for cells in reader:
            records.append(cells)
            ends.append(reader.line_num)
            if len(records) > HEADER_WITHIN * 2:
                break
    except csv.Error:
        pass  # what is wrong with the rows is said when they are read
    return records or [[""]], ends or [1]


def _what(head: bytes) -> str:
    """What a file that is no text seems to be, for a person."""
    for offset, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        sample = head[:2000]
        if sample[offset::2].count(0) > len(sample) * 0.4 and 0 not in sample[1 - offset :: 2]:
            return (
                f"the file is no text as it is; it seems to be UTF-16 without its mark: choose the encoding {encoding}"
            )
    if head.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        return (
            "the file is no text but seems to be an old Excel workbook (.xls), or one with a password: save it as .xlsx"
        )
    import puremagic

    try:
        found = puremagic.magic_string(head)[0]
        name = found.name or found.extension
    except (puremagic.PureError, ValueError, IndexError):
        name = "of an unknown kind"
    return f"the file is no text but seems to be {name[:80]}; only CSV and XLSX can be imported"


what_it_is = _what
