"""ReportRequest: which days a request is about, at the edges of what may be asked."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from processors.report.period import Period
from processors.report.refused import ReportRefused
from processors.report.request import SLOW_DAYS, TRIAL_WEEKS, WEEKS, ReportRequest
from schemas import ReportRequested

NOW = datetime(2026, 5, 20, 23, 59, tzinfo=UTC)
TODAY = NOW.date()


def request(kind: str = "sales-analysis", **filters: Any) -> ReportRequest:
    event = ReportRequested(
        business_id=1,
        report_type=kind,  # type: ignore[arg-type]
        user_email="ada@example.com",
        filters=filters,  # type: ignore[arg-type]
    )
    return ReportRequest.of(event, NOW)


def test_without_days_it_is_the_last_thirty_full_ones() -> None:
    assert request().period == Period(date(2026, 4, 20), date(2026, 5, 19))


def test_days_that_have_not_come_do_not_count() -> None:
    """The last day is today at most: averages would else be of days without sales."""
    for last in (TODAY, TODAY + timedelta(1), TODAY + timedelta(300)):
        assert request(first_day=TODAY - timedelta(9), last_day=last).period == Period(TODAY - timedelta(9), TODAY)
    yesterday = TODAY - timedelta(1)
    assert request(first_day=yesterday, last_day=yesterday).period == Period(yesterday, yesterday)
    assert request(first_day=TODAY, last_day=TODAY).period.days == 1


def test_one_end_alone() -> None:
    """From a day until today; or the thirty days that end with one."""
    assert request(first_day=date(2026, 5, 1)).period == Period(date(2026, 5, 1), TODAY)
    assert request(last_day=date(2026, 4, 30)).period == Period(date(2026, 4, 1), date(2026, 4, 30))


def test_the_first_and_the_last_that_are_refused() -> None:
    with pytest.raises(ReportRefused, match="has not come yet"):
        request(first_day=TODAY + timedelta(1), last_day=TODAY + timedelta(2))
    with pytest.raises(ReportRefused, match="is after the last one"):
        request(first_day=TODAY, last_day=TODAY - timedelta(1))
    assert request(first_day=TODAY - timedelta(3659)).period.days == 3660
    with pytest.raises(ReportRefused, match="more than ten years"):
        request(first_day=TODAY - timedelta(3660))
    old = {"last_day": date(1970, 1, 2)}
    assert request(first_day=date(1970, 1, 1), **old).period.days == 2
    with pytest.raises(ReportRefused, match="too long ago"):
        request(first_day=date(1969, 12, 31), **old)


def test_the_days_that_are_read() -> None:
    """An analysis reads the period before it too; the others so many full days before today."""
    assert request(first_day=date(2026, 5, 1), last_day=date(2026, 5, 10)).sales_read == Period(
        date(2026, 4, 21), date(2026, 5, 10)
    )
    yesterday = TODAY - timedelta(1)
    for kind, days in (("stock-forecast", 7 * (WEEKS + TRIAL_WEEKS)), ("inventory-summary", SLOW_DAYS)):
        read = request(kind).sales_read
        assert (read.last, read.days) == (yesterday, days)


def test_what_it_is_about() -> None:
    """The categories in the order of the request, each once; all of them when none is named."""
    assert request().about == "All categories"
    assert request(categories=["Tools", "Nails", "Tools"]).about == "Tools, Nails"
    assert request("stock-forecast", days_ahead=7).title == "Stock forecast, 7 days from 20 May 2026"
    assert request("inventory-summary").title == "Inventory summary, 20 May 2026"
