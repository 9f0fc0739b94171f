"""ReportRequest: what a request comes to on the day on which it was first seen, or why it has no answer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from processors.report.period import Period
from processors.report.refused import ReportRefused
from processors.shared.database.business_day import UTC_ZONE
from schemas import ReportRequested
from schemas.reports import ReportType

SLOW_DAYS: Final = 90
"""What was not sold for so long does not sell."""

WEEKS: Final = 12
"""A forecast goes by the sales of so many weeks."""

TRIAL_WEEKS: Final = 4
"""And was tried on the last of them, with what was known before."""

_USUAL: Final = 30  # days, unless the request says which
_LONGEST: Final = 3_660  # days: ten years


@dataclass(frozen=True, slots=True)
class ReportRequest:
    """A report to be made. The same request is the same one on every try, also after midnight: `at` does not move. It
    is a moment in the time zone of the business, whose days all of them are.
    """

    type: ReportType
    at: datetime
    zone: ZoneInfo
    period: Period
    categories: tuple[str, ...] = ()
    days_ahead: int = _USUAL

    @classmethod
    def of(cls, event: ReportRequested, at: datetime, zone: ZoneInfo = UTC_ZONE) -> ReportRequest:
        """What an event asks for at a moment, of a business in a time zone. Raises `ReportRefused`."""
        at = at.astimezone(zone)
        period = _chosen(event, at.date()) if event.report_type == "sales-analysis" else _recent(at.date())
        categories = tuple(dict.fromkeys(event.filters.categories))
        return cls(event.report_type, at, zone, period, categories, event.filters.days_ahead)

    @property
    def title(self) -> str:
        """What the report is called."""
        day = f"{self.at.day} {self.at:%B %Y}"
        match self.type:
            case "sales-analysis":
                return f"Sales analysis, {self.period}"
            case "stock-forecast":
                return f"Stock forecast, {self.days_ahead} days from {day}"
            case "inventory-summary":
                return f"Inventory summary, {day}"

    @property
    def about(self) -> str:
        """The categories that were chosen."""
        return ", ".join(self.categories) or "All categories"

    @property
    def sales_read(self) -> Period:
        """The days whose sales are needed."""
        match self.type:
            case "sales-analysis":
                return Period(self.period.before().first, self.period.last)
            case "stock-forecast":
                return _recent(self.at.date(), 7 * (WEEKS + TRIAL_WEEKS))
            case "inventory-summary":
                return _recent(self.at.date(), SLOW_DAYS)


def _recent(today: date, days: int = _USUAL) -> Period:
    """The full days before a day."""
    return Period(today - timedelta(days=days), today - timedelta(days=1))


def _chosen(event: ReportRequested, today: date) -> Period:
    given = event.filters
    if given.first_day is None and given.last_day is None:
        return _recent(today)
    last = given.last_day or today
    first = given.first_day or last - timedelta(days=min(_USUAL - 1, (last - date.min).days))
    if first > last:
        raise ReportRefused(f"the first day, {first}, is after the last one, {last}")
    if first > today:
        raise ReportRefused(f"the first day, {first}, has not come yet")
    last = min(last, today)
    if (last - first).days >= _LONGEST or first.year < 1970:
        raise ReportRefused(f"{first} to {last} is more than ten years, or too long ago")
    return Period(first, last)
