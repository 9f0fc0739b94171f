"""ReportSettings: what the report processor reads from the environment."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from processors.shared.recipients import recipient
from streams.settings import loaded


def _split(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


class ReportSettings(BaseSettings):
    """The report processor's settings; every field is the environment variable of the same name in capitals.

    `load()` reads them. Making one raises `pydantic.ValidationError` for a value that cannot work.
    """

    model_config = SettingsConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    report_days: float = Field(90.0, gt=0)  # that a report is kept
    report_most: int = Field(1_000, ge=1)  # reports that are kept in all; the oldest go beyond it
    # Who is sent the sales of a business after each month, and its stock forecast each morning; comma separated: an
    # address for every business, 7=address for one.
    report_monthly_to: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)] = ()
    report_daily_to: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)] = ()

    @classmethod
    def load(cls) -> ReportSettings:
        """Reads the environment; raises `StreamsError`, one line naming the variable, for what cannot work."""
        return loaded(cls)

    @model_validator(mode="after")
    def _check(self) -> Self:
        for text in self.report_monthly_to:
            recipient(text, "REPORT_MONTHLY_TO")
        for text in self.report_daily_to:
            recipient(text, "REPORT_DAILY_TO")
        return self
