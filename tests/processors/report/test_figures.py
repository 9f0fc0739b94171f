"""The figures of the reports are those of the database, as plain SQL and a loop in Python add them up."""

from __future__ import annotations

import math
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, text

from processors.report.period import Period
from processors.report.refused import ReportRefused
from processors.report.request import ReportRequest
from processors.shared.database import Database
from processors.shared.database.tables import sales
from tests.processors.report.conftest import EMPTY, NOW, SHOP, TODAY, figures, made, read, wanted

OCTOBER = {"first_day": date(2026, 10, 1), "last_day": date(2026, 10, 31)}
SEPTEMBER = ("2026-09-01", "2026-10-01")


async def _rows(database: Database, sql: str, **values: Any) -> list[tuple[Any, ...]]:
    async with database.engine.connect() as connection:
        return [tuple(row) for row in await connection.execute(text(sql), values)]


def _at(database: Database, day: str) -> Any:
    """A midnight in UTC as the database compares it."""
    if database.engine.dialect.name == "sqlite":
        return f"{day} 00:00:00.000000"
    return datetime.fromisoformat(day).replace(tzinfo=UTC)


def _cents(amount: Any) -> int:
    return round(Decimal(str(amount or 0)) * 100)


async def test_sales_are_what_sql_says(shop: Database, tmp_path: Path) -> None:
    """In all, by product, by category and by day; and those of the month before."""
    document = await made(shop, wanted("sales-analysis", **OCTOBER), tmp_path / "x")
    sql = (
        "SELECT COUNT(*), SUM(quantity), SUM(quantity * unit_price) FROM sales "
        "WHERE business_id = 1 AND sold_at >= :a AND sold_at < :b"
    )
    ((count, pieces, revenue),) = await _rows(shop, sql, a=_at(shop, "2026-10-01"), b=_at(shop, "2026-11-01"))
    ((_, _, before),) = await _rows(shop, sql, a=_at(shop, SEPTEMBER[0]), b=_at(shop, SEPTEMBER[1]))
    found = figures(document)
    assert (found["Sales"], found["Pieces"], found["Revenue"]) == (count, pieces, _cents(revenue))
    assert found["Average sale"] == pytest.approx(_cents(revenue) / count)
    assert document.figures[0].change == pytest.approx(_cents(revenue) / _cents(before) - 1)

    by_product = await _rows(
        shop,
        "SELECT p.sku, COUNT(*), SUM(s.quantity), SUM(s.quantity * s.unit_price) FROM sales s JOIN products p "
        "ON p.id = s.product_id WHERE s.business_id = 1 AND sold_at >= :a AND sold_at < :b GROUP BY p.sku",
        a=_at(shop, "2026-10-01"), b=_at(shop, "2026-11-01"),
    )  # fmt: skip
    details = document.details.collect()
    assert sorted(details.select("sku", "sales", "pieces", "revenue").rows()) == sorted(
        (sku, count, pieces, _cents(revenue)) for sku, count, pieces, revenue in by_product
    )
    assert found["Products sold"] == len(by_product)
    assert details["share"].sum() == pytest.approx(1)

    categories = next(section for section in document.sections if section.title == "Categories")
    assert categories.table is not None
    by_category = await _rows(
        shop,
        "SELECT p.category, SUM(s.quantity * s.unit_price) FROM sales s JOIN products p ON p.id = s.product_id "
        "WHERE s.business_id = 1 AND sold_at >= :a AND sold_at < :b GROUP BY p.category",
        a=_at(shop, "2026-10-01"), b=_at(shop, "2026-11-01"),
    )  # fmt: skip
    assert dict(categories.table.rows.select("category", "revenue").rows()) == {
        category or "no category": _cents(revenue) for category, revenue in by_category
    }
    over_time = document.sections[0].chart
    assert over_time is not None
    now, earlier = over_time.series
    assert (len(over_time.labels), sum(value or 0 for value in now.values)) == (31, _cents(revenue))
    assert (earlier.values[30], sum(value or 0 for value in earlier.values)) == (None, _cents(before))


