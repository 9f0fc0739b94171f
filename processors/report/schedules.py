"""The reports that are made by schedule: their requests, after a month and each morning.

Both happen at an hour of the business' own time zone: a month has ended where the shop is, or it has not. So their
schedules run every hour, and send what is due then.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import structlog
from sqlalchemy import exists, select

from processors.report.period import Period
from processors.report.request import WEEKS
from processors.report.settings import ReportSettings
from processors.shared.database import Database
from processors.shared.database.business_day import midnight, zone_named
from processors.shared.database.tables import businesses, sales
from processors.shared.recipients import recipients_of
from schemas import ReportRequested
from schemas.reports import ReportFilters
from streams import StreamsError

log = structlog.get_logger(__name__)

MONTHLY_HOUR: Final = 5
DAILY_HOUR: Final = 4
"""Of the day, where the business is. No zone moves its clocks over these."""


async def after_month(at: datetime, database: Database, settings: ReportSettings) -> list[ReportRequested]:
    """The sales analysis of the month before, of each business where it is five o'clock on the first of a month."""

    def due(here: datetime) -> bool:
        return here.day == 1 and here.hour == MONTHLY_HOUR

    asked: list[ReportRequested] = []
    for business, zone in await _where(at, database, due, bool(settings.report_monthly_to)):
        month = Period.month_before(at.astimezone(zone).date())
        addresses = recipients_of(business, settings.report_monthly_to, "REPORT_MONTHLY_TO")
        if addresses and await _has_sold(database, business, month, zone):
            filters = ReportFilters(first_day=month.first, last_day=month.last)
            asked += [
                ReportRequested(business_id=business, report_type="sales-analysis", filters=filters, user_email=address)
                for address in addresses
            ]
    return asked


async def each_morning(at: datetime, database: Database, settings: ReportSettings) -> list[ReportRequested]:
    """The stock forecast, of each business where it is four o'clock."""

    def due(here: datetime) -> bool:
        return here.hour == DAILY_HOUR

    asked: list[ReportRequested] = []
    for business, zone in await _where(at, database, due, bool(settings.report_daily_to)):
        today = at.astimezone(zone).date()
        recently = Period(today - timedelta(weeks=WEEKS), today - timedelta(days=1))
        addresses = recipients_of(business, settings.report_daily_to, "REPORT_DAILY_TO")
        if addresses and await _has_sold(database, business, recently, zone):
            asked += [
                ReportRequested(business_id=business, report_type="stock-forecast", user_email=address)
                for address in addresses
            ]
    return asked


async def _where(
    at: datetime, database: Database, due: Callable[[datetime], bool], wanted: bool
) -> list[tuple[int, ZoneInfo]]:
    """The businesses where it is time. A moment that is no full hour is one that an operator has chosen (`streams
    schedules run`): then it is time everywhere.
    """
    if not wanted:
        return []
    by_hand = bool(at.minute or at.second or at.microsecond)
    async with database.engine.connect() as connection:
        rows = await connection.execute(select(businesses.c.id, businesses.c.time_zone).order_by(businesses.c.id))
        found = [(row.id, row.time_zone) for row in rows]
    where: list[tuple[int, ZoneInfo]] = []
    for business, name in found:
        try:
            zone = zone_named(name)
        except StreamsError as error:  # written by another program; the other businesses get theirs all the same
            log.error("report.no_time_zone", business_id=business, error=str(error))
            continue
        if by_hand or due(at.astimezone(zone)):
            where.append((business, zone))
    return where


async def _has_sold(database: Database, business_id: int, period: Period, zone: ZoneInfo) -> bool:
    """Whether it has sold something: a report of nothing would be refused."""
    first, end = midnight(period.first, zone), midnight(period.last + timedelta(days=1), zone)
    sold = exists().where(sales.c.business_id == business_id, sales.c.sold_at >= first, sales.c.sold_at < end)
    async with database.engine.connect() as connection:
        return bool(await connection.scalar(select(sold)))
