"""check_rows: which rows of a chunk can be written and what is wrong with the others, all rows at once in polars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from processors.file.csv_chunks import EXTRA
from processors.file.dialect import Dialect
from processors.file.header import FIELDS
from schemas.inventory import MOST_STOCK

_SPACES: Final = " \t\u00a0\u202f"
_CURRENCIES: Final = "€$£"
_MOST_THRESHOLD: Final = 2**31 - 1
_LONGEST: Final = {"sku": 64, "name": 200, "category": 64}
_CONTROLS: Final = r"[\x00-\x1f\x7f]"
# What a spreadsheet would calculate, and what calls a program from one (DDE) behind a sign.
_FORMULA: Final = r"^(?:[=@]|[+\-].*[|!(])"
# An export writes '=1+1 for the text =1+1: it comes back as it was.
_GUARDED: Final = r"^'([\s\"']*[=+\-@])"

_NOTHING: Final = pl.lit(None, pl.String)


@dataclass(frozen=True, slots=True)
class RowCheck:
    """`good` has `line` and the six fields, null where a cell is blank; `problems` has `line`, `field` and `problem`,
    the first of each cell; `rows` counts all but blank ones.
    """

    good: pl.DataFrame
    problems: pl.DataFrame
    rows: int


def check_rows(rows: pl.DataFrame, dialect: Dialect) -> RowCheck:
    """Checks the rows of a chunk. Numbers are taken as `dialect.decimal` has them, with or without thousands."""
    read = _read(rows, dialect)
    checked = read.with_columns(
        problem_sku=_text_problem("sku", required=True),
        problem_name=_text_problem("name"),
        problem_category=_text_problem("category"),
        problem_quantity=_whole_problem("quantity", MOST_STOCK, required=True),
        problem_threshold=_whole_problem("threshold", _MOST_THRESHOLD),
        problem_price=_price_problem(pl.col("price")),
        problem_row=pl.when(pl.col(EXTRA).is_not_null()).then(pl.lit("has more fields than the first line")),
    )
    found = [name for name in checked.columns if name.startswith("problem_")]
    problems = (
        checked.unpivot(found, index="line", variable_name="field", value_name="problem")
        .drop_nulls("problem")
        .with_columns(pl.col("field").str.replace("problem_", "", literal=True))
        .sort("line", "field")
        .select(pl.col("line"), pl.col("field"), pl.col("problem"))
    )
    return RowCheck(_typed(checked.filter(pl.all_horizontal(pl.col(found).is_null()))), problems, read.height)


def good_rows(rows: pl.DataFrame, dialect: Dialect, refused: Sequence[int]) -> pl.DataFrame:
    """The `good` of rows that were checked before, of which the lines `refused` had something wrong."""
    read = _read(rows, dialect)
    return _typed(read.filter(~pl.col("line").is_in(refused)) if refused else read)


def _read(rows: pl.DataFrame, dialect: Dialect) -> pl.DataFrame:
    """The fields as text, trimmed, null where they are blank, numbers as Python writes them; without blank rows."""
    cells = {
        field: pl.col(str(dialect.columns[field])).str.strip_chars() if field in dialect.columns else _NOTHING
        for field in FIELDS
    }
    given = rows.select("line", EXTRA, **{field: _blank_as_null(cell) for field, cell in cells.items()})
    given = given.filter(pl.any_horizontal(pl.col(*FIELDS, EXTRA).is_not_null()))
    return given.with_columns(
        pl.col("quantity", "threshold").pipe(_plain, dialect.decimal).str.replace(r"\.0+$", ""),
        pl.col("price").str.strip_chars(_CURRENCIES + _SPACES).pipe(_plain, dialect.decimal),
    )


def _typed(read: pl.DataFrame) -> pl.DataFrame:
    return read.select(
        "line",
        pl.col("sku", "name", "category").str.replace(_GUARDED, "$1"),
        pl.col("quantity", "threshold").cast(pl.Int64),
        "price",
    )


def _blank_as_null(cell: pl.Expr) -> pl.Expr:
    return pl.when(cell != "").then(cell)


def _plain(cell: pl.Expr, decimal: str) -> pl.Expr:
    """A number as Python writes it: thousands are left out where they are in groups of three, and only there."""
    thousands = r"\." if decimal == "," else ","
    joined = cell.str.replace_all(f"[{_SPACES}']", "")
    grouped = joined.str.contains(rf"^-?\d{{1,3}}(?:{thousands}\d{{3}})+(?:[.,]\d+)?$")
    ungrouped = pl.when(grouped).then(joined.str.replace_all(thousands, "")).otherwise(joined)
    return ungrouped.str.replace(",", ".", literal=True) if decimal == "," else ungrouped


def _text_problem(field: str, *, required: bool = False) -> pl.Expr:
    cell = pl.col(field)
    most = _LONGEST[field]
    return (
        pl.when(cell.is_null() & pl.lit(required))
        .then(pl.lit("is missing"))
        .when(cell.str.len_chars() > most)
        .then(pl.lit(f"has more than {most} characters"))
        .when(cell.str.contains(_CONTROLS))
        .then(pl.lit("has control characters"))
        .when(cell.str.contains(_FORMULA))
        .then(pl.lit("is a formula"))
    )


def _whole_problem(field: str, most: int, *, required: bool = False) -> pl.Expr:
    cell = pl.col(field)
    return (
        pl.when(cell.is_null())
        .then(pl.lit("is missing" if required else None, pl.String))
        .when(cell.str.contains(r"^-\d+$"))
        .then(pl.lit("is negative"))
        .when(~cell.str.contains(r"^\d+$"))
        .then(pl.lit("is not a whole number"))
        .when(cell.str.strip_chars_start("0").str.len_chars() > len(str(most)))
        .then(pl.lit(f"is more than {most}"))
        .when(cell.str.head(len(str(most)) + 3).cast(pl.Int64, strict=False) > most)
        .then(pl.lit(f"is more than {most}"))
    )


def _price_problem(cell: pl.Expr) -> pl.Expr:
    return (
        pl.when(cell.str.contains(r"^-\d+(?:\.\d+)?$"))
        .then(pl.lit("is negative"))
        .when(~cell.str.contains(r"^\d+(?:\.\d{1,2}0*)?$"))
        .then(pl.lit("is no amount with at most two decimals"))
        .when(cell.str.contains(r"^0*[1-9]\d{10,}"))
        .then(pl.lit("is more than 9999999999.99"))
    )
