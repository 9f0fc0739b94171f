"""inventory_summary: what is there, what it is worth, what runs low, and what does not sell."""

from __future__ import annotations

from typing import Final

import polars as pl

from processors.report.document import TONES, Chart, Column, Document, Figure, Section, Series, Table, alarm
from processors.report.extract import Extract
from processors.report.formatting import in_words, plural
from processors.report.request import SLOW_DAYS, ReportRequest

_TOP: Final = 25
_MOST_CATEGORIES: Final = 15

_STATE: Final = (
    pl.when(pl.col("quantity") <= 0).then(pl.lit("out"))
    .when(pl.col("quantity") < pl.col("threshold")).then(pl.lit("low"))
    .otherwise(pl.lit("in stock"))
)  # fmt: skip

_DETAILS: Final = (
    Column("sku", "SKU"), Column("name", "Product"), Column("category", "Category"),
    Column("quantity", "In stock", "count"), Column("threshold", "Threshold", "count"),
    Column("state", "State", "state"), Column("price", "Price", "money"), Column("value", "Value", "money"),
    Column("pieces", f"Sold in {SLOW_DAYS} days", "count"),
)  # fmt: skip


def inventory_summary(extract: Extract, request: ReportRequest) -> Document:
    """Makes it."""
    sold = extract.sales.group_by("product_id").agg(pl.col("pieces").sum())
    goods = extract.products.join(sold, on="product_id", how="left", maintain_order="left").with_columns(
        pl.col("pieces").fill_null(0), value=pl.col("quantity").cast(pl.Int128) * pl.col("price"), state=_STATE
    )
    slow = goods.filter((pl.col("pieces") == 0) & (pl.col("quantity") > 0))
    attention = goods.filter(pl.col("state") != "in stock")
    by_category, by_state, urgent, slow_total, slowest = pl.collect_all(
        [
            goods.group_by("category").agg(
                pl.len().alias("products"), pl.col("quantity", "value").sum(),
                (pl.col("state") == "low").sum().alias("low"), (pl.col("state") == "out").sum().alias("out"),
            ).sort("value", "category", descending=[True, False]),
            goods.group_by("state").agg(pl.len().alias("products")),
            # What sells most is missed first.
            attention.sort("pieces", "sku", descending=[True, False]).head(_TOP),
            slow.select(pl.len().alias("products"), pl.col("value").sum()),
            slow.sort("value", "sku", descending=[True, False]).head(_TOP),
        ],
        engine="streaming",
    )  # fmt: skip
    states = dict(by_state.iter_rows())
    total, value = int(by_category["products"].sum()), int(by_category["value"].sum())
    unsold, unsold_value = slow_total.row(0)
    return Document(
        title=request.title,
        about=request.about,
        business=extract.name,
        currency=extract.currency,
        made_at=request.at,
        figures=[
            Figure("Stock value", value, "money", note="at today's prices"),
            Figure("Pieces", int(by_category["quantity"].sum()), "count", note=f"of {plural(total, 'product')}"),
            alarm("Running low", states.get("low", 0), "below their threshold", "warning"),
            alarm("Out of stock", states.get("out", 0), "nothing left", "bad"),
            Figure("Not selling", unsold_value, "money", note=f"{plural(unsold, 'product')} in stock"),
        ],
        sections=[
            _state_section(states, urgent, total),
            _category_section(by_category),
            Section(
                "What does not sell",
                f"In stock, and none sold in {SLOW_DAYS} days: {plural(unsold, 'product')} worth "
                f"{in_words(unsold_value, 'money', extract.currency)}.",
                table=_slow_table(slowest, unsold),
            ),
        ],
        details=goods.select(column.key for column in _DETAILS),
        detail_columns=_DETAILS,
        notes=["Stock is valued at selling prices; what was paid for it is not known here."],
    )


def _state_section(states: dict[str, int], urgent: pl.DataFrame, total: int) -> Section:
    names = [name for name in TONES if states.get(name)]
    chart = Chart(
        "shares", [name.capitalize() for name in names], [Series("Products", [states[name] for name in names])],
        "count", [TONES[name] for name in names],
    )  # fmt: skip
    short = total - states.get("in stock", 0)
    if not short:
        return Section("State of the stock", "Nothing is below its threshold.", chart)
    columns = [
        Column("sku", "SKU", minor=True), Column("name", "Product"), Column("state", "State", "state"),
        Column("quantity", "In stock", "count"), Column("threshold", "Threshold", "count", minor=True),
        Column("pieces", f"Sold, {SLOW_DAYS} days", "count", minor=True),
    ]  # fmt: skip
    return Section(
        "State of the stock", "What sells most comes first.", chart, Table(columns, urgent, _rest(urgent.height, short))
    )


def _category_section(by_category: pl.DataFrame) -> Section:
    rows = by_category.with_columns(pl.col("category").replace("", "no category"))
    shown = rows.head(_MOST_CATEGORIES)
    chart = Chart("bars", shown["category"].to_list(), [Series("Value", shown["value"].to_list())], "money")
    columns = [
        Column("category", "Category"), Column("products", "Products", "count"),
        Column("quantity", "Pieces", "count", minor=True), Column("value", "Value", "money"),
        Column("low", "Low", "count"), Column("out", "Out", "count"),
    ]  # fmt: skip
    return Section("Where the money is", "", chart, Table(columns, rows.head(50), _rest(50, rows.height)))


def _slow_table(slowest: pl.DataFrame, count: int) -> Table | None:
    if not slowest.height:
        return None
    columns = [
        Column("sku", "SKU", minor=True), Column("name", "Product"), Column("quantity", "In stock", "count"),
        Column("value", "Value", "money"),
    ]  # fmt: skip
    return Table(columns, slowest, _rest(slowest.height, count))


def _rest(shown: int, there: int) -> str:
    return f"And {there - shown:,} more, which the CSV and XLSX formats of this report have." if there > shown else ""
