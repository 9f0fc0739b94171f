"""Cells in the wrong column: numbers whose comma was taken for a delimiter, and a second table in one file."""

from __future__ import annotations

from typing import Final

import polars as pl

from processors.file.dialect import Dialect
from processors.file.header import is_name_of
from processors.file.problems import Problem
from processors.file.refused import FileRefused

BESIDE: Final = "beside_"
"""Before the name of a field: the cells to the right of its own, in a column without a name."""

_NUMBERS: Final = ("quantity", "price", "threshold")


def cut_numbers(raw: pl.DataFrame, dialect: Dialect) -> pl.Series:
    """What is wrong with rows in which a number seems to be two cells, as commas stand between the cells: `1,000`
    without quotes is 1, and the name behind it 000.
    """
    places = {column: name for name, column in dialect.columns.items()}
    problem = pl.lit(None, pl.String)
    for number in _NUMBERS:
        left = dialect.columns.get(number)
        right = places.get(left + 1, "") if left is not None else ""
        # A name of digits alone, three digits that begin with 0: they are what is left of a number, or may be.
        rest = {"name": r"^[0-9]+$", "category": "^0[0-9]{2}$", "price": "^0[0-9]{2}$"}.get(right)
        if number in dialect.beside:
            right, rest = BESIDE + number, r"^[0-9]+$"
        if rest is None:
            continue
        is_cut = pl.col(number).str.contains(r"^-?[0-9]+$") & pl.col(right).str.contains(rest)
        problem = pl.coalesce(
            problem, pl.when(is_cut).then(pl.format("may be cut off at a comma: {} stands behind it", right))
        )
    return raw.select(problem.alias("problem")).to_series()


def refuse_second_table(problems: list[Problem]) -> None:
    """Raises `FileRefused` for a row that names other columns than the first line does: what follows it is of another
    table, and would be read as the first one's.
    """
    for problem in problems:
        if problem["field"] != "quantity" or not is_name_of("sku", problem["sku"] or ""):
            continue
        for name in ("price", "name", "category", "threshold"):
            if is_name_of(name, problem["value"] or "") and not is_name_of("quantity", problem["value"] or ""):
                raise FileRefused(
                    f"line {problem['line']} names columns once more, and {problem['value'][:40]!r} where the "
                    "first line has the quantity: the file has two tables; send each of them as a file of its own"
                )
