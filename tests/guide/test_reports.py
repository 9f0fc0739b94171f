"""A report on stock or sales is asked for with an event; it comes as a file behind a link, and the link by mail."""

from __future__ import annotations

import csv
import io
from collections.abc import Awaitable, Callable
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import pytest

from processors.shared.storage import Storages, StorageSettings
from processors.shared.storage.download import download_app
from schemas import ReportFailed, ReportGenerated, ReportRequested
from schemas.reports import ReportFilters
from tests.processors.links import link_to
from tests.processors.report.conftest import SHOP, ask, environment, shop
from tests.processors.shared.database.conftest import business

__all__ = ["ask", "business", "environment", "shop"]

Ask = Callable[..., Awaitable[Any]]

pytestmark = pytest.mark.newest_redis


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """A business database in a file; `shop` fills it, `ask` starts the processor."""
    return f"sqlite:///{tmp_path}/business.db"


async def fetch(url: Any) -> str:
    """What somebody with the link gets from `python -m processors.shared.storage`."""
    application = download_app(Storages(StorageSettings.load()))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=application)) as client:
        return (await client.get(str(url))).text


async def test_a_report_to_read(ask: Ask) -> None:
    """As one HTML file, with charts, for screens and phones; as PDF with `format="pdf"`."""
    request = ReportRequested(business_id=SHOP, report_type="inventory-summary", user_email="ada@example.com")

    generated = await ask(request, ReportGenerated)

    page = await fetch(await link_to(Storages(StorageSettings.load()), generated))
    assert generated.title.startswith("Inventory summary, ")
    assert "<svg" in page
    assert "Stock value" in page


async def test_a_report_to_calculate_with(ask: Ask) -> None:
    """As CSV, or as XLSX with charts; of some days, and of some categories."""
    filters = ReportFilters(first_day=date(2026, 10, 1), last_day=date(2026, 10, 31), categories=["Saws"])
    request = ReportRequested(
        business_id=SHOP, report_type="sales-analysis", format="csv", filters=filters, user_email="ada@example.com"
    )

    generated = await ask(request, ReportGenerated)

    rows = list(
        csv.DictReader(
            io.StringIO(
                (await fetch(await link_to(Storages(StorageSettings.load()), generated))).removeprefix("\ufeff"),
                newline="",
            )
        )
    )
    assert generated.title == "Sales analysis, October 2026"
    assert {row["category"] for row in rows} == {"Saws"}
    assert float(rows[0]["revenue"]) >= float(rows[1]["revenue"])


async def test_what_to_order(ask: Ask) -> None:
    """So that the stock lasts for some days."""
    request = ReportRequested(
        business_id=SHOP,
        report_type="stock-forecast",
        filters=ReportFilters(days_ahead=14),
        user_email="ada@example.com",
    )

    generated = await ask(request, ReportGenerated)

    assert "What to order" in await fetch(await link_to(Storages(StorageSettings.load()), generated))


async def test_a_report_that_cannot_be_made(ask: Ask) -> None:
    """Says why, to whoever asked."""
    filters = ReportFilters(first_day=date(2026, 10, 31), last_day=date(2026, 10, 1))
    request = ReportRequested(
        business_id=SHOP, report_type="sales-analysis", filters=filters, user_email="ada@example.com"
    )

    failed = await ask(request, ReportFailed)

    assert failed.problem == "the first day, 2026-10-31, is after the last one, 2026-10-01"
