"""SqlSettings: where the database is, from the environment."""

from __future__ import annotations

from typing import Any

from pydantic import AliasChoices, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from streams.settings import with_secrets


class SqlSettings(BaseSettings):
    """The settings of the relay, and of code that calls `make_engine()` for the configured database.

    Raises `StreamsError` for an unreadable secret file.
    """

    model_config = SettingsConfigDict(extra="ignore", populate_by_name=True, frozen=True)

    # DATABASE_URL: postgresql://user:password@host/name or sqlite:///file
    database_url: SecretStr | None = Field(None, validation_alias=AliasChoices("database_url", "DATABASE_URL"))

    @model_validator(mode="before")
    @classmethod
    def _read_secret_file(cls, values: Any) -> Any:
        return with_secrets(values, "DATABASE_URL")
