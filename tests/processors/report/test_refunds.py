"""Sales of every kind in every format: refunds, give-aways, sums beyond 64 bits, one day and no day."""

from __future__ import annotations

import csv
import io
import re
import tempfile
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import openpyxl
import pypdf
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, update

from processors.report.charts import draw
from processors.report.document import Chart, Document, Series
from processors.report.formatting import as_headline, in_short, in_words
from processors.report.refused import ReportRefused
from processors.report.writers.csv import write_csv
from processors.report.writers.html import write_html
from processors.report.writers.pdf import write_pdf
from processors.report.writers.xlsx import write_xlsx
from processors.shared.database import Database
from processors.shared.database.tables import products, sales, stock_levels
from tests.processors.report.conftest import SHOP, figures, made, wanted

ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
FIRST, LAST = date(2026, 10, 1), date(2026, 10, 31)
MOST_PIECES, MOST_CENTS = 2**31 - 1, 10**12 - 1

# A product, a day of October or of the month before it, pieces, cents (below zero: a refund).
SALE = st.tuples(
    st.integers(1, 6), st.integers(-30, 30),
    st.one_of(st.integers(1, 5), st.just(MOST_PIECES)),
    st.one_of(st.just(0), st.integers(-5_000, 5_000), st.sampled_from([MOST_CENTS, -MOST_CENTS])),
)  # fmt: skip
Sale = tuple[int, int, int, int]


async def sell(shop: Database, sold: list[Sale]) -> None:
    """These sales and no others, of the first six products."""
    async with shop.engine.begin() as connection:
        await connection.execute(delete(sales))
        rows = [
            {"business_id": SHOP, "product_id": product, "quantity": pieces, "unit_price": Decimal(cents) / 100,
             "sold_at": datetime.combine(FIRST, datetime.min.time(), UTC) + timedelta(days=day, hours=7)}
            for product, day, pieces, cents in sold
        ]  # fmt: skip
        if rows:
            await connection.execute(insert(sales), rows)


def of_october(sold: list[Sale]) -> dict[str, int]:
    """What a loop in Python says of October."""
    sums: dict[str, int] = defaultdict(int)
    for _, day, pieces, cents in sold:
        if day >= 0:
            sums["Revenue"] += pieces * cents
            sums["Refunds"] += min(0, pieces * cents)
            sums["returned"] += pieces if cents < 0 else 0
            sums["Pieces"] += pieces if cents >= 0 else 0
            sums["Sales"] += cents >= 0
    return sums


def check(document: Document, directory: Path, formats: str = "html xlsx csv pdf") -> None:
    """Every format can be written and read, nothing in it is no number, and its amounts are those of the report."""
    directory.mkdir(exist_ok=True)
    details = document.details.collect()
    money = [column for column in document.detail_columns if column.kind == "money"]
    if "html" in formats:
        write_html(document, directory / "x.html")
        text = (directory / "x.html").read_text()
        assert not re.search(r"\b(nan|inf|NaN)\b|€-|\bNone\b", text)
        for drawn in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
            inside(drawn)
        for figure in document.figures:
            assert as_headline(figure.value, figure.kind, "EUR") in text.replace("<wbr>", "")
    if "csv" in formats:
        write_csv(document, directory / "x.csv")
        rows = list(csv.DictReader(io.StringIO((directory / "x.csv").read_text(encoding="utf-8-sig"), newline="")))
        assert not {"NaN", "inf", "-inf"} & {cell for row in rows for cell in row.values()}
        for column in money:
            name = re.sub(r"[^a-z0-9]+", "_", column.title.lower())
            assert [row[name] for row in rows] == [
                "" if value is None else str(Decimal(value).scaleb(-2)) for value in details[column.key].to_list()
            ]
    if "xlsx" in formats:
        write_xlsx(document, directory / "x.xlsx")
        book = openpyxl.load_workbook(directory / "x.xlsx")
        assert {cell.data_type for sheet in book for row in sheet.iter_rows() for cell in row} <= {"s", "n", "d"}
    if "pdf" in formats:
        write_pdf(document, directory / "x.pdf")
        text = " ".join(page.extract_text() for page in pypdf.PdfReader(directory / "x.pdf").pages)
        assert not re.search(r"\b(nan|inf|NaN)\b|€-", text)


