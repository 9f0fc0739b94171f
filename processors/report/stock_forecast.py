"""stock_forecast: when what is there will be sold, and what to order for the days ahead.

The rate of a product is the mean of its weekly sales, in which each week counts less than the one after it. It is a
plain forecast, without seasons; how far off it would have been in the last weeks stands in the report.
"""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Final

import polars as pl

from processors.report.document import Chart, Column, Document, Figure, Section, Series, Table, alarm
from processors.report.extract import Extract
from processors.report.formatting import in_words, plural
from processors.report.refused import ReportRefused
from processors.report.request import TRIAL_WEEKS, WEEKS, ReportRequest

_HALVES_IN: Final = 4.0  # weeks in which the weight of a week's sales halves
_SAFETY: Final = 1.28  # standard deviations: enough nine times out of ten
_TOP: Final = 30
_MOST_CATEGORIES: Final = 12

_DETAILS: Final = (
    Column("sku", "SKU"), Column("name", "Product"), Column("category", "Category"),
    Column("quantity", "In stock", "count"), Column("weekly", "Sold a week", "decimal"),
    Column("cover", "Days left", "decimal"), Column("until", "Lasts until", "day"),
    Column("needed", "Needed", "decimal"),
    Column("order", "Order", "count"), Column("risk", "Sales at risk", "money"),
)  # fmt: skip


