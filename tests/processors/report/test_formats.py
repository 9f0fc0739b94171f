"""The reports' files as other readers have them: the figures are there, hostile text is text, nothing is fetched."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import openpyxl
import pypdf
import pytest

from processors.report.charts import draw
from processors.report.document import Chart, Document, Series
from processors.report.formatting import as_headline, in_short, in_words
from processors.report.writers.csv import write_csv
from processors.report.writers.html import write_html
from processors.report.writers.pdf import write_pdf
from processors.report.writers.xlsx import write_xlsx
from processors.shared.database import Database
from processors.shared.safe_text import text_shown
from tests.processors.report.conftest import HOSTILE, made, wanted

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

KINDS = ("inventory-summary", "sales-analysis", "stock-forecast")
WRITERS: dict[str, Callable[[Document, Path], None]] = {
    "csv": write_csv, "html": write_html, "pdf": write_pdf, "xlsx": write_xlsx,
}  # fmt: skip
# The product with the hostile name is the one that sells best.
OCTOBER = {"first_day": date(2026, 10, 1), "last_day": date(2026, 10, 31)}


@pytest.fixture
async def documents(shop: Database, tmp_path: Path) -> dict[str, Document]:
    """One of each kind."""
    return {
        kind: await made(shop, wanted(kind, **(OCTOBER if kind == "sales-analysis" else {})), tmp_path / kind)
        for kind in KINDS
    }


async def test_csv(documents: dict[str, Document], tmp_path: Path) -> None:
    """All rows, in the order of the report, amounts with two decimals; what looks like a formula is text."""
    for kind, document in documents.items():
        write_csv(document, tmp_path / "x.csv")
        data = (tmp_path / "x.csv").read_bytes()
        assert data.startswith(b"\xef\xbb\xbfsku,product,category,")
        assert data.count(b"\r\n") == data.count(b"\n")
        rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")))
        details = document.details.collect()
        assert [row["sku"] for row in rows] == details["sku"].to_list(), kind
        hostile = next(row for row in rows if row["sku"] == "S001")
        assert hostile["product"] == f"'{HOSTILE}"
        money = {"inventory-summary": "value", "sales-analysis": "revenue", "stock-forecast": "sales_at_risk"}[kind]
        key = "risk" if kind == "stock-forecast" else money
        assert [Decimal(row[money]) * 100 for row in rows] == details[key].to_list()
        assert all(re.fullmatch(r"-?\d+\.\d\d", row[money]) for row in rows)


async def test_xlsx(documents: dict[str, Document], tmp_path: Path) -> None:
    """A sheet for each part, charts that Excel draws, numbers as numbers, no formula."""
    for kind, document in documents.items():
        write_xlsx(document, tmp_path / "x.xlsx")
        book = openpyxl.load_workbook(tmp_path / "x.xlsx")
        cells = [cell for sheet in book for row in sheet.iter_rows() for cell in row if cell.value is not None]
        assert {cell.data_type for cell in cells} <= {"s", "n", "d"}
        summary, last = book["Summary"], book["All products"]
        shown = {row[0]: row[1] for row in summary.iter_rows(min_row=5, max_row=9, values_only=True)}
        for figure in document.figures:
            value = figure.value / 100 if figure.kind == "money" else figure.value
            assert shown[figure.label] == pytest.approx(value), kind
        charts = sum(len(sheet._charts) for sheet in book)
        assert charts == sum(section.chart is not None for section in document.sections) > 0
        details = document.details.collect()
        assert [row[0] for row in last.iter_rows(min_row=2, values_only=True)] == details["sku"].to_list()
        number = next(n for n, column in enumerate(document.detail_columns) if column.kind == "money")
        values = [row[number] for row in last.iter_rows(min_row=2, values_only=True)]
        assert values == [cents / 100 for cents in details[document.detail_columns[number].key]]
        assert f"'{HOSTILE}" in {cell.value for cell in cells}
        assert all(len(sheet.title) <= 31 for sheet in book)


async def test_a_sheet_that_is_full_says_so(documents: dict[str, Document], tmp_path: Path) -> None:
    """XLSX has a greatest number of rows; the last one tells."""
    write_xlsx(documents["inventory-summary"], tmp_path / "x.xlsx", sheet_rows=12)
    rows = list(openpyxl.load_workbook(tmp_path / "x.xlsx")["All products"].iter_rows(values_only=True))
    assert len(rows) == 12
    assert [row[0] for row in rows[1:11]] == [f"S{n:03d}" for n in range(1, 11)]
    assert rows[11][0] == "There are more rows than a sheet may have: ask for the CSV."
    write_xlsx(documents["inventory-summary"], tmp_path / "y.xlsx", sheet_rows=42)
    assert openpyxl.load_workbook(tmp_path / "y.xlsx")["All products"].max_row == 41


class _Page(HTMLParser):
    """What a browser would do with a page: its elements with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