def inside(drawn: str) -> None:
    """Nothing of a drawing is outside of it."""
    root = ET.fromstring(drawn)
    width, height = (float(part) for part in root.attrib["viewBox"].split()[2:])
    for element in root.iter():
        given = element.attrib
        kind = element.tag.rpartition("}")[2]
        points: list[tuple[float, float]] = []
        if kind == "rect":
            x, y = float(given["x"]), float(given["y"])
            points = [(x, y), (x + float(given["width"]), y + float(given["height"]))]
        elif kind == "line":
            points = [(float(given["x1"]), float(given["y1"])), (float(given["x2"]), float(given["y2"]))]
        elif kind in ("polyline", "polygon"):
            points = [tuple(map(float, point.split(","))) for point in given["points"].split()]  # type: ignore[misc]
        elif kind == "text":
            points = [(float(given["x"]), float(given["y"]))]
        for x, y in points:
            assert -0.2 <= x <= width + 0.2, (kind, given)
            assert -0.2 <= y <= height + 0.2, (kind, given)


@ON_SQLITE
@pytest.mark.timeout(120)
@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(SALE, max_size=25))
@example([])
@example([(1, 0, 1, 0)])
@example([(1, 0, 1, 500), (1, 0, 1, -500)])
@example([(1, 3, 2, -1250)])
@example([(1, -3, 2, -1250), (2, 4, 1, 300)])
@example([(n, 0, MOST_PIECES, MOST_CENTS) for n in range(1, 7)] * 4)
@example([(n, 1, MOST_PIECES, -MOST_CENTS) for n in range(1, 7)])
async def test_any_sales_are_reported_exactly(shop: Database, sold: list[Sale]) -> None:
    """To the cent, by all kinds of reports; in every format, without a number that is none."""
    await sell(shop, sold)
    with tempfile.TemporaryDirectory() as place:
        here = Path(place)
        expected = of_october(sold)
        asked = wanted("sales-analysis", first_day=FIRST, last_day=LAST)
        if not expected["Pieces"] and not expected["returned"]:
            with pytest.raises(ReportRefused, match="sold nothing"):
                await made(shop, asked, here / "x")
            return
        document = await made(shop, asked, here / "x")
        found = figures(document)
        for name in ("Revenue", "Sales", "Pieces"):
            assert found[name] == expected[name], name
        assert found.get("Refunds", 0) == expected["Refunds"]
        details = document.details.collect()
        assert details["revenue"].sum() == expected["Revenue"]
        assert details["returned"].sum() == expected["returned"]
        assert details["sold"].sum() + details["refunds"].sum() == expected["Revenue"]
        check(document, here / "a", "html csv xlsx")
        check(await made(shop, wanted("inventory-summary"), here / "y"), here / "b", "html csv")


NOTHING = [(1, 0, 1, 0), (2, 1, 3, 0)]
EVEN = [(1, 0, 1, 500), (1, 5, 1, -500)]
BELOW = [(1, 0, 1, 500), (2, 9, 2, -1250), (3, 10, 1, -99)]
HUGE = [(n, n, MOST_PIECES, MOST_CENTS if n % 2 else -MOST_CENTS) for n in range(1, 7)]


@pytest.mark.parametrize("sold", [NOTHING, EVEN, BELOW, HUGE], ids=["nothing", "even", "below", "huge"])
async def test_every_format_of_awkward_sales(shop: Database, sold: list[Sale], tmp_path: Path) -> None:
    """PDF among them; on both databases to the same cent."""
    await sell(shop, sold)
    document = await made(shop, wanted("sales-analysis", first_day=FIRST, last_day=LAST), tmp_path / "x")
    check(document, tmp_path / "a")
    expected = of_october(sold)
    assert figures(document)["Revenue"] == expected["Revenue"]
    assert figures(document).get("Refunds", 0) == expected["Refunds"]
    one_day = (
        await made(shop, wanted("sales-analysis", first_day=FIRST, last_day=FIRST), tmp_path / "y")
        if sold[0][1] == 0
        else document
    )
    check(one_day, tmp_path / "b")


@ON_SQLITE
async def test_refunds_have_a_column_and_bars_and_are_no_demand(shop: Database, tmp_path: Path) -> None:
    """Three sold and two returned are three pieces sold; what came back is not ordered again."""
    sold = [(1, 12, 3, 1000), (2, 12, 3, 1000)]
    await sell(shop, sold)
    before = await made(shop, wanted("stock-forecast"), tmp_path / "a")
    await sell(shop, [*sold, (1, 13, 2, -1000)])
    assert (
        (await made(shop, wanted("stock-forecast"), tmp_path / "b")).details.collect().equals(before.details.collect())
    )
    document = await made(shop, wanted("sales-analysis", first_day=FIRST, last_day=LAST), tmp_path / "c")
    found = figures(document)
    assert (found["Pieces"], found["Sales"], found["Revenue"], found["Refunds"]) == (6, 2, 4000, -2000)
    assert next(each for each in document.figures if each.label == "Refunds").note == "2 pieces returned"
    row = document.details.collect().row(by_predicate=None, index=1, named=True)
    assert (row["pieces"], row["returned"], row["refunds"], row["revenue"]) == (3, 2, -2000, 1000)
    section = next(each for each in document.sections if each.title == "Refunds")
    assert section.chart is not None
    assert section.chart.series[0].values[13] == -2000
    summary = await made(shop, wanted("inventory-summary"), tmp_path / "d")
    assert summary.details.collect().filter(sku="S001")["pieces"].item() == 3


