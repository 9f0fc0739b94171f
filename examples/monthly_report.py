"""The report of last month: it is asked for, made as a file, and mailed as a link to the user that asked.

    python -m examples.monthly_report [ADDRESS]

On an empty database it makes up a business first. `REPORT_MONTHLY_TO` has the report processor do this by itself.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, date, datetime, timedelta

from pydantic import ValidationError

from examples.stage import a_business, follow, on_stage
from processors.shared.database import open_database
from schemas import ReportFailed, ReportGenerated, ReportRequested
from schemas.reports import ReportFilters
from streams import Streams, StreamsError


def last_month(today: date) -> ReportFilters:
    """The days of the month before this one."""
    last = today.replace(day=1) - timedelta(days=1)
    return ReportFilters(first_day=last.replace(day=1), last_day=last)


async def main(address: str) -> None:
    """Asks for the report, and follows it to the mail."""
    async with open_database() as database, Streams() as streams, on_stage("report", "email") as mails:
        business_id = await a_business(database.engine)
        filters = last_month(datetime.now(UTC).date())
        asked = ReportRequested(
            business_id=business_id, report_type="sales-analysis", format="html", filters=filters, user_email=address
        )
        receipt = await streams.publish(asked)
        print(f"event {receipt.id} asks for the sales from {filters.first_day} to {filters.last_day}")
        trail = await follow(streams, receipt.id, "report")
        for follow_up in trail.follow_ups:
            print(f"  followed by {follow_up.type} {follow_up.id}")
            mailed = await follow(streams, follow_up.id, "email")
            if mailed.message is None:
                continue
            if follow_up.type == ReportFailed.type:
                failed = ReportFailed.decode(mailed.message.data, mailed.message.version)
                raise StreamsError(f"there is no report: {failed.problem}")
            report = ReportGenerated.decode(mailed.message.data, mailed.message.version)
            print(f"    {report.title}: {report.url}")
        if mails is not None:
            print(f"the mail is the newest in {mails}; python -m processors.shared.storage serves the link")


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "ada@example.com"))
    except (StreamsError, ValidationError) as error:
        sys.exit(f"error: {error}")