async def test_html(documents: dict[str, Document], tmp_path: Path) -> None:
    """One file that needs nothing else and runs nothing, with each chart for a screen and for a phone."""
    for document in documents.values():
        write_html(document, tmp_path / "x.html")
        source = (tmp_path / "x.html").read_text()
        page = _Page(source)
        tags = [tag for tag, _ in page.elements]
        assert not {"script", "img", "link", "iframe", "object", "form", "a"} & set(tags)
        attributes = {name for _, given in page.elements for name in given}
        assert not {name for name in attributes if name.startswith("on")} | ({"src", "href", "style"} & attributes)
        assert "url(" not in source
        assert "@import" not in source
        policy = next(given["content"] for tag, given in page.elements if given.get("http-equiv"))
        assert str(policy).startswith("default-src 'none'")
        assert tags.count("svg") == 2 * sum(section.chart is not None for section in document.sections)
        assert text_shown(HOSTILE) in page.text
        assert not re.search(r"//evil|[\w]@|[\u202a-\u202e]", page.text)
        assert "Shop & <Söhne>" in page.text
        for figure in document.figures:
            assert as_headline(figure.value, figure.kind, "EUR") in page.text
        for drawn in re.findall(r"<svg.*?</svg>", source, re.DOTALL):
            ET.fromstring(drawn)


async def test_pdf(documents: dict[str, Document], tmp_path: Path) -> None:
    """The figures, the tables and the charts' texts can be read and searched; hostile text is text."""
    for document in documents.values():
        write_pdf(document, tmp_path / "x.pdf")
        reader = pypdf.PdfReader(tmp_path / "x.pdf")
        text = " ".join(" ".join(page.extract_text() for page in reader.pages).split())
        assert reader.metadata is not None
        assert (reader.metadata.title, reader.metadata.author) == (document.title, "Shop & <Söhne>")
        for figure in document.figures:
            assert as_headline(figure.value, figure.kind, "EUR") in text
        assert "#eval(1) *x* $y$ {{ 7*7 }}" in text
        assert "//evil" not in text  # a reader of PDFs would make a link of it
        assert "Säge No. " in text
        assert f"Page {len(reader.pages)} of {len(reader.pages)}" in text
        assert not any("/URI" in str(page.get("/Annots", "")) for page in reader.pages)


async def test_the_same_report_is_the_same_file(documents: dict[str, Document], tmp_path: Path) -> None:
    """To the byte, so that a second try changes nothing."""
    for document in documents.values():
        for format, write in WRITERS.items():
            write(document, tmp_path / f"a.{format}")
            write(document, tmp_path / f"b.{format}")
            assert (tmp_path / f"a.{format}").read_bytes() == (tmp_path / f"b.{format}").read_bytes(), format


@pytest.mark.parametrize("days", [1, 2, 46, 400])
async def test_short_and_long_periods_and_thin_sales(shop: Database, tmp_path: Path, days: int) -> None:
    """One day and one sale, a product without a name, a currency without a sign."""
    first = date(2026, 11, 9) if days < 3 else date(2025, 10, 1)
    event = wanted("sales-analysis", first_day=first, last_day=date.fromordinal(first.toordinal() + days - 1))
    document = replace(await made(shop, event, tmp_path / "x"), currency="CHF", business="\x00\x1b[31m\ud800")
    for format, write in WRITERS.items():
        write(replace(document, business="x") if format in ("pdf", "xlsx") else document, tmp_path / f"y.{format}")
        assert (tmp_path / f"y.{format}").stat().st_size > 100


def test_charts_of_nothing_and_of_one(database_url: str) -> None:
    """Are drawn, and well-formed whatever their labels are."""
    shapes = ("line", "columns", "bars", "shares")
    for shape in shapes:
        for values in ([0.0], [5.0], [0.0, 0.0, None], [1e15, 0.1, 3]):
            labels = ['<&">\x00\ud800' * 30] * len(values)
            tones = ["good"] * len(values)
            chart = Chart(shape, labels, [Series("a" * 99, values), Series("b", values)], "money", tones)  # type: ignore[arg-type]
            for width in (328, 720):
                drawn = draw(chart, width, "EUR", name='"><script>')
                assert "nan" not in drawn
                ET.fromstring(drawn)


def test_numbers_are_told_as_people_read_them(database_url: str) -> None:
    """In full, in short, as a headline."""
    assert [in_words(*given, "GBP") for given in (
        (123456, "money"), (-5, "money"), (1234, "count"), (0.1234, "share"), (-0.5, "change"), (20, "change"),
        (None, "money"), (date(2026, 11, 4), "day"),
    )] == ["£1,234.56", "-£0.05", "1,234", "12.3 %", "-50.0 %", "21 times", "-", "4 Nov 2026"]  # fmt: skip
    assert [in_short(value, "money", "EUR") for value in (0, 999, 123456, 99_999_900, 123_456_789_000)] == [
        "€0", "€9.99", "€1.23k", "€1m", "€1.23bn",
    ]  # fmt: skip
    assert (as_headline(99_999_999, "money", "CHF"), as_headline(12345, "money")) == ("CHF 1,000,000", "123.45")