async def test_products_are_in_the_order_of_their_revenue(shop: Database, tmp_path: Path) -> None:
    """Of equal revenue in that of their SKUs: two reports of the same sales are the same."""
    async with shop.engine.begin() as connection:
        await connection.execute(text("UPDATE sales SET quantity = 1, unit_price = 2"))
    document = await made(shop, wanted("sales-analysis", **OCTOBER), tmp_path / "x")
    rows = document.details.collect().select("revenue", "sku").rows()
    assert rows == sorted(rows, key=lambda row: (-row[0], row[1]))
    assert len({revenue for revenue, _ in rows}) < len(rows), "some are equal"


async def test_only_the_chosen_categories(shop: Database, tmp_path: Path) -> None:
    """Their products and their sales, found by SQL: nothing else is read."""
    found, _ = await read(shop, wanted("sales-analysis", categories=["Saws", "R&D"], **OCTOBER), tmp_path / "x")
    assert set(found.products.collect()["category"]) == {"Saws", "R&D"}
    assert set(found.sales.collect()["product_id"]) <= set(found.products.collect()["product_id"])
    one = figures(await made(shop, wanted("sales-analysis", categories=["Saws"], **OCTOBER), tmp_path / "y"))
    two = figures(await made(shop, wanted("sales-analysis", categories=["R&D", "R&D"], **OCTOBER), tmp_path / "z"))
    both = figures(await made(shop, wanted("sales-analysis", categories=["Saws", "R&D"], **OCTOBER), tmp_path / "b"))
    assert one["Revenue"] + two["Revenue"] == both["Revenue"] > 0


async def test_days_end_at_midnight_in_utc(shop: Database, tmp_path: Path) -> None:
    """To the microsecond, also where the server is in another time zone."""
    day = date(2025, 3, 1)  # before everything else
    midnight = datetime(2025, 3, 1, tzinfo=UTC)
    moments = [-1, 0, 86_400 * 10**6 - 1, 86_400 * 10**6]
    rows = [
        {"business_id": SHOP, "product_id": 1, "quantity": 10**number, "unit_price": Decimal("0.29"),
         "sold_at": midnight + timedelta(microseconds=moment)}
        for number, moment in enumerate(moments)
    ]  # fmt: skip
    async with shop.engine.begin() as connection:
        await connection.execute(insert(sales), rows)
        if connection.dialect.name == "postgresql":
            name = await connection.scalar(text("SELECT current_database()"))
            await connection.execute(text(f"ALTER DATABASE \"{name}\" SET timezone TO 'Asia/Tokyo'"))
    await shop.engine.dispose()
    document = await made(shop, wanted("sales-analysis", first_day=day, last_day=day), tmp_path / "x")
    assert (figures(document)["Pieces"], figures(document)["Revenue"]) == (110, 110 * 29)
    found, _ = await read(shop, wanted("sales-analysis", first_day=day, last_day=day), tmp_path / "y")
    assert found.sales.sort("day").select("day", "pieces").collect().rows() == [(date(2025, 2, 28), 1), (day, 110)]


async def test_a_report_is_of_one_moment(shop: Database, tmp_path: Path) -> None:
    """What is sold while it is read is not in it."""
    event = wanted("sales-analysis", **OCTOBER)
    before = figures(await made(shop, event, tmp_path / "x"))
    done: list[int] = []

    async def told(days: int, of: int) -> None:
        if days and not done:
            done.append(days)
            row = {"business_id": SHOP, "product_id": 1, "quantity": 999, "unit_price": Decimal(9),
                   "sold_at": datetime(2026, 10, 31, 12, tzinfo=UTC)}  # fmt: skip
            async with shop.engine.begin() as connection:
                await connection.execute(insert(sales), [row])

    from processors.report.extract import extract
    from processors.report.sales_analysis import sales_analysis

    (tmp_path / "y").mkdir()
    request = ReportRequest.of(event, NOW)
    found = await extract(shop.engine, SHOP, request, tmp_path / "y", told)
    assert done
    assert figures(sales_analysis(found, request)) == before
    assert figures(await made(shop, event, tmp_path / "z"))["Pieces"] == before["Pieces"] + 999


