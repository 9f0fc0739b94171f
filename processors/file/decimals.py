"""Decimals: how the numbers of a file are written, and what they are. `1.000` is a thousand or one, and only other
cells of the file can say which: a cell that can be read in two ways is never guessed.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from typing import Final

import polars as pl

TYPED: Final = "\x1f"
"""Stands before what a workbook holds as a number, which is written in one way only. No text of a file begins with
it.
"""

_NAMES: Final = {".": "point", ",": "comma"}

# All of these are Rust's regular expressions, whose time is linear in the cell. [0-9], because \d is any script's
# digit.
_OTHER_DIGITS: Final = r"[\p{Nd}--0-9]"
_SIMPLE: Final = r"^[0-9]*$"
_NOT_BARE: Final = r"[^0-9.,]|[0-9],$"
# Of currencies. A cent is none of them: 99¢ are not 99.
_SIGNS: Final = r"[\p{Sc}--[¢￠]]|[A-Z]{3}|R\$|US\$|A\$|C\$|S/|kr\.?|zł|Kč|Ft|lei|Lei|Fr\.?|SFr\.?|Rs\.?|EUR|Euro|euro"
_GROUPED: Final = r"-?[0-9]{1,3}(?:(?: [0-9]{3})+|(?:'[0-9]{3})+)"
_WHOLE: Final = rf"^(?:-?[0-9]+|{_GROUPED})$"


def _definite(point: str, comma: str) -> str:
    """What can only be read with `point` as the decimal sign."""
    return (
        rf"^(?:-?[0-9]{{1,3}}(?:{comma}[0-9]{{3}})+{point}[0-9]+"  # 1,234.5
        rf"|-?[0-9]{{1,3}}(?:{comma}[0-9]{{3}}){{2,}}"  # 1,234,567
        rf"|-?[0-9]*{point}(?:[0-9]{{1,2}}|[0-9]{{4,}})"  # 1.5, .25, 1.2345
        rf"|-?(?:[0-9]{{4,}}|0[0-9]*)?{point}[0-9]{{3}}"  # 1234.500, 0.125
        rf"|{_GROUPED}{point}[0-9]+)$"  # 1 234.5, 1'234.5
    )


_INDIAN: Final = r"|^-?[0-9]{1,2}(?:,[0-9]{2})+,[0-9]{3}(?:\.[0-9]+)?$"  # 12,34,567
_POINT: Final = _definite(r"\.", ",") + _INDIAN
_COMMA: Final = _definite(",", r"\.")
_EITHER: Final = r"^-?[1-9][0-9]{0,2}[.,][0-9]{3}$"
_DAY: Final = r"^-?0[0-9]+[.,][0-9]{1,2}$"  # 01.02 is a day
_PLAIN: Final = rf"^{TYPED}?[1-9][0-9]{{0,2}}$"
# What has a part behind its decimal sign, by the sign.
_PARTS: Final = {".": r"\.[0-9]*[1-9][0-9]*$", ",": r",[0-9]*[1-9][0-9]*$"}


@dataclass(slots=True)
class Evidence:
    """Where a file writes a decimal point, and where a comma: line and cell of the first of each.

    `weak` is the same of columns that are not imported, `doubtful` of cells that are no whole number and should be:
    `10.05` may be a day. For columns of whole numbers `thousands` has, by column and sign, the first cell that is whole
    in one reading of its sign, as `1.000`, and `plain` the first one below a thousand without any sign.
    """

    found: dict[str, tuple[int, str]] = field(default_factory=dict)
    weak: dict[str, tuple[int, str]] = field(default_factory=dict)
    doubtful: dict[str, tuple[int, str]] = field(default_factory=dict)
    thousands: dict[str, dict[str, tuple[int, str]]] = field(default_factory=dict)
    plain: dict[str, tuple[int, str]] = field(default_factory=dict)

    def contradiction(self) -> str:
        """The words for the sender of a file that does both; empty when it does not."""
        for cells in self.thousands.values():
            if len(cells) == 2:
                (point_line, point), (comma_line, comma) = cells["."], cells[","]
                return (
                    f"line {point_line} has {point[:30]!r} and line {comma_line} has {comma[:30]!r}: one of them is a "
                    "thousand, or both are; write all numbers in one way, or choose the decimal sign (decimal='.' or "
                    "decimal=',')"
                )
        if len(self.found) < 2:
            return self._mixed(next(iter(self.found), ""))
        (point_line, point), (comma_line, comma) = self.found["."], self.found[","]
        return (
            f"line {point_line} has a decimal point ({point[:30]!r}) and line {comma_line} a decimal comma "
            f"({comma[:30]!r}): write all numbers in one way, or choose the decimal sign (decimal='.' or decimal=',')"
        )

    def decimal(self, *, is_comma: bool) -> str | None:
        """The sign, from the strongest evidence; `is_comma` is what the delimiter and the language of the header say.
        What is weaker counts where none of it contradicts the rest.
        """
        signs = set(self.found) or {*self.doubtful, *self.weak, *((",",) if is_comma else ())}
        sign = signs.pop() if len(signs) == 1 else None
        return sign if sign and not self._mixed(sign) else None

    def _mixed(self, sign: str) -> str:
        """The words for a column in which `1.000` would be 1 beside a plain 3: decimals are written always."""
        for column, cells in self.thousands.items():
            if sign in cells and column in self.plain:
                (line, cell), (plain_line, plain) = cells[sign], self.plain[column]
                return (
                    f"line {line} has {cell[:30]!r} and line {plain_line} has {plain[:30].strip(TYPED)!r} in the same "
                    f"column: is {cell[:30]!r} a thousand? Write all numbers in one way, or choose the decimal sign "
                    "(decimal='.' or decimal=',')"
                )
        return ""


def clean_numbers(cells: pl.Series, *, is_price: bool = False) -> pl.Series:
    """Cells as they are, but for what is no part of the number: spaces around it, invisible characters, a plus, a
    currency. Digits of all scripts are 0-9 then, minus is `-`, a space of any kind is one, an apostrophe too.
    """
    if not cells.str.contains(_NOT_BARE).any():
        return cells.str.strip_suffix(".").replace("", None)
    if cells.str.contains(_OTHER_DIGITS).any():
        cells = cells.map_elements(_with_ascii_digits, return_dtype=pl.String)
    cell = pl.col("cell")
    cleaned = (
        cell.str.replace_all(r"[\p{Cf}]", "")
        .str.replace_all(r"[\p{Zs}\t]", " ")
        .str.replace_all("[’ʼ‘´`]", "'")
        .str.replace_all("[−‒–—﹣－]", "-")
        .str.replace(r'^ *="(.*)" *$', "$1")
        .str.strip_chars(" \r\n")
    )
    if is_price:
        cleaned = (
            cleaned.str.replace(rf"^(-?) ?(?:{_SIGNS}) ?(-?[0-9.,(])", "$1$2")
            .str.replace(rf"([0-9.,)]) ?(?:{_SIGNS}) ?-?$", "$1")
            .str.replace(r"^(-?[0-9][0-9.' ]*),-+$", "$1")
            .str.replace(r"^(-?[0-9][0-9,' ]*)\.-+$", "$1")
        )
    cleaned = (
        cleaned.str.replace(r"^\+ ?([0-9.,])", "$1")
        .str.replace(r"^\(([0-9][0-9.,' ]*)\)$", "-$1")
        .str.replace(r"^([0-9][0-9.,' ]*)-$", "-$1")  # as SAP writes it
        .str.replace(r"^- ([0-9])", "-$1")
        .str.replace(r"^(-?[0-9]+)[.,]$", "$1")
    )
    cleaned = pl.when(cleaned != "").then(cleaned)
    return pl.DataFrame({"cell": cells}).select(cleaned.alias("cell")).to_series()


def kinds(cells: pl.Series) -> pl.Series:
    """Of cleaned cells: `whole`, `.`, `,` (the decimal sign it must have), `either`, `typed`, or `odd`; null for
    none.
    """
    if cells.str.contains(_SIMPLE).all():
        return pl.select(pl.when(cells.is_not_null()).then(pl.lit("whole"))).to_series()
    cell = pl.col("cell")
    kind = (
        pl.when(cell.is_null())
        .then(pl.lit(None, pl.String))
        .when(cell.str.starts_with(TYPED))
        .then(pl.lit("typed"))
        .when(cell.str.contains(_WHOLE))
        .then(pl.lit("whole"))
        .when(cell.str.contains(_EITHER))
        .then(pl.lit("either"))
        .when(cell.str.contains(_DAY))
        .then(pl.lit("odd"))
        .when(cell.str.contains(_POINT))
        .then(pl.lit("."))
        .when(cell.str.contains(_COMMA))
        .then(pl.lit(","))
        .otherwise(pl.lit("odd"))
    )
    return pl.DataFrame({"cell": cells}).select(kind.alias("cell")).to_series()


def plain_number(cell: pl.Expr, kind: pl.Expr, decimal: str | None) -> pl.Expr:
    """The number as Python writes it; what cannot be read so stays as it is. With no `decimal`, each cell that has only
    one reading is read by itself.
    """
    point = cell.str.replace_all("[ ',]", "")
    comma = cell.str.replace_all("[ '.]", "").str.replace(",", ".", literal=True)
    read = pl.when(kind == "typed").then(cell.str.slice(1)).when(kind == "whole").then(cell.str.replace_all("[ ']", ""))
    if decimal != ",":
        read = read.when(kind == ".").then(point)
    if decimal != ".":
        read = read.when(kind == ",").then(comma)
    if decimal:
        read = read.when(kind == "either").then(point if decimal == "." else comma)
    return read.otherwise(cell)


def either_problem(cell: pl.Expr) -> pl.Expr:
    """What is wrong with a cell that can be read in two ways: both of them."""
    thousand = cell.str.replace_all("[.,]", "")
    one = cell.str.replace(",", ".", literal=True).str.replace(r"\.000$", "").str.replace(r"(\.[0-9]*[1-9])0+$", "$1")
    return pl.format("could be {} or {}", thousand, one)


def other_sign_problem(decimal: str) -> str:
    """What is wrong with a cell that has the other decimal sign than the chosen one."""
    other = "," if decimal == "." else "."
    return f"has a decimal {_NAMES[other]}, and the chosen one is the {_NAMES[decimal]}"


def collect(found: dict[str, tuple[int, str]], lines: pl.Series, cells: pl.Series, kind: pl.Series) -> None:
    """Notes the first cell of each sign that is not noted yet."""
    for sign in (".", ","):
        if sign in found:
            continue
        place = (kind == sign).arg_true()
        if len(place):
            found[sign] = (lines[place[0]], cells[place[0]])


def collect_whole(evidence: Evidence, column: str, lines: pl.Series, cells: pl.Series, kind: pl.Series) -> None:
    """The same for a column of whole numbers."""
    if column not in evidence.plain and len(place := cells.str.contains(_PLAIN).arg_true()):
        evidence.plain[column] = (lines[place[0]], cells[place[0]])
    if not kind.is_in([".", ",", "either"]).any():
        return
    frame = pl.DataFrame({"line": lines, "cell": cells, "kind": kind})
    cell = pl.col("cell")
    for sign, part in _PARTS.items():
        is_part = cell.str.contains(part)
        for known, rows in (
            (evidence.doubtful, frame.filter((pl.col("kind") == sign) & is_part)),
            (evidence.found, frame.filter((pl.col("kind") == sign) & ~is_part)),
            (
                evidence.thousands.setdefault(column, {}),
                frame.filter((pl.col("kind") == "either") & cell.str.contains(sign, literal=True)),
            ),
        ):
            if rows.height:
                known.setdefault(sign, rows.select("line", "cell").row(0))


def _with_ascii_digits(cell: str) -> str:
    if cell.isascii():
        return cell
    return "".join(str(unicodedata.digit(c)) if unicodedata.category(c) == "Nd" else c for c in cell)


def is_number(cell: str) -> bool:
    """Whether a raw cell is a number in some way of writing it."""
    return re.fullmatch(r"-?[0-9][0-9.,' ]*", cell.strip()[:40]) is not None