def stock_forecast(extract: Extract, request: ReportRequest) -> Document:
    """Makes it. Raises `ReportRefused` when nothing was sold in the weeks that it goes by."""
    weekly = (
        extract.sales.with_columns(ago=((pl.lit(request.at.date()) - pl.col("day")).dt.total_days() - 1) // 7)
        .group_by("product_id", "ago")
        .agg(pl.col("pieces").sum())
    )
    rates = _rates(weekly, extract.products, request, 0)
    trial = _rates(weekly, extract.products, request, TRIAL_WEEKS).rename({"weekly": "expected"})
    happened = (
        weekly.filter(pl.col("ago") < TRIAL_WEEKS).group_by("product_id").agg((pl.col("pieces").sum()).alias("actual"))
    )
    goods, tried = pl.collect_all(
        [
            _forecast(extract.products.join(rates, on="product_id", how="left", maintain_order="left"), request),
            trial.join(happened, on="product_id", how="full", coalesce=True).select(
                pl.col("expected").fill_null(0) * TRIAL_WEEKS, pl.col("actual").fill_null(0)
            ),
        ],
        engine="streaming",
    )
    if not goods["weekly"].sum():
        what = f" of {', '.join(request.categories)}" if request.categories else ""
        raise ReportRefused(f"{extract.name} sold nothing{what} in the last {WEEKS} weeks: there is nothing to go by")
    short = goods.filter(pl.col("order") > 0).sort("cover", "risk", "sku", descending=[False, True, False])
    ending = goods.filter(pl.col("cover") < request.days_ahead)
    return Document(
        title=request.title,
        about=request.about,
        business=extract.name,
        currency=extract.currency,
        made_at=request.at,
        figures=_figures(goods, ending, request),
        sections=[
            _ends(goods, request),
            *_risks(ending),
            Section(
                "What to order",
                f"To last for {request.days_ahead} days, nine times out of ten. What runs out first comes first."
                if short.height
                else f"Nothing: what is there lasts for {request.days_ahead} days, nine times out of ten.",
                table=Table(_columns(), short.head(_TOP), _rest(short.height)),
            ),
            *_trial(tried),
        ],
        details=goods.lazy().sort("cover", "sku", nulls_last=True).select(column.key for column in _DETAILS),
        detail_columns=_DETAILS,
        notes=[
            f"Goes by the sales of {WEEKS} weeks. Each counts half as much as the one {_HALVES_IN:g} weeks after it.",
            "Seasons, promotions and what has been ordered already are not known here. Refunds are no demand.",
        ],
    )


def _rates(weekly: pl.LazyFrame, products: pl.LazyFrame, request: ReportRequest, start: int) -> pl.LazyFrame:
    """Pieces a week and how much they vary, by the weeks from so many weeks ago back, or since there is the product."""
    fade = 0.5 ** (1 / _HALVES_IN)
    age = pl.col("ago") - start
    weight = pl.lit(fade).pow(age)
    # Weeks without a sale have no row, and add nothing to the sums. The weights of all weeks are a geometric series.
    known = (((pl.lit(request.at.date()) - pl.col("created")).dt.total_days() / 7).ceil() - start).clip(1, WEEKS)
    whole = (1 - pl.lit(fade).pow(known)) / (1 - fade)
    return (
        weekly.filter(age.is_between(0, WEEKS - 1))
        .group_by("product_id")
        .agg(
            pieces=(weight * pl.col("pieces")).sum(),
            squares=(weight * pl.col("pieces").cast(pl.Float64).pow(2)).sum(),
        )
        .join(products.select("product_id", "created"), on="product_id")
        .select("product_id", weekly=pl.col("pieces") / whole, squares=pl.col("squares") / whole)
        .select("product_id", "weekly", varies=(pl.col("squares") - pl.col("weekly").pow(2)).clip(0).sqrt())
    )


def _forecast(goods: pl.LazyFrame, request: ReportRequest) -> pl.LazyFrame:
    weeks = request.days_ahead / 7
    needed = pl.col("weekly") * weeks
    spare = _SAFETY * pl.col("varies") * math.sqrt(weeks)
    cover = pl.when(pl.col("weekly") > 0).then(pl.col("quantity") / pl.col("weekly") * 7)
    return (
        goods.with_columns(pl.col("weekly", "varies").fill_null(0.0))
        .with_columns(
            needed=needed,
            cover=cover,
            order=(needed + spare - pl.col("quantity")).ceil().clip(0).cast(pl.Int128),
            risk=((needed - pl.col("quantity")).clip(0) * pl.col("price")).round().cast(pl.Int128),
        )
        # What is gone has no last day, and a day in ten years is no plan.
        .with_columns(
            until=pl.when(pl.col("cover").is_between(0, 3_650, closed="none")).then(
                pl.lit(request.at.date()) + pl.duration(days=pl.col("cover").clip(0, 3_650).floor().cast(pl.Int64))
            )
        )
    )


def _figures(goods: pl.DataFrame, ending: pl.DataFrame, request: ReportRequest) -> list[Figure]:
    soon = goods.filter((pl.col("cover") < 7) & (pl.col("quantity") > 0)).height
    out = goods.filter((pl.col("weekly") > 0) & (pl.col("quantity") <= 0)).height
    return [
        alarm("Out already", out, "and they do sell", "bad"),
        alarm("Out within a week", soon, "of what is there", "warning"),
        Figure(
            f"Out within {request.days_ahead} days",
            ending.height,
            "count",
            note=f"of {plural(goods.height, 'product')}",
        ),
        Figure("Pieces to order", int(goods["order"].sum()), "count", note=f"for {request.days_ahead} days"),
        Figure("Sales at risk", int(goods["risk"].sum()), "money", note="if nothing is ordered"),
    ]


def _ends(goods: pl.DataFrame, request: ReportRequest) -> Section:
    weeks = math.ceil(request.days_ahead / 7)
    counts = [0] * (weeks + 1)
    for cover in goods["cover"].drop_nulls():
        if cover < weeks * 7:
            counts[0 if cover <= 0 else 1 + int(cover // 7)] += 1
    starts = [request.at.date() + timedelta(days=7 * week) for week in range(weeks)]
    labels = ["Now", *(f"{day.day} {day:%b}" for day in starts)]
    chart = Chart("columns", labels, [Series("Products", counts)], "count")
    if not any(counts):
        return Section("When products run out", f"None within {plural(weeks, 'week')}.")
    return Section(
        "When products run out", "Products by the week in which nothing will be left, if nothing comes.", chart
    )


def _risks(ending: pl.DataFrame) -> list[Section]:
    rows = (
        ending.group_by("category")
        .agg(pl.len().alias("products"), pl.col("risk", "order").sum())
        .filter(pl.col("risk") > 0)
        .with_columns(pl.col("category").replace("", "no category"))
        .sort("risk", "category", descending=[True, False])
        .head(_MOST_CATEGORIES)
    )
    if not rows.height:
        return []
    chart = Chart("bars", rows["category"].to_list(), [Series("Sales at risk", rows["risk"].to_list())], "money")
    return [Section("Sales at risk", "What would be sold and is not there, at today's prices.", chart)]


def _columns() -> list[Column]:
    return [
        Column("sku", "SKU", minor=True), Column("name", "Product"), Column("quantity", "In stock", "count"),
        Column("weekly", "Sold a week", "decimal", minor=True), Column("until", "Lasts until", "day"),
        Column("order", "Order", "count"),
    ]  # fmt: skip


def _rest(there: int) -> str:
    return f"And {there - _TOP:,} more, which the CSV and XLSX formats of this report have." if there > _TOP else ""


def _trial(tried: pl.DataFrame) -> list[Section]:
    actual = int(tried["actual"].sum())
    if not actual:
        return []
    off = float(tried["expected"].sum()) / actual - 1
    each = float((tried["expected"] - tried["actual"]).abs().sum()) / actual
    sold = "was" if actual == 1 else "were"
    text = (
        f"Tried on the last {TRIAL_WEEKS} weeks with what was known before them: {plural(actual, 'piece')} {sold} "
        f"sold, the forecast was {in_words(off, 'change')} off in all, and {in_words(each, 'share')} off product by "
        "product."
    )
    return [Section("How good is it?", text)]