@ON_SQLITE
async def test_stock_of_any_worth_is_added_up_exactly(shop: Database, tmp_path: Path) -> None:
    """A million million pieces at a hundred thousand, which 64 bits cannot hold."""
    async with shop.engine.begin() as connection:
        await connection.execute(update(products).values(price=Decimal("9999999999.99")))
        await connection.execute(update(stock_levels).values(quantity=10**12))
    document = await made(shop, wanted("inventory-summary"), tmp_path / "x")
    assert figures(document)["Stock value"] == 40 * 10**12 * MOST_CENTS
    check(document, tmp_path / "a")


MONEY = st.one_of(st.integers(-(10**30), 10**30), st.floats(-1e15, 1e15), st.none())


@settings(deadline=None)
@given(
    st.sampled_from(["line", "columns", "bars", "shares"]),
    st.lists(st.lists(MONEY, min_size=7, max_size=7), min_size=1, max_size=2),
    st.sampled_from([328, 640, 720]), st.integers(1, 60),
)  # fmt: skip
def test_no_chart_leaves_its_card(shape: Any, values: list[list[float | None]], width: int, letters: int) -> None:
    """Whatever it shows; and the sign stands before the currency."""
    labels = [f"{number}" * letters for number in range(7)]
    drawn = draw(
        Chart(shape, labels, [Series("s" * letters, each) for each in values], "money", ["good"] * 7), width, "EUR",
        name="x",
    )  # fmt: skip
    inside(drawn)
    assert "€-" not in drawn
    assert not re.search(r"\b(nan|inf)\b", drawn)


def test_signs_stand_before_the_currency() -> None:
    assert in_words(-1250, "money", "EUR") == "-€12.50"
    assert in_short(-1250, "money", "EUR") == "-€12.5"
    assert in_short(-123_456_789, "money", "EUR") == "-€1.23m"
    assert as_headline(-8_400_000_000, "money", "EUR") == "-€84,000,000"
    assert as_headline(8 * 10**26 + 150, "money", "EUR") == "€8,000,000,000,000,000,000,000,002"
    assert as_headline(None, "money", "EUR") == in_words(float("nan"), "share") == "-"


LONG = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft"


@ON_SQLITE
async def test_long_words_stay_in_their_columns(shop: Database, tmp_path: Path) -> None:
    """On paper: the SKU and the name are there as a whole, and each beside the other."""
    async with shop.engine.begin() as connection:
        await connection.execute(update(products).where(products.c.id == 2).values(sku="L" * 64, name=LONG))
        await connection.execute(update(products).where(products.c.id == 3).values(sku="A", name="W" * 200))
    await sell(shop, [(2, 0, 1, 90_000), (3, 0, 1, 80_000), (4, 0, 1, 700)])
    document = await made(shop, wanted("sales-analysis", first_day=FIRST, last_day=LAST), tmp_path / "x")
    write_pdf(document, tmp_path / "x.pdf")
    reader = pypdf.PdfReader(tmp_path / "x.pdf")
    places: list[tuple[float, str]] = []

    def seen(text: str, _: Any, matrix: Any, __: Any, ___: Any) -> None:
        if text.strip():
            places.append((float(matrix[4]), text))

    for sheet in reader.pages:
        sheet.extract_text(visitor_text=seen)
    whole = re.sub(r"\s", "", "".join(text for _, text in places))
    assert "L" * 20 in whole
    assert "W" * 20 in whole
    assert all(0 <= x < 595 for x, _ in places)
    layout = [line for sheet in reader.pages for line in sheet.extract_text(extraction_mode="layout").splitlines()]
    of_sku = [line for line in layout if "LLLL" in line]
    assert len(of_sku) > 2  # broken, and not across the page
    assert all(line.strip().startswith("L") for line in of_sku)
    assert any("Donau" in line for line in of_sku)
