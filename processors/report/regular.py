"""The reports that nobody has to ask for: who is sent what, after a month and each morning."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta

from sqlalchemy import exists, select

from processors.database import Database
from processors.database.tables import businesses, sales
from processors.report.asked import WEEKS
from processors.report.period import Period
from processors.report.settings import ReportSettings
from schemas import ReportRequested
from schemas.reports import ReportFilters


async def after_month(at: datetime, database: Database, settings: ReportSettings) -> list[ReportRequested]:
    """The sales analysis of the month before a moment."""
    month = Period.month_before(at.date())
    filters = ReportFilters(first_day=month.first, last_day=month.last)
    return [
        ReportRequested(business_id=business, report_type="sales-analysis", filters=filters, user_email=address)
        for business in await _selling(database, month, settings.report_monthly_to)
        for address in settings.report_monthly_to
    ]


async def each_morning(at: datetime, database: Database, settings: ReportSettings) -> list[ReportRequested]:
    """The stock forecast as of a moment."""
    recently = Period(at.date() - timedelta(weeks=WEEKS), at.date() - timedelta(days=1))
    return [
        ReportRequested(business_id=business, report_type="stock-forecast", user_email=address)
        for business in await _selling(database, recently, settings.report_daily_to)
        for address in settings.report_daily_to
    ]


async def _selling(database: Database, period: Period, addresses: Sequence[str]) -> list[int]:
    """The businesses that have sold something: a report of nothing would be refused."""
    if not addresses:
        return []
    first = datetime.combine(period.first, time(), UTC)
    end = datetime.combine(period.last + timedelta(days=1), time(), UTC)
    sold = exists().where(sales.c.business_id == businesses.c.id, sales.c.sold_at >= first, sales.c.sold_at < end)
    async with database.engine.connect() as connection:
        return list(await connection.scalars(select(businesses.c.id).where(sold).order_by(businesses.c.id)))
