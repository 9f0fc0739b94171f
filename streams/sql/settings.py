"""SqlSettings: where the database is, from the environment."""

from __future__ import annotations

from pydantic import AliasChoices, Field, SecretStr

from streams.settings import EnvironmentSettings


class SqlSettings(EnvironmentSettings):
    """The settings of the relay, and of `make_engine()` without a URL."""

    secret_variables = ("DATABASE_URL",)

    # DATABASE_URL: postgresql://user:password@host/name or sqlite:///file
    database_url: SecretStr | None = Field(None, validation_alias=AliasChoices("database_url", "DATABASE_URL"))
