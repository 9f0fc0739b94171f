"""sales_analysis: what was sold in a period, of what, and how it differs from the period before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import polars as pl

from processors.report.document import Chart, Column, Document, Figure, Section, Series, Table
from processors.report.extract import Extract
from processors.report.formatting import plural
from processors.report.period import Period
from processors.report.refused import ReportRefused
from processors.report.request import ReportRequest

_TOP: Final = 15
_MOVED: Final = 5
_WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_FORMS: Final = {"day": "%-d %b", "week": "%-d %b", "month": "%b %Y"}
_SUMS: Final = ("sales", "pieces", "returned", "sold", "refunds", "revenue")
_WEEKDAYS_FROM: Final = 14  # days: fewer say nothing of the days of the week

# Of what was sold, before refunds: of a revenue of nothing, or of less, there are no shares.
_SHARE: Final = pl.when(pl.col("sold").sum() > 0).then(pl.col("sold") / pl.col("sold").sum())
_CHANGE: Final = pl.when(pl.col("earlier") > 0).then(pl.col("revenue") / pl.col("earlier") - 1)


def sales_analysis(extract: Extract, request: ReportRequest) -> Document:
    """Makes it. Raises `ReportRefused` when nothing was sold in the period."""
    now, before = request.period, request.period.before()
    # A history that began in between would make everything look grown.
    compared = extract.first_sale is not None and extract.first_sale <= before.first
    is_now = pl.col("day") >= now.first
    by_product, by_day = pl.collect_all(
        [
            extract.sales.group_by("product_id").agg(
                pl.col(*_SUMS).filter(is_now).sum(),
                earlier=pl.col("revenue").filter(~is_now).sum(),
            ),
            extract.sales.group_by("day").agg(pl.col(*_SUMS).sum()).sort("day"),
        ],
        engine="streaming",
    )
    if not compared:
        by_product = by_product.with_columns(earlier=pl.lit(None, pl.Int128))
    goods = extract.products.select("product_id", "sku", "name", "category").collect(engine="streaming")
    sold = goods.join(by_product, on="product_id", how="left").with_columns(
        pl.col(*_SUMS, *(["earlier"] if compared else [])).fill_null(0)
    )
    if not sold["pieces"].sum() and not sold["returned"].sum():
        what = f" of {', '.join(request.categories)}" if request.categories else ""
        raise ReportRefused(f"{extract.name} sold nothing{what} in {now}")
    ranked = sold.filter((pl.col("sales") > 0) | (pl.col("returned") > 0)).sort(
        "revenue", "sku", descending=[True, False]
    )
    refunded = bool(sold["returned"].sum())
    earlier = by_day.filter(~is_now)
    compare = f"Compared with {before}." if compared else "There are no earlier sales to compare with."
    return Document(
        title=request.title,
        about=request.about,
        business=extract.name,
        currency=extract.currency,
        made_at=request.at,
        figures=_figures(ranked, goods.height, earlier if compared else None),
        sections=[
            Section("Revenue", compare, _over_time(by_day, now, before if compared else None)),
            *_weekdays(by_day.filter(is_now), now),
            *(_refunds(ranked, by_day, now) if refunded else ()),
            _categories(sold, compared=compared, refunded=refunded),
            *_best(ranked, _columns(compared=compared, refunded=refunded)),
            *(_movers(sold) if compared else ()),
        ],
        details=ranked.lazy().with_columns(share=_SHARE, change=_CHANGE),
        detail_columns=_columns(compared=compared, refunded=True, all=True),
        notes=[
            (
                f"Days are of {request.zone.key}. "
                "Revenue is what was paid: pieces times the price at the time of the sale."
            ),
            *(["Revenue is less the refunds. Shares are of what was sold, before refunds."] if refunded else []),
        ],
    )  # fmt: skip


def _figures(ranked: pl.DataFrame, products: int, earlier: pl.DataFrame | None) -> list[Figure]:
    now = {name: int(ranked[name].sum()) for name in _SUMS}
    past = {name: int(earlier[name].sum()) if earlier is not None else 0 for name in _SUMS}
    mean, mean_before = (sums["sold"] / sums["sales"] if sums["sales"] else None for sums in (now, past))
    count = ranked.filter(pl.col("sales") > 0).height
    back = Figure("Refunds", now["refunds"], "money", note=f"{plural(now['returned'], 'piece')} returned")
    return [
        Figure("Revenue", now["revenue"], "money", change=_grown(now["revenue"], past["revenue"])),
        Figure("Sales", now["sales"], "count", change=_grown(now["sales"], past["sales"])),
        Figure("Pieces", now["pieces"], "count", change=_grown(now["pieces"], past["pieces"])),
        Figure("Average sale", mean, "money", change=_grown(mean, mean_before)),
        Figure("Products sold", count, "count", note=f"of {plural(products, 'product')}"),
        *([back] if now["returned"] else []),
    ]


def _grown(now: float | None, before: float | None) -> float | None:
    """How much more it is; of nothing, and of less than nothing, there is no such share."""
    return now / before - 1 if now is not None and before is not None and before > 0 else None


def _over_time(by_day: pl.DataFrame, now: Period, before: Period | None) -> Chart:
    steps = now.steps()
    series = [Series(str(now), _sums(by_day, now, now, len(steps)))]
    if before is not None:
        series.append(Series(str(before), _sums(by_day, before, now, len(steps)), faint=True))
    form = _FORMS[now.step]
    shape: Literal["line", "columns"] = "line" if len(steps) > 2 else "columns"
    return Chart(shape, [step.strftime(form) for step in steps], series, "money")


def _sums(by_day: pl.DataFrame, period: Period, like: Period, count: int, name: str = "revenue") -> list[float | None]:
    # A month that is shorter than the other one ends before it.
    sums: list[float | None] = [0 if at <= period.step_of(period.last, like.step) else None for at in range(count)]
    for day, revenue in by_day.select("day", name).iter_rows():
        if period.first <= day <= period.last and (at := period.step_of(day, like.step)) < count:
            sums[at] = (sums[at] or 0) + revenue
    return sums


def _weekdays(by_day: pl.DataFrame, now: Period) -> list[Section]:
    if now.days < _WEEKDAYS_FROM:
        return []
    sums = [0] * 7
    for day, revenue in by_day.select("day", "revenue").iter_rows():
        sums[day.weekday()] += revenue
    means = [total / _count(now, number) for number, total in enumerate(sums)]
    best = max(range(7), key=lambda number: means[number])
    praise = f" {_WEEKDAYS[best]} is the best one." if means[best] > 0 else ""
    chart = Chart("columns", [name[:3] for name in _WEEKDAYS], [Series("Revenue a day", means)], "money")
    return [Section("Days of the week", f"Mean revenue of a day.{praise}", chart)]


def _refunds(ranked: pl.DataFrame, by_day: pl.DataFrame, now: Period) -> list[Section]:
    """What was paid back, in bars of its own, and for what."""
    steps = now.steps()
    values = _sums(by_day, now, now, len(steps), "refunds")
    form = _FORMS[now.step]
    chart = Chart("columns", [step.strftime(form) for step in steps], [Series("Refunds", values)], "money")
    rows = ranked.filter(pl.col("returned") > 0).sort("refunds", "sku").head(_MOVED)
    columns = [
        Column("sku", "SKU", minor=True), Column("name", "Product"), Column("pieces", "Sold", "count", minor=True),
        Column("returned", "Returned", "count"), Column("refunds", "Refunds", "money"),
    ]  # fmt: skip
    return [Section("Refunds", "What was paid back, on the day on which it was.", chart, Table(columns, rows))]


def _count(period: Period, weekday: int) -> int:
    """How often a day of the week comes in a period."""
    return (period.days + 6 - (weekday - period.first.weekday()) % 7) // 7


def _categories(sold: pl.DataFrame, *, compared: bool, refunded: bool) -> Section:
    rows = (
        sold.group_by("category")
        .agg(pl.col(*_SUMS, "earlier").sum())
        .filter((pl.col("sales") > 0) | (pl.col("returned") > 0) | (pl.col("earlier") != 0))
        .with_columns(pl.col("category").replace("", "no category"), share=_SHARE, change=_CHANGE)
        .sort("revenue", "category", descending=[True, False])
    )
    shown = rows.head(_TOP)
    series = [Series("This period", shown["revenue"].to_list())]
    if compared:
        series.append(Series("The one before", shown["earlier"].to_list(), faint=True))
    chart = Chart("bars", shown["category"].to_list(), series, "money")
    columns = [Column("category", "Category"), *_columns(compared=compared, refunded=refunded)[2:]]
    return Section("Categories", chart=chart, table=Table(columns, rows.head(50)))


def _best(ranked: pl.DataFrame, columns: Sequence[Column]) -> list[Section]:
    rows = ranked.with_columns(share=_SHARE, change=_CHANGE).filter(pl.col("sales") > 0).head(_TOP)
    return [Section("What sells best", table=Table(columns, rows))] if rows.height else []


def _movers(sold: pl.DataFrame) -> list[Section]:
    moved = sold.with_columns(difference=pl.col("revenue") - pl.col("earlier"), change=_CHANGE)
    up = moved.filter(pl.col("difference") > 0).sort("difference", "sku", descending=[True, False]).head(_MOVED)
    down = moved.filter(pl.col("difference") < 0).sort("difference", "sku").head(_MOVED)
    columns = [
        Column("sku", "SKU", minor=True), Column("name", "Product"), Column("revenue", "Revenue", "money"),
        Column("earlier", "Before", "money", minor=True), Column("difference", "Difference", "money"),
    ]  # fmt: skip
    return [
        Section(title, table=Table(columns, rows))
        for title, rows in (("What grew most", up), ("What fell most", down))
        if rows.height
    ]


def _columns(*, compared: bool, refunded: bool, all: bool = False) -> Sequence[Column]:
    columns = [
        Column("sku", "SKU", minor=True), Column("name", "Product"),
        *([Column("category", "Category"), Column("sales", "Sales", "count")] if all else []),
        Column("pieces", "Pieces", "count", minor=True),
        *([Column("returned", "Returned", "count"), Column("sold", "Sold", "money")] if all else []),
        *([Column("refunds", "Refunds", "money", minor=True)] if refunded else []),
        Column("revenue", "Revenue", "money"), Column("share", "Share", "share", minor=True),
    ]  # fmt: skip
    if compared and all:
        columns.append(Column("earlier", "Revenue before", "money"))
    return [*columns, Column("change", "Change", "change")] if compared else columns
