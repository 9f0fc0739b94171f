"""check_rows: which rows of a chunk can be written and what is wrong with the others, all rows at once in polars."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Final

import polars as pl

from processors.file.csv_rows import EXTRA
from processors.file.decimals import (
    TYPED,
    Evidence,
    clean_numbers,
    collect,
    kinds,
)
from processors.file.dialect import Dialect
from processors.file.header import FIELDS
from processors.file.import_options import KEEP, REFUSE, ZERO
from processors.file.misplaced import BESIDE, cut_numbers
from processors.file.number_columns import NumberColumn
from processors.file.sku_text import clean_skus, clean_text, suspicion, unguarded
from schemas.inventory import MOST_STOCK

_MOST_THRESHOLD: Final = 2**31 - 1
_LONGEST: Final = {"sku": 64, "name": 200, "category": 64}
_LONGEST_VALUE: Final = 100  # characters of a cell that a report shows
_CONTROLS: Final = r"[\x00-\x1f\x7f-\x9f\x{2028}\x{2029}]"
# What a spreadsheet would calculate, and what calls a program from one (DDE) behind a sign. Text that merely begins
# with a sign is text: an export guards it.
_FORMULA: Final = r"^(?:=|[+\-@].*\|.*!|[+\-@][A-Za-z][A-Za-z.]*\()"
_ERROR: Final = r"^#(?:N/A|NV|N/D|[NZ]\.A\.|GETTING_DATA|[\p{Lu}\p{Lo}¡¿/_0-9]{2,20}[!?])$|^Err:[0-9]{3}$"

# What counts as blank where its sender has said what a blank quantity means. A dash is how a spreadsheet shows zero, or
# nothing; "not available" is no zero.
_BLANKS: Final = {KEEP: r"(?i)^\s*(?:[-\u2013\u2014]+|n/?a|n\.a\.)\s*$", ZERO: r"^\s*[-\u2013\u2014]+\s*$"}


PROBLEMS: Final = {
    "line": pl.Int64, "row": pl.Int64, "field": pl.String, "sku": pl.String, "value": pl.String, "problem": pl.String,
}  # fmt: skip
GOOD: Final = {
    "line": pl.Int64, "row": pl.Int64, "sku": pl.String, "name": pl.String, "category": pl.String, "price": pl.String,
    "threshold": pl.Int64, "quantity": pl.Int64, "location": pl.String, "suspicion": pl.String, "merged": pl.Int64,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class RowCheck:
    """`good` has the columns of `GOOD`, null where a cell is blank; `suspicion` is what is wrong with a SKU if it is
    not known, `merged` how many rows of the file it is. `problems` has those of `PROBLEMS`, the first of each cell.
    `rows` counts all but blank ones; `is_open` says that a cell has two readings, and `decimal` was not known.
    """

    good: pl.DataFrame
    problems: pl.DataFrame
    rows: int
    is_open: bool


def check_rows(
    rows: pl.DataFrame, dialect: Dialect, decimal: str | None, evidence: Evidence, blank: str = REFUSE
) -> RowCheck:
    """Checks the rows of a chunk. Numbers are read with the sign `decimal`; without one, those that have one reading.

    `evidence` takes what the chunk shows of the sign; `blank` is what a blank quantity means.
    """
    raw = _raw(rows, dialect, blank)
    lines = raw["line"]
    read: dict[str, pl.Series] = {
        "sku": clean_skus(raw["sku"]),
        "name": clean_text(raw["name"]),
        "category": clean_text(raw["category"]),
    }
    wrong: dict[str, pl.Series] = {
        "sku": _text_problem(read["sku"], "sku", required=True),
        "name": _text_problem(read["name"], "name"),
        "category": _text_problem(read["category"], "category"),
    }
    read |= {name: unguarded(cells) for name, cells in read.items()}
    parts = [
        NumberColumn.read(raw[name], lines, decimal, evidence, name)
        for name in raw.columns if name.startswith("quantity")
    ]  # fmt: skip
    read["quantity"], wrong["quantity"] = _sum([part.whole(MOST_STOCK) for part in parts], blank)
    threshold = NumberColumn.read(raw["threshold"], lines, decimal, evidence, "threshold")
    read["threshold"], wrong["threshold"] = threshold.whole(_MOST_THRESHOLD)
    price = NumberColumn.read(raw["price"], lines, decimal, evidence, "price", is_price=True)
    read["price"], wrong["price"] = price.amount()
    for column in dialect.numbers:
        cells = clean_numbers(rows[str(column)], is_price=True)
        kind = kinds(cells)
        # Text among the numbers: whatever it is, it is not to decide how numbers are read.
        if not (kind == "odd").any():
            collect(evidence.weak, rows["line"], cells, kind)
    wrong["row"] = pl.select(
        pl.when(raw[EXTRA].is_not_null()).then(pl.lit("has more fields than the first line"))
    ).to_series()
    values = {**{name: raw[name] for name in FIELDS}, "row": raw[EXTRA]}
    if dialect.delimiter == ",":
        wrong["quantity"] = wrong["quantity"].zip_with(wrong["quantity"].is_not_null(), cut_numbers(raw, dialect))
    problems = _problems(raw, read["sku"], values, wrong)
    is_good = reduce(lambda held, one: held & one.is_null(), wrong.values(), pl.repeat(True, raw.height, eager=True))
    good = pl.DataFrame({
        "line": lines, "row": raw["row"], **read, "location": clean_text(raw["location"]),
        "suspicion": suspicion(read["sku"], raw["sku"]),
    }).with_columns(merged=pl.lit(1, pl.Int64)).filter(is_good).select(list(GOOD)).cast(GOOD)  # type: ignore[arg-type]  # fmt: skip
    is_open = decimal is None and any(part.is_open for part in (*parts, threshold, price))
    return RowCheck(good, problems, raw.height, is_open)


def _raw(rows: pl.DataFrame, dialect: Dialect, blank: str) -> pl.DataFrame:
    """The cells of the fields as they are, null where they are blank, without rows that are blank."""

    def cell(column: int) -> pl.Expr:
        found = pl.col(str(column))
        return pl.when(found.str.strip_chars() != "").then(found)

    nothing = pl.lit(None, pl.String)
    cells = {name: cell(dialect.columns[name]) if name in dialect.columns else nothing for name in FIELDS}
    for number, column in enumerate(dialect.quantities):
        new = dialect.instead.get(column)
        name = f"quantity_{number}" if number else "quantity"
        cells[name] = pl.coalesce(cell(new), cell(column)) if new is not None else cell(column)
    extra = pl.when(pl.col(EXTRA).str.strip_chars() != "").then(pl.col(EXTRA))
    location = cell(dialect.columns["location"]) if "location" in dialect.columns else nothing
    beside = {BESIDE + name: cell(column) for name, column in dialect.beside.items()}
    raw = rows.select("line", "row", extra.alias(EXTRA), location=location, **cells, **beside)
    raw = raw.filter(pl.any_horizontal(pl.col(*cells, EXTRA).is_not_null()))
    if blank == REFUSE:
        return raw
    quantities = pl.col([name for name in cells if name.startswith("quantity")])
    return raw.with_columns(pl.when(~quantities.str.contains(_BLANKS[blank])).then(quantities))


def _problems(
    raw: pl.DataFrame, sku: pl.Series, values: dict[str, pl.Series], wrong: dict[str, pl.Series]
) -> pl.DataFrame:
    found = []
    for name, problem in wrong.items():
        if problem.null_count() == raw.height:
            continue
        frame = pl.DataFrame({
            "line": raw["line"], "row": raw["row"], "field": pl.repeat(name, raw.height, eager=True), "sku": sku,
            "value": values[name].str.strip_prefix(TYPED).str.slice(0, _LONGEST_VALUE), "problem": problem,
        })  # fmt: skip
        found.append(frame.filter(problem.is_not_null()))
    if not found:
        return pl.DataFrame(schema=PROBLEMS)
    return pl.concat(found).cast(PROBLEMS).sort("line", "field")  # type: ignore[arg-type]


def _text_problem(cells: pl.Series, name: str, *, required: bool = False) -> pl.Series:
    most, cell = _LONGEST[name], pl.col("cell")
    problem = (
        pl.when(cell.is_null() & pl.lit(required))
        .then(pl.lit("is missing"))
        .when(cell.str.len_chars() > most)
        .then(pl.lit(f"has more than {most} characters"))
        .when(cell.str.contains(_CONTROLS))
        .then(pl.lit("has control characters"))
        .when(cell.str.contains(_FORMULA))
        .then(pl.lit("is a formula"))
        .when(cell.str.contains(_ERROR))
        .then(pl.lit("is a formula's error"))
    )
    return pl.DataFrame({"cell": cells}).select(problem.alias("problem")).to_series()


def _sum(parts: list[tuple[pl.Series, pl.Series]], blank: str) -> tuple[pl.Series, pl.Series]:
    """The quantity of a row that has one in each of several columns; blank everywhere is what `blank` says."""
    (values, problems), *others = parts
    for more, wrong in others:
        pair = pl.DataFrame({"a": values, "b": more, "p": problems, "q": wrong})
        values = pair.select(
            pl.when(pl.col("a").is_null() & pl.col("b").is_null()).then(None).otherwise(
                pl.col("a").fill_null(0) + pl.col("b").fill_null(0)
            )
        ).to_series()  # fmt: skip
        problems = pair.select(pl.coalesce("p", "q")).to_series()
    pair = pl.DataFrame({"value": values, "problem": problems})
    if blank == KEEP:
        missing = pl.lit(None, pl.String)
    elif blank == ZERO:
        values = pair.select(pl.when(pl.col("problem").is_null()).then(pl.col("value").fill_null(0))).to_series()
        missing = pl.lit(None, pl.String)
    else:
        missing = pl.when(pl.col("value").is_null() & pl.col("problem").is_null()).then(pl.lit("is missing"))
    much = pl.when(pl.col("value") > MOST_STOCK).then(pl.lit(f"is more than {MOST_STOCK}"))
    return values, pair.select(pl.coalesce("problem", missing, much).alias("problem")).to_series()
