"""Links to files are signed when their mail is made: no stream, dead letter or trace holds the right to fetch one."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from pydantic import SecretStr

from examples.fakes.mail_server import MailServer
from processors.email.file_links import FileLinks
from processors.email.handlers import send_export_ready, send_import_done, send_import_failed, send_report_ready
from processors.email.mailer import Mailer
from processors.email.outgoing_mail import OutgoingMail
from processors.shared.storage import Storages, StorageSettings
from processors.shared.storage.download import download_app
from processors.shared.storage.file_key import FileKey
from schemas import InventoryExported, InventoryImported, InventoryImportFailed, ReportGenerated
from streams import Event
from streams.client.client import Streams
from streams.events import redact
from streams.messages.message import TIME
from streams.messages.outcome import DeadLetter, Unavailable
from tests.processors.email.conftest import Deliver

ADA = "ada@example.com"
KEY = f"7/{'0' * 31}1.csv"
UPLOAD = f"7/{'0' * 31}2.csv"
OLD = "https://files.example.com/r.csv?signature=old"
IMPORT = {"business_id": 7, "import_id": "i", "file": UPLOAD, "user_email": ADA}
EVENTS: dict[str, tuple[Any, Any, dict[str, Any], dict[str, Any]]] = {
    "report": (
        send_report_ready, ReportGenerated,
        {"report_id": "r", "user_email": ADA, "business_id": 7}, {"file": KEY, "file_name": "Umsätze.csv"},
    ),
    "export": (
        send_export_ready, InventoryExported,
        {"business_id": 7, "export_id": "e", "format": "csv", "rows": 1, "bytes": 1, "user_email": ADA},
        {"file": KEY, "file_name": "stock.csv"},
    ),
    "import": (
        send_import_done, InventoryImported, IMPORT | {"rows": 2, "written": 1, "refused": 1}, {"errors_file": KEY},
    ),
    "failed": (send_import_failed, InventoryImportFailed, IMPORT | {"problem": "no"}, {"errors_file": KEY}),
}  # fmt: skip


@pytest.fixture
def storages(tmp_path: Path) -> Storages:
    return Storages(StorageSettings(exports_dir=tmp_path, reports_dir=tmp_path, link_secret=SecretStr("s" * 32)))


def link_in(mail: EmailMessage) -> str:
    body = mail.get_body(("plain",))
    assert body is not None
    (found,) = set(re.findall(r"https?://\S+/files/\S+|https://files\S+", body.get_content()))
    return str(found)


@pytest.mark.parametrize("kind", EVENTS)
async def test_the_mail_has_a_link_that_works_and_the_event_has_none(
    kind: str, sink: MailServer, mailer: Mailer, deliver: Deliver, streams: Streams, storages: Storages
) -> None:
    send, made_of, values, file = EVENTS[kind]
    area = "reports" if kind == "report" else "exports"
    async with storages[area].write(FileKey.checked(KEY)) as written:  # type: ignore[index]
        await written.write(b"sku\n")
    event: Event = made_of(**values, **file)
    assert b"signature" not in event.encode()
    assert await send(event, OutgoingMail(mailer, deliver(event), streams), FileLinks(storages)) == []
    (mail,) = sink.mails()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=download_app(storages))) as client:
        answer = await client.get(link_in(mail))
    assert (answer.status_code, answer.content) == (200, b"sku\n")


@pytest.mark.parametrize("kind", EVENTS)
async def test_an_older_event_has_its_link_still_and_shows_it_to_nobody(
    kind: str, sink: MailServer, mailer: Mailer, deliver: Deliver, streams: Streams
) -> None:
    send, made_of, values, _ = EVENTS[kind]
    name = "url" if kind in ("report", "export") else "errors_url"
    event = made_of.decode(orjson.dumps(values | {name: OLD}), 1)
    assert await send(event, OutgoingMail(mailer, deliver(event), streams), FileLinks()) == []
    assert link_in(sink.mails()[0]) == OLD
    assert redact(made_of, orjson.loads(event.encode()))[name] == "[redacted]"


@pytest.mark.parametrize("kind", EVENTS)
async def test_a_file_of_another_business_is_no_link(
    kind: str, sink: MailServer, mailer: Mailer, deliver: Deliver, streams: Streams, storages: Storages
) -> None:
    send, made_of, values, file = EVENTS[kind]
    foreign = {name: value.replace("7/", "8/") for name, value in file.items()}
    event = made_of(**values, **foreign)
    with pytest.raises(DeadLetter, match="is not a file of business 7"):
        await send(event, OutgoingMail(mailer, deliver(event), streams), FileLinks(storages))
    assert sink.events("rcpt") == []


async def test_a_link_ends_when_one_made_with_the_event_would(
    mailer: Mailer, deliver: Deliver, streams: Streams, storages: Storages
) -> None:
    """Its file may be removed then. A mail that is replayed later says so as a dead letter."""
    event = ReportGenerated(report_id="r", user_email=ADA, file=KEY, file_name="r.csv")
    delivery = deliver(event)
    links = FileLinks(storages)
    made = datetime.now(UTC) - timedelta(days=6)
    delivery.message.values[TIME] = made.isoformat().encode()
    link = await links.make("reports", KEY, "r.csv", delivery=delivery)
    until = int(re.search(r"until=(\d+)", link)[1])  # type: ignore[index]
    assert abs(until - (made + timedelta(days=7)).timestamp()) < 5
    delivery.message.values[TIME] = (made - timedelta(days=1, seconds=1)).isoformat().encode()
    with pytest.raises(DeadLetter, match="cannot be fetched any more"):
        await links.make("reports", KEY, "r.csv", delivery=delivery)
    delivery.message.values[TIME] = b"yesterday"
    assert await links.make("reports", KEY, "r.csv", delivery=delivery)


async def test_wrong_settings_of_the_links_are_an_outage(deliver: Deliver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINK_SECRET", "short")
    event = ReportGenerated(report_id="r", user_email=ADA, file=KEY)
    with pytest.raises(Unavailable, match="LINK_SECRET"):
        await FileLinks().make("reports", KEY, "r.csv", delivery=deliver(event))
