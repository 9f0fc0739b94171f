"""The report processor's handlers and schedules: what is asked for, once a night and once a month becomes a file."""

from __future__ import annotations

from typing import Final

from processors.report.cleanup import clean_up
from processors.report.generating import generate, note_failed, report_id
from processors.report.refused import ReportRefused
from processors.report.schedules import after_month, each_morning
from processors.report.settings import ReportSettings
from processors.shared.database import Database, open_database
from processors.shared.failure_notice import noted, reason_of
from processors.shared.storage import Storages, open_storages
from schemas import ReportFailed, ReportGenerated, ReportRequested, ReportsCleanupDue
from streams import CurrentDelivery, CurrentProgress, DeadLettered, Delivery, Processor, Progress, Shared, Slot

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
    """Makes a report; a mail with a link to it follows, or with the reason why there is none."""
    event_id = delivery.message.id
    try:
        made = await generate(event, event_id, database, storages, progress)
    except ReportRefused as refused:
        return _failed(event, event_id, str(refused))
    return ReportGenerated(
        report_id=made.id,
        file=made.file,
        file_name=made.file_name,
        user_email=event.user_email,
        title=made.title,
        business_id=event.business_id,
        report_type=event.report_type,
        format=event.format,
        expires_at=made.expires_at,
    )


@report.on_dead_letter(ReportRequested)
async def fail_report(
    event: ReportRequested,
    letter: DeadLettered,
    database: Database = Shared(open_database),
    delivery: Delivery = CurrentDelivery(),
) -> ReportFailed:
    """Notes in its row that there is no report, whatever kept it from being made; a mail to the requester follows."""
    event_id, reason = delivery.message.id, reason_of(delivery, letter)
    await noted(note_failed(database, report_id(event, event_id), reason))
    return _failed(event, event_id, reason)


def _failed(event: ReportRequested, event_id: str, problem: str) -> ReportFailed:
    return ReportFailed(
        report_id=report_id(event, event_id),
        business_id=event.business_id,
        report_type=event.report_type,
        format=event.format,
        problem=problem[:500],
        user_email=event.user_email,
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


# Missed hours are made good one by one: one of them may be that of a business' month.
@report.cron("0 * * * *", priority="low", misfire="all", most=24 * 14)
async def monthly_reports(slot: Slot, database: Database = Shared(open_database)) -> list[ReportRequested]:
    """The sales of the month that has ended, of each business that has sold something, for `REPORT_MONTHLY_TO`: at five
    o'clock on the first of a month, where the business is.
    """
    return await after_month(slot.at, database, ReportSettings.load())


@report.cron("0 * * * *", priority="low", misfire="all", most=24)
async def daily_forecasts(slot: Slot, database: Database = Shared(open_database)) -> list[ReportRequested]:
    """What to order, of each business that sells, for `REPORT_DAILY_TO`: at four o'clock, where the business is."""
    return await each_morning(slot.at, database, ReportSettings.load())
