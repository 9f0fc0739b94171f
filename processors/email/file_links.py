"""FileLinks: signs the link to a file when its mail is made. Events say which file, and are no right to fetch it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from streams import DeadLetter, Delivery, StreamsError, Unavailable

if TYPE_CHECKING:
    from pydantic import HttpUrl

    from processors.email.outgoing_mail import OutgoingMail
    from processors.shared.storage import Storages
    from processors.shared.storage.settings import Area
    from schemas import InventoryImported, InventoryImportFailed


class FileLinks:
    """Makes links with the configured storage, which is read when the first one is asked for: who mails no files needs
    none of its settings.
    """

    def __init__(self, storages: Storages | None = None) -> None:
        self._storages = storages

    async def make(
        self, area: Area, file: str, name: str, *, delivery: Delivery, business_id: int | None = None
    ) -> str:
        """A link to the file of an event, which ends when one made with the event would.

        Raises `DeadLetter` for a file that is another business', is none, or may be removed by now; `Unavailable` for
        settings that cannot work: they would make a dead letter of each mail.
        """
        from processors.shared.storage.links import LinkRefused

        if business_id is not None and file.partition("/")[0] != str(business_id):
            raise DeadLetter(f"{file} is not a file of business {business_id}")
        storages = self._storages or self._open()
        try:
            return await storages.link(area, file, name, made_at=_time(delivery))
        except LinkRefused as over:
            raise DeadLetter(f"the file cannot be fetched any more: {over}") from None
        except StreamsError as error:
            raise DeadLetter(str(error)) from None

    def _open(self) -> Storages:
        from processors.shared.storage import Storages, StorageSettings

        try:
            self._storages = Storages(StorageSettings.load())
        except StreamsError as error:
            raise Unavailable("links", f"wrong settings: {error}") from None
        return self._storages


@asynccontextmanager
async def open_file_links() -> AsyncIterator[FileLinks]:
    """The links of this process, for `Shared(open_file_links)`."""
    yield FileLinks()


async def link_to_file(
    links: FileLinks,
    outgoing: OutgoingMail,
    area: Area,
    file: str | None,
    name: str,
    business_id: int | None,
    url: HttpUrl | None,
) -> str:
    """The link to an event's file: signed now, or as an older event has it."""
    if file is not None:
        return await links.make(area, file, name, delivery=outgoing.delivery, business_id=business_id)
    if url is None:
        raise DeadLetter("the event names no file")
    return str(url)


async def link_to_errors(
    links: FileLinks, outgoing: OutgoingMail, event: InventoryImported | InventoryImportFailed
) -> str:
    """The link to the report of the rows that were refused; empty when there is none."""
    if event.errors_file is None and event.errors_url is None:
        return ""
    name = f"import-errors.{(event.errors_file or '').rpartition('.')[2]}"
    return await link_to_file(links, outgoing, "exports", event.errors_file, name, event.business_id, event.errors_url)


def _time(delivery: Delivery) -> datetime:
    """When the event was made; now, where a foreign publisher wrote something else than a time."""
    now = datetime.now(UTC)
    try:
        made = datetime.fromisoformat(delivery.message.time)
    except ValueError:
        return now
    return min(made if made.tzinfo else made.replace(tzinfo=UTC), now)
