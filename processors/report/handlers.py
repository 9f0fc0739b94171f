"""The report processor's handlers and schedules: what is asked for, once a night and once a month becomes a file."""

from __future__ import annotations

from typing import Final

from pydantic import HttpUrl

from processors.database import Database, open_database
from processors.report.cleanup import clean_up
from processors.report.generating import generate, report_id
from processors.report.refused import ReportRefused
from processors.report.regular import after_month, each_morning
from processors.report.settings import ReportSettings
from processors.storage import Storages, open_storages
from schemas import ReportFailed, ReportGenerated, ReportRequested, ReportsCleanupDue
from streams import CurrentDelivery, CurrentProgress, Delivery, Processor, Progress, Shared, Slot

# Ten years of a large business take as long as they take; a process that stands still loses its lease.
_TIMEOUT: Final = 3600.0

# Few at once: each keeps a core busy.
report = Processor("report", concurrency=2)
"""The report processor: consumer group `report`. Run it with `python -m processors.report`."""


@report.on(ReportRequested, timeout=_TIMEOUT)
async def generate_report(
    event: ReportRequested,
    database: Database = Shared(open_database),
    storages: Storages = Shared(open_storages),
    progress: Progress = CurrentProgress(),
    delivery: Delivery = CurrentDelivery(),
) -> ReportGenerated | ReportFailed:
    """Makes a report. The link in the event is the right to fetch it; a mail with it follows."""
    event_id = delivery.message.id
    try:
        made = await generate(event, event_id, database, storages, progress)
    except ReportRefused as refused:
        return ReportFailed(
            report_id=report_id(event, event_id),
            business_id=event.business_id,
            report_type=event.report_type,
            format=event.format,
            problem=str(refused)[:500],
            user_email=event.user_email,
        )
    return ReportGenerated(
        report_id=made.id,
        url=HttpUrl(made.url),
        user_email=event.user_email,
        title=made.title,
        business_id=event.business_id,
        report_type=event.report_type,
        format=event.format,
        expires_at=made.expires_at,
    )


@report.on(ReportsCleanupDue)
async def clean_up_reports(
    event: ReportsCleanupDue,  # noqa: ARG001 - it says that it is time, and nothing else
    database: Database = Shared(open_database),
    storages: Storages = Shared(open_storages),
) -> None:
    """Removes reports that are too old or too many."""
    await clean_up(database, storages.reports, ReportSettings.load())


@report.cron("23 2 * * *")
def reports_cleanup() -> ReportsCleanupDue:
    """Once a night."""
    return ReportsCleanupDue()


@report.cron("0 5 1 * *", priority="low")
async def monthly_reports(slot: Slot, database: Database = Shared(open_database)) -> list[ReportRequested]:
    """The sales of the month that has ended, of each business that has sold something, for `REPORT_MONTHLY_TO`."""
    return await after_month(slot.at, database, ReportSettings.load())


@report.cron("30 4 * * *", priority="low")
async def daily_forecasts(slot: Slot, database: Database = Shared(open_database)) -> list[ReportRequested]:
    """What to order, of each business that sells, for `REPORT_DAILY_TO`."""
    return await each_morning(slot.at, database, ReportSettings.load())
