"""NumberColumn: the cells of a column of numbers, read as whole numbers or as amounts, and what is wrong with them."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Final

import polars as pl

from processors.file.decimals import (
    Evidence,
    clean_numbers,
    collect,
    collect_whole,
    either_problem,
    kinds,
    other_sign_problem,
    plain_number,
)

# What nothing can be wrong with.
_FEW_DIGITS: Final = r"^[0-9]{1,9}$"
_SMALL_AMOUNT: Final = r"^(?:0|[1-9][0-9]{0,9})(?:\.[0-9]{1,2})?$"


def _nothing(cells: pl.Series) -> pl.Series:
    return pl.Series("problem", [None], pl.String).new_from_index(0, len(cells))


@dataclass(frozen=True, slots=True)
class NumberColumn:
    """The cells of a column of numbers: as they are, what kind they are, and as Python writes them."""

    cells: pl.Series
    kinds: pl.Series
    numbers: pl.Series
    decimal: str | None

    @classmethod
    def read(
        cls, raw: pl.Series, lines: pl.Series, decimal: str | None, evidence: Evidence, column: str, *,
        is_price: bool = False,
    ) -> NumberColumn:  # fmt: skip
        """Reads cells as they are; `evidence` takes what they show of the decimal sign. A column of whole numbers is
        known there as `column`.
        """
        cells = clean_numbers(raw, is_price=is_price)
        kind = kinds(cells)
        if is_price:
            collect(evidence.found, lines, cells, kind)
        else:
            collect_whole(evidence, column, lines, cells, kind)
        if not kind.is_in(["either", ".", ",", "typed", "odd"]).any() and not cells.str.contains("[ ']").any():
            return cls(cells, kind, cells, decimal)
        frame = pl.DataFrame({"cell": cells, "kind": kind})
        return cls(
            cells, kind, frame.select(plain_number(pl.col("cell"), pl.col("kind"), decimal)).to_series(), decimal
        )

    @property
    def is_open(self) -> bool:
        """Whether a cell has two readings, and none was chosen."""
        return self.decimal is None and bool((self.kinds == "either").any())

    def _are(self, pattern: str) -> bool:
        """Whether all of them are of a form with which nothing can be wrong, as in most files."""
        other = {".": ",", ",": "."}.get(self.decimal or "", "either")
        return not (self.kinds == other).any() and bool(self.numbers.str.contains(pattern).all())

    def _frame(self) -> pl.DataFrame:
        return pl.DataFrame({"cell": self.cells, "kind": self.kinds, "number": self.numbers})

    def _sign_problem(self) -> pl.Expr:
        """What is wrong with cells that have the other sign, or two readings."""
        kind = pl.col("kind")
        if self.decimal is None:
            return pl.when(kind == "either").then(either_problem(pl.col("cell")))
        other = "," if self.decimal == "." else "."
        return pl.when(kind == other).then(pl.lit(other_sign_problem(self.decimal)))

    def whole(self, most: int) -> tuple[pl.Series, pl.Series]:
        """Whole numbers from 0 to `most`, and what is wrong with the others. Null is null."""
        if self._are(_FEW_DIGITS):
            return self.numbers.cast(pl.Int64), _nothing(self.numbers)
        number = pl.col("number").str.replace(r"\.0*$", "")
        frame = self._frame().with_columns(number=number)
        cell = pl.col("number")
        problem = pl.coalesce(
            self._sign_problem(),
            pl.when(cell.str.contains(r"^-0*[1-9][0-9]*$"))
            .then(pl.lit("is negative"))
            .when(cell.str.starts_with("="))
            .then(pl.lit("is a formula"))
            .when(~cell.str.contains(r"^-?[0-9]+$"))
            .then(pl.lit("is not a whole number"))
            .when(cell.str.strip_chars_start("-0").str.len_chars() > len(str(most)))
            .then(pl.lit(f"is more than {most}"))
            .when(cell.str.strip_chars_start("-0").str.head(len(str(most))).cast(pl.Int64, strict=False) > most)
            .then(pl.lit(f"is more than {most}")),
        )
        read = frame.select(number, problem.alias("problem"))
        return read["number"].cast(pl.Int64, strict=False).alias("value"), read["problem"]

    def amount(self) -> tuple[pl.Series, pl.Series]:
        """Amounts with at most two decimals, as text, and what is wrong with the others. A workbook's numbers are
        rounded, as the workbook shows them.
        """
        if self._are(_SMALL_AMOUNT):
            return self.numbers, _nothing(self.numbers)
        long = self._frame().filter(
            (pl.col("kind") == "typed") & pl.col("number").str.contains(r"^-?[0-9]+\.[0-9]{3,}$")
        )
        frame = self._frame()
        if long.height:
            rounded = {
                text: str(Decimal(text).quantize(Decimal("0.01"), ROUND_HALF_UP)) for text in long["number"].unique()
            }
            typed = pl.when(pl.col("kind") == "typed").then(pl.col("number").replace(rounded)).otherwise("number")
            frame = frame.with_columns(number=typed)
        cell = pl.col("number")
        problem = pl.coalesce(
            self._sign_problem(),
            pl.when(cell.str.contains(r"^-(?:[0-9]*[1-9][0-9]*(?:\.[0-9]+)?|0*\.[0-9]*[1-9][0-9]*)$"))
            .then(pl.lit("is negative"))
            .when(cell.str.starts_with("="))
            .then(pl.lit("is a formula"))
            .when(~cell.str.contains(r"^-?(?:[0-9]+(?:\.[0-9]{1,2}0*)?|\.[0-9]{1,2}0*)$"))
            .then(pl.lit("is no amount with at most two decimals"))
            .when(cell.str.contains(r"^0*[1-9][0-9]{10,}"))
            .then(pl.lit("is more than 9999999999.99")),
        )
        shown = cell.str.strip_prefix("-").str.replace(r"^\.", "0.").str.replace(r"^0+([0-9])", "$1")
        read = frame.select(shown.str.replace(r"(\.[0-9]{2})0+$", "$1").alias("number"), problem.alias("problem"))
        return read["number"], read["problem"]
