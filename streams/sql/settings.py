"""SqlSettings: where the database is, from the environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from streams.errors import StreamsError


class SqlSettings(BaseSettings):
    """The settings of the relay, and of whoever asks `make_engine()` for the configured database.

    Raises `StreamsError` for an unreadable secret file.
    """

    model_config = SettingsConfigDict(extra="ignore", populate_by_name=True, frozen=True)

    # DATABASE_URL: postgresql://user:password@host/name or sqlite:///file
    database_url: SecretStr | None = Field(None, validation_alias=AliasChoices("database_url", "DATABASE_URL"))

    @model_validator(mode="before")
    @classmethod
    def _read_secret_file(cls, values: Any) -> Any:
        path = os.environ.get("DATABASE_URL_FILE")
        if path and not values.get("database_url") and not values.get("DATABASE_URL"):
            try:
                values["database_url"] = Path(path).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise StreamsError(f"DATABASE_URL_FILE={path} cannot be read: {error.__class__.__name__}") from None
        return values