async def test_the_stock_is_what_sql_says(shop: Database, tmp_path: Path) -> None:
    """In all, what is low and out, and what was not sold in 90 days."""
    document = await made(shop, wanted("inventory-summary"), tmp_path / "x")
    rows = await _rows(
        shop,
        "SELECT p.sku, COALESCE(l.quantity, 0), p.threshold, p.price, "
        "(SELECT COALESCE(SUM(s.quantity), 0) FROM sales s "
        "WHERE s.product_id = p.id AND s.sold_at >= :a AND s.sold_at < :b) FROM products p "
        "LEFT JOIN stock_levels l ON l.product_id = p.id WHERE p.business_id = 1",
        a=_at(shop, str(TODAY - timedelta(days=90))), b=_at(shop, str(TODAY)),
    )  # fmt: skip
    stock = [(sku, quantity, threshold, _cents(price), int(sold)) for sku, quantity, threshold, price, sold in rows]
    found = figures(document)
    assert found["Stock value"] == sum(quantity * price for _, quantity, _, price, _ in stock)
    assert found["Pieces"] == sum(quantity for _, quantity, *_ in stock)
    assert found["Out of stock"] == sum(quantity == 0 for _, quantity, *_ in stock) > 0
    assert found["Running low"] == sum(0 < quantity < threshold for _, quantity, threshold, *_ in stock) > 0
    assert found["Not selling"] == sum(q * price for _, q, _, price, sold in stock if q and not sold) > 0
    details = document.details.select("sku", "quantity", "threshold", "price", "pieces").collect()
    assert details.rows() == sorted(stock)


async def test_the_forecast_is_what_a_loop_says(shop: Database, tmp_path: Path) -> None:
    """The rate, how much it varies, what to order; of a new product by the weeks since there is it."""
    document = await made(shop, wanted("stock-forecast", days_ahead=28), tmp_path / "x")
    weeks: dict[int, list[int]] = defaultdict(lambda: [0] * 12)
    for product, quantity, at in await _rows(
        shop, "SELECT product_id, quantity, sold_at FROM sales WHERE business_id = 1"
    ):
        day = (
            datetime.fromisoformat(str(at)).astimezone(UTC).date()
            if not isinstance(at, str)
            else date.fromisoformat(at[:10])
        )
        ago = ((TODAY - day).days - 1) // 7
        if day < TODAY and ago < 12:
            weeks[product][ago] += quantity
    goods = await _rows(
        shop,
        "SELECT p.id, p.sku, COALESCE(l.quantity, 0), p.price FROM products p LEFT JOIN stock_levels l "
        "ON l.product_id = p.id WHERE p.business_id = 1",
    )
    found = {row["sku"]: row for row in document.details.collect().iter_rows(named=True)}
    at_risk = ordered = 0
    for id, sku, quantity, price in goods:
        known = 3 if id == 7 else 12  # it is there for 20 days
        weights = [0.5 ** (week / 4) for week in range(known)]
        rate = sum(w * pieces for w, pieces in zip(weights, weeks[id], strict=False)) / sum(weights)
        squares = sum(w * pieces**2 for w, pieces in zip(weights, weeks[id], strict=False)) / sum(weights)
        spare = 1.28 * math.sqrt(max(0.0, squares - rate**2)) * 2
        assert found[sku]["weekly"] == pytest.approx(rate), sku
        assert found[sku]["order"] == max(0, math.ceil(round(rate * 4 + spare - quantity, 9)))
        assert found[sku]["risk"] == pytest.approx(max(0, rate * 4 - quantity) * _cents(price), abs=0.5001)
        if rate and quantity:
            assert found[sku]["until"] == TODAY + timedelta(days=int(quantity / rate * 7))
        else:
            assert found[sku]["until"] is None
        at_risk, ordered = at_risk + found[sku]["risk"], ordered + found[sku]["order"]
    assert (figures(document)["Sales at risk"], figures(document)["Pieces to order"]) == (at_risk, ordered)
    assert weeks[7] != [0] * 12
    assert "were sold, the forecast was" in document.sections[-1].text


