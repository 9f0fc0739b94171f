"""ReportSettings: what the report processor reads from the environment."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from processors.shared.recipients import recipient
from streams.settings import CommaSeparated, EnvironmentSettings


class ReportSettings(EnvironmentSettings):
    """The report processor's settings; every field is the environment variable of the same name in capitals."""

    report_days: float = Field(90.0, gt=0)  # that a report is kept
    report_most: int = Field(1_000, ge=1)  # reports that are kept in all; the oldest go beyond it
    # Who is sent the sales of a business after each month, and its stock forecast each morning; comma separated: an
    # address for every business, 7=address for one.
    report_monthly_to: CommaSeparated[tuple[str, ...]] = ()
    report_daily_to: CommaSeparated[tuple[str, ...]] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        for text in self.report_monthly_to:
            recipient(text, "REPORT_MONTHLY_TO")
        for text in self.report_daily_to:
            recipient(text, "REPORT_DAILY_TO")
        return self
