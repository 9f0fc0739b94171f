"""StorageSettings: where files are kept, how large they may be, and how links to them are made."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal, Self, get_args
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, SecretStr, model_validator

from streams import Settings
from streams.settings import EnvironmentSettings

Area = Literal["uploads", "exports", "reports"]
AREAS: Final[tuple[Area, ...]] = get_args(Area)

_LOOPBACK: Final = {"localhost", "127.0.0.1", "::1"}
_SHORTEST: Final = 32
_WEEK: Final = 7 * 86_400  # S3 signs nothing for longer


class StorageSettings(EnvironmentSettings):
    """The settings of the files; every field is the environment variable of the same name in capitals.

    `LINK_SECRET` and `STORAGE_URL` are secrets; the first is also read from the file that `LINK_SECRET_FILE` names.
    """

    secret_variables = ("LINK_SECRET",)

    # STORAGE_URL: s3://bucket/prefix or file:///directory, the claim store's; files are in its uploads/, exports/ and
    # reports/. A directory below wins for its own area. Without any of them they are in STREAMS_HOME.
    storage_url: SecretStr | None = Field(None, validation_alias=AliasChoices("storage_url", "STORAGE_URL"))
    upload_dir: Path | None = None  # the directory of the uploads
    exports_dir: Path | None = None  # the directory of the exports and of the imports' error reports
    reports_dir: Path | None = None  # the directory of the reports
    max_file_size: int = Field(10 * 1024 * 1024, ge=1024)  # bytes one uploaded file may have

    # Signs links to files in directories. Without it a random one is made and kept in STREAMS_HOME.
    link_secret: SecretStr | None = None
    link_seconds: int = Field(_WEEK, ge=60, le=_WEEK)  # that a link works
    # What links to files in directories begin with: where `python -m processors.shared.storage` can be reached.
    links_url: str = "http://localhost:8002"
    links_host: str = "127.0.0.1"  # where it listens
    links_port: int = Field(8002, ge=1, le=65535)
    links_connections: int = Field(400, ge=1, le=100_000)  # open at a time; each may need two file descriptors

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.link_secret is not None and 0 < len(self.link_secret.get_secret_value()) < _SHORTEST:
            raise ValueError(f"LINK_SECRET must have at least {_SHORTEST} characters: openssl rand -hex 32")
        link = urlsplit(self.links_url)
        if link.scheme not in ("http", "https") or not link.hostname or link.query or link.fragment:
            raise ValueError("LINKS_URL must look like https://files.example.com")
        if link.scheme == "http" and link.hostname not in _LOOPBACK:
            raise ValueError("LINKS_URL must be https: a link that is read on its way fetches the file")
        return self

    def place(self, area: Area) -> str:
        """The URL of an area: `s3://...` or `file:///...`."""
        directories = {"uploads": self.upload_dir, "exports": self.exports_dir, "reports": self.reports_dir}
        own = directories[area]
        if own is not None:
            return own.absolute().as_uri()
        if self.storage_url is not None and (url := self.storage_url.get_secret_value()):
            return f"{url.rstrip('/')}/{area}"
        return (Settings.load().home / area).absolute().as_uri()
