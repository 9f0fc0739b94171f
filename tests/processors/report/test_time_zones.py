"""Days and months end where the business is: in its reports, its digest and its schedules alike."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import delete, insert, update

from processors.email.digest import Digest
from processors.report.document import Document
from processors.report.extract import extract
from processors.report.request import ReportRequest
from processors.report.sales_analysis import sales_analysis
from processors.report.schedules import after_month, each_morning
from processors.report.settings import ReportSettings
from processors.shared.database import Database
from processors.shared.database.business_day import midnight, zone_named
from processors.shared.database.tables import businesses, sales
from schemas.reports import ReportFilters
from streams import StreamsError
from tests.processors.report.conftest import ADA, NOW, OTHER, SHOP, figures, wanted

ANGELES = ZoneInfo("America/Los_Angeles")
HALLOWEEN = date(2026, 10, 31)


async def move(shop: Database, zone: str, business: int = SHOP) -> None:
    """The business is somewhere else."""
    async with shop.engine.begin() as connection:
        await connection.execute(update(businesses).where(businesses.c.id == business).values(time_zone=zone))


async def sell(shop: Database, *moments: datetime, business: int = SHOP, product: int = 1) -> None:
    """One piece at 1.00, then two, then four, and no other sales: each sum has one cause only."""
    async with shop.engine.begin() as connection:
        await connection.execute(delete(sales).where(sales.c.business_id == business))
        await connection.execute(insert(sales), [
            {"business_id": business, "product_id": product, "quantity": 2**number, "unit_price": Decimal(1),
             "sold_at": at}
            for number, at in enumerate(moments)
        ])  # fmt: skip


async def analysis(shop: Database, first: date, last: date, zone: ZoneInfo, directory: Path) -> Document:
    """The sales of some days."""

    async def told(days: int, of: int) -> None:
        assert days < of

    directory.mkdir()
    request = ReportRequest.of(wanted("sales-analysis", first_day=first, last_day=last), NOW, zone)
    return sales_analysis(await extract(shop.engine, SHOP, request, directory, told), request)


async def test_report_and_digest_agree_about_a_day(shop: Database, tmp_path: Path) -> None:
    """A sale at eight in the evening of 31 October is one of October there, and of November in UTC."""
    await move(shop, ANGELES.key)
    begin, end = midnight(HALLOWEEN, ANGELES), midnight(HALLOWEEN + timedelta(1), ANGELES)
    tick = timedelta(microseconds=1)
    await sell(shop, begin - tick, begin, datetime(2026, 10, 31, 20, tzinfo=ANGELES), end - tick, end)
    digest = await Digest.read(shop.engine, SHOP, HALLOWEEN)
    assert digest is not None
    day = await analysis(shop, HALLOWEEN, HALLOWEEN, ANGELES, tmp_path / "a")
    assert figures(day)["Revenue"] == digest.sold.revenue * 100 == 1400
    month = await analysis(shop, date(2026, 10, 1), HALLOWEEN, ANGELES, tmp_path / "b")
    assert figures(month)["Revenue"] == 1500
    assert any("Days are of America/Los_Angeles" in note for note in month.notes)
    assert f"{month.made_at:%H:%M %Z}" == "01:30 PST"


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", date(2026, 10, 25), 25), ("Europe/Berlin", date(2026, 3, 29), 23),
        ("America/Los_Angeles", date(2026, 3, 8), 23), ("Africa/Cairo", date(2026, 4, 24), 23),  # at midnight
        ("Australia/Lord_Howe", date(2026, 10, 4), 23.5), ("Asia/Kathmandu", date(2026, 10, 4), 24),
        ("Pacific/Kiritimati", date(2026, 10, 4), 24), ("America/St_Johns", date(2026, 11, 1), 25),
    ],
)  # fmt: skip
async def test_days_of_any_length(shop: Database, zone: str, day: date, hours: float, tmp_path: Path) -> None:
    """Each moment is in one day, on both databases."""
    await move(shop, zone)
    here = ZoneInfo(zone)
    begin, end = midnight(day, here), midnight(day + timedelta(1), here)
    assert end - begin == timedelta(hours=hours)
    tick = timedelta(microseconds=1)
    await sell(shop, begin - tick, begin, begin + (end - begin) / 2, end - tick, end)
    sums = [
        figures(await analysis(shop, first, first, here, tmp_path / str(number)))["Pieces"]
        for number, first in enumerate((day - timedelta(1), day, day + timedelta(1)))
    ]
    assert sums == [1, 14, 16]
    # A week around it is read in one go; its days are told apart there as well.
    week = await analysis(shop, day - timedelta(3), day + timedelta(3), here, tmp_path / "week")
    assert figures(week)["Pieces"] == 31
    chart = week.sections[0].chart
    assert chart is not None
    assert [value for value in chart.series[0].values if value] == [100, 1400, 1600]


async def test_the_month_is_reported_when_it_has_ended_there(shop: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """At five in the morning of the first, in each business' own time; by hand at any time."""
    monkeypatch.setenv("REPORT_MONTHLY_TO", f"{SHOP}={ADA},bob@example.com")
    monkeypatch.setenv("REPORT_DAILY_TO", ADA)
    await move(shop, "America/Los_Angeles")
    await move(shop, "Asia/Kathmandu", OTHER)
    settings = ReportSettings.load()
    hour, found = datetime(2026, 10, 30, tzinfo=UTC), []
    for number in range(24 * 4):
        at = hour + timedelta(hours=number)
        found += [(at, event) for event in await after_month(at, shop, settings)]
    october = ReportFilters(first_day=date(2026, 10, 1), last_day=date(2026, 10, 31))
    assert [(at.isoformat()[8:16], event.business_id, event.user_email) for at, event in found] == [
        ("01T00:00", OTHER, "bob@example.com"),
        ("01T13:00", SHOP, ADA), ("01T13:00", SHOP, "bob@example.com"),
    ]  # fmt: skip
    assert {event.filters == october for _, event in found} == {True}
    mornings = [
        (event.business_id, number) for number in range(24)
        for event in await each_morning(datetime(2026, 11, 5, number, tzinfo=UTC), shop, settings)
    ]  # fmt: skip
    assert mornings == [(SHOP, 12), (OTHER, 23)]
    await move(shop, "Mars/Olympus")
    assert [event.business_id for event in await after_month(NOW, shop, settings)] == [OTHER]


def test_a_zone_that_is_none_is_said() -> None:
    for name in ("Mars/Olympus", "", "Europe", "/etc/passwd", "../x", "\0"):
        with pytest.raises(StreamsError, match=r"is no time zone; write one as Europe/Berlin"):
            zone_named(name)


@pytest.mark.parametrize("variable", ["REPORT_MONTHLY_TO", "REPORT_DAILY_TO"])
@pytest.mark.parametrize(
    "wrong",
    [
        "shop=ada@example.com", "=ada@example.com", "1=", "1=nobody", "1=2=ada@example.com", "1.5=ada@example.com",
        "-1=ada@example.com", "9999999999=ada@example.com", "ada", "ada@example.com,7=x",
    ],
)  # fmt: skip
def test_a_recipient_that_cannot_be_meant_is_refused(
    variable: str, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, wrong)
    with pytest.raises(StreamsError, match=variable):
        ReportSettings.load()


@pytest.mark.parametrize("name", ["localtime", "Factory", "posixrules", "", "../../etc/passwd", "Mars/Phobos"])
def test_a_zone_that_is_another_on_each_machine_is_none(name: str) -> None:
    """Two processes would begin the same day at different moments."""
    with pytest.raises(StreamsError, match="is no time zone"):
        zone_named(name)