REFUSED = {
    "reversed": ({"first_day": date(2026, 10, 2), "last_day": date(2026, 10, 1)}, "2026-10-02, is after the last one"),
    "future": ({"first_day": date(2026, 11, 11)}, "is after the last one"),
    "future-both": ({"first_day": date(2026, 12, 1), "last_day": date(2026, 12, 2)}, "2026-12-01, has not come yet"),
    "ages": ({"first_day": date(2010, 1, 1), "last_day": date(2026, 1, 1)}, "more than ten years"),
    "the beginning": ({"first_day": date.min, "last_day": date.min}, "or too long ago"),
    "nothing sold": ({"first_day": date(2020, 1, 1), "last_day": date(2020, 1, 2)}, "sold nothing in 1 to 2 January"),
    "no category": ({"categories": ["Spoons", "Forks"]}, "Shop & <Söhne> has no products of Spoons, Forks"),
}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_what_has_no_answer_is_refused_with_the_reason(shop: Database, tmp_path: Path) -> None:
    """In a sentence for whoever asked."""
    for number, (filters, problem) in enumerate(REFUSED.values()):
        with pytest.raises(ReportRefused, match=problem):
            await made(shop, wanted("sales-analysis", **filters), tmp_path / str(number))
    with pytest.raises(ReportRefused, match="there is no business 99"):
        await made(shop, wanted("inventory-summary", business_id=99), tmp_path / "a")
    with pytest.raises(ReportRefused, match="Empty sold nothing in the last 12 weeks"):
        await made(shop, wanted("stock-forecast", business_id=EMPTY), tmp_path / "b")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_nothing_is_compared_with_a_time_before_the_first_sale(shop: Database, tmp_path: Path) -> None:
    """Everything would have grown."""
    document = await made(
        shop, wanted("sales-analysis", first_day=date(2025, 8, 1), last_day=date(2026, 10, 31)), tmp_path / "x"
    )
    assert [figure.change for figure in document.figures] == [None] * 5
    assert "What grew most" not in [section.title for section in document.sections]


DAYS = st.dates(date(1999, 12, 1), date(2030, 1, 31))


@settings(deadline=None)
@given(DAYS, st.integers(0, 800))
def test_a_period_and_the_one_before(first: date, length: int) -> None:
    """They touch, are of the same kind, and each day is in one of the steps."""
    period = Period(first, first + timedelta(days=length))
    before = period.before()
    assert before.last == first - timedelta(days=1)
    if period.months:
        assert before.months == period.months
    else:
        assert before.days == period.days
    steps = period.steps()
    numbers = [period.step_of(first + timedelta(days=at), period.step) for at in range(period.days)]
    assert sorted(set(numbers)) == list(range(len(steps)))
    assert [steps[number] <= first + timedelta(days=at) for at, number in enumerate(numbers)] == [True] * period.days
    assert len(steps) <= 45


def test_periods_are_told_as_people_say_them() -> None:
    """The month's name where it is one."""
    told = {
        "October 2026": ((2026, 10, 1), (2026, 10, 31)), "1 October 2026": ((2026, 10, 1), (2026, 10, 1)),
        "2 to 31 October 2026": ((2026, 10, 2), (2026, 10, 31)),
        "30 September to 1 October 2026": ((2026, 9, 30), (2026, 10, 1)),
        "30 December 2025 to 1 January 2026": ((2025, 12, 30), (2026, 1, 1)),
    }  # fmt: skip
    assert {str(Period(date(*first), date(*last))) for first, last in told.values()} == set(told)
    assert str(Period.month_before(date(2026, 1, 31))) == "December 2025"
    assert str(Period(date(2026, 1, 1), date(2026, 3, 31)).before()) == "1 October to 31 December 2025"
