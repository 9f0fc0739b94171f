"""Storages: the storage of each area, as the settings say, for `Shared(open_storages)`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from processors.shared.storage.file_key import FileKey
from processors.shared.storage.link_secret import read_link_secret
from processors.shared.storage.links import LinkRefused, Links
from processors.shared.storage.settings import Area, StorageSettings
from processors.shared.storage.storage import Storage


class Storages:
    """`uploads`, `exports` and `reports`, each opened when it is first asked for. `options` as `Storage` takes them."""

    def __init__(self, settings: StorageSettings, **options: Any) -> None:
        self.settings, self._options = settings, options
        self.links = Links(read_link_secret(settings), settings.links_url)
        self._opened: dict[Area, Storage] = {}

    def __getitem__(self, area: Area) -> Storage:
        if area not in self._opened:
            url = self.settings.place(area)
            options = self._options if url.startswith("s3://") else {}
            self._opened[area] = Storage(area, url, self.links, seconds=self.settings.link_seconds, **options)
        return self._opened[area]

    async def link(self, area: Area, key: str, name: str, *, made_at: datetime) -> str:
        """An address under which any holder of it can fetch a file, until `LINK_SECONDS` after `made_at`, when the
        file may be removed. Raises `LinkRefused` (410) when that is over, and `StreamsError` for what is no key.
        """
        seconds = self.settings.link_seconds - (datetime.now(UTC) - made_at).total_seconds()
        if seconds < 1:
            raise LinkRefused(410, f"{key} was made more than {self.settings.link_seconds} s ago (LINK_SECONDS)")
        checked = FileKey.checked(key)
        if not self.settings.place(area).startswith("s3://"):  # needs no store, and none of its library
            return self.links.make(area, checked, name, seconds)
        return await self[area].link(checked, name, seconds=seconds)

    @property
    def uploads(self) -> Storage:
        """What users have sent."""
        return self["uploads"]

    @property
    def exports(self) -> Storage:
        """What was made for them, and what was wrong with what they sent."""
        return self["exports"]

    @property
    def reports(self) -> Storage:
        """Reports."""
        return self["reports"]


@asynccontextmanager
async def open_storages() -> AsyncIterator[Storages]:
    """The configured storages; raises `StreamsError` for settings that cannot work."""
    yield Storages(StorageSettings.load())
