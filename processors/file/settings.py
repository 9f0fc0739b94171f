"""FileSettings: what the file processor reads from the environment."""

from __future__ import annotations

from pydantic import Field

from streams.settings import EnvironmentSettings


class FileSettings(EnvironmentSettings):
    """The file processor's settings; every field is the environment variable of the same name in capitals."""

    file_chunk_rows: int = Field(5_000, ge=1, le=50_000)  # rows that are written in one transaction, and read at a time
    # An import is refused, with nothing written, when more rows are wrong than both of these.
    file_errors_few: int = Field(10, ge=0)  # rows that may be wrong in any file
    file_errors_share: float = Field(0.05, ge=0, le=1)  # share of the rows that may be wrong
    file_exports_days: float = Field(30.0, gt=0)  # that an export is kept
    file_uploads_days: float = Field(90.0, gt=0)  # that an uploaded file is kept
    file_exports_most: int = Field(1_000, ge=1)  # exports that are kept in all; the oldest go beyond it
