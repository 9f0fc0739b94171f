"""The handlers, from event to mail, with a real mail server and a real Redis."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from email.message import EmailMessage
from typing import Any

import pytest
from pydantic import HttpUrl
from structlog.testing import capture_logs
from uncalled_for import SharedContext, resolved_dependencies

from examples.fakes.mail_rules import MailRules, Rule
from examples.fakes.mail_server import MailServer
from processors.email import email
from processors.email.handlers import (
    send_export_failed,
    send_export_ready,
    send_import_done,
    send_import_failed,
    send_password_reset,
    send_report_failed,
    send_report_ready,
    send_stock_alert,
    send_sync_failed,
    send_welcome,
)
from processors.email.mail_backoff import Ambiguous
from processors.email.mailer import Mailer
from processors.email.outgoing_mail import OutgoingMail
from processors.email.reset_tokens import verify
from processors.email.smtp_replies import Held
from schemas import (
    EmailRefused,
    InventoryExported,
    InventoryExportFailed,
    InventoryImported,
    InventoryImportFailed,
    InventorySyncFailed,
    PasswordResetRequested,
    ReportFailed,
    ReportGenerated,
    StockBelowThreshold,
    UserRegistered,
)
from streams.client.client import Streams
from streams.handlers.dependencies import current_app
from streams.messages.delivery import current_delivery
from streams.messages.outcome import DeadLetter, Retry
from tests.processors.email.conftest import Deliver, OpenMailer

ADA = "ada@example.com"
BOB = "bob@example.com"


def text_of(mail: EmailMessage) -> str:
    body = mail.get_body(("plain",))
    assert body is not None
    return str(body.get_content())


def reset(seconds: float = 3600) -> PasswordResetRequested:
    expires_at = datetime.now(UTC) + timedelta(seconds=seconds)
    return PasswordResetRequested(user_id=1, email=ADA, reset_id="reset-12345", expires_at=expires_at)


def low(sku: str = "OAK-1") -> StockBelowThreshold:
    return StockBelowThreshold(business_id=42, sku=sku, quantity=3, threshold=10)


def test_the_processor_handles_its_events() -> None:
    assert email.name == "email"
    assert set(email.subscriptions) == {
        "UserRegistered", "PasswordResetRequested", "StockBelowThreshold", "ReportGenerated", "ReportFailed",
        "InventoryImported", "InventoryImportFailed", "InventoryExportFailed", "InventoryExported", "DailyDigestDue",
        "StockAlertsDue", "InventorySyncFailed",
    }  # fmt: skip
    assert email.streams == ["emails", "files", "inventory", "reports", "users"]


async def test_its_dependencies_resolve_and_the_mailer_is_shared_and_closed(
    sink: MailServer, streams: Streams, deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMTP_URL", f"smtp://127.0.0.1:{sink.port}")
    event = UserRegistered(user_id=1, email=ADA, name="Ada")
    current_app.set(streams)
    current_delivery.set(deliver(event))
    async with SharedContext():
        for _ in range(2):
            async with resolved_dependencies(send_welcome, kwargs={"event": event}) as dependencies:
                await send_welcome(event, **dependencies)
    assert len(sink.mails()) == 2
    assert len(sink.events("connect")) == 1


async def test_welcome(sink: MailServer, mailer: Mailer, deliver: Deliver, streams: Streams) -> None:
    event = UserRegistered(user_id=1, email=ADA, name="Ada {{7*7}} <b>\r\nBcc: eve@evil.example")
    assert await send_welcome(event, OutgoingMail(mailer, deliver(event, "event-1"), streams)) == []
    (mail,) = sink.mails()
    assert mail["Message-ID"] == "<event-1.welcome@bord.example>"
    assert mail["Bcc"] is None
    assert "Ada {{7*7}} <b> Bcc: eve at evil. example" in text_of(mail)
    assert "https://app.example.com/" in text_of(mail)
    assert sink.events("accepted")[0]["recipients"] == [ADA]


@pytest.mark.parametrize(
    "name",
    [
        "Hi, click http://evil.example/now", "www.evil.example", "evil.example", "EVIL.EXAMPLE/x", "eve@evil.example",
        "https:evil.example", "evil\u3002example", "evil\uff0eexample", "http:\u202e//evil.example", "a.b.evil.example",
        "ev\u200bil.exam\u00adple", "mailto:eve@evil.example", "\\\\evil.example\\x", "ftp://evil.xn--p1ai", "evil.рф",
        "javascript:alert(1)", "http://1.2.3.4/x", "//evil.example", "evil..example", "http:\n//evil.example",
        "evil.\u200dexample", "evil\u2024example", "x" * 200,
    ],
)  # fmt: skip
async def test_a_name_is_no_link(
    sink: MailServer, mailer: Mailer, deliver: Deliver, streams: Streams, name: str
) -> None:
    """Nothing that a mail reader would turn into a link: no scheme with its slashes, no domain, no address."""
    event = UserRegistered(user_id=1, email=ADA, name=name)
    await send_welcome(event, OutgoingMail(mailer, deliver(event), streams))
    (mail,) = sink.mails()
    (welcome,) = [line for line in text_of(mail).splitlines() if line.startswith("Welcome")]
    assert not re.search(r"\w[.\u2024\u3002\uff0e\uff61]+\u200d?[^\W\d]{2}|:/|//\w|@|:\w", welcome), welcome
    assert len(welcome) < 110
    html = mail.get_body(("html",))
    assert html is not None
    assert welcome.removeprefix("Welcome, ") in html.get_content().replace("&#x2F;", "/")


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("Ada Lovelace", "Ada Lovelace"), ("J. R. R. Tolkien", "J. R. R. Tolkien"), ("Dr.Who", "Dr. Who"),
        ("سارة", "سارة"), ("Ærøskøbing 🔥", "Ærøskøbing 🔥"), ("O'Neill-Smith", "O'Neill-Smith"), ("Ada\u202e", "Ada"),
    ],
)  # fmt: skip
async def test_a_name_is_shown_as_it_is(
    sink: MailServer, mailer: Mailer, deliver: Deliver, streams: Streams, name: str, seen: str
) -> None:
    event = UserRegistered(user_id=1, email=ADA, name=name)
    await send_welcome(event, OutgoingMail(mailer, deliver(event), streams))
    assert f"Welcome, {seen}\n" in text_of(sink.mails()[0]).replace("\r\n", "\n")


async def test_password_reset(sink: MailServer, mailer: Mailer, streams: Streams, deliver: Deliver) -> None:
    with capture_logs() as logs:
        await send_password_reset(reset(), OutgoingMail(mailer, deliver(reset()), streams))
    (mail,) = sink.mails()
    found = re.search(r"https://app\.example\.com/reset-password/reset-12345\?token=(\S+)", text_of(mail))
    assert found is not None
    assert found[1] not in repr(logs)
    assert await verify(streams.redis, streams.keys, "reset-12345", found[1])


async def test_an_expired_reset_is_not_sent(
    sink: MailServer, mailer: Mailer, streams: Streams, deliver: Deliver
) -> None:
    with capture_logs() as logs:
        assert await send_password_reset(reset(-1), OutgoingMail(mailer, deliver(reset(-1)), streams)) == []
    assert [entry["event"] for entry in logs] == ["reset.expired"]
    assert sink.mails() == []


async def test_a_reset_is_mailed_to_one_address_and_says_how_long_it_works(
    sink: MailServer, mailer: Mailer, streams: Streams, deliver: Deliver
) -> None:
    """Another address under its reset_id gets no mail; the end of a far one is the day's, as the mail says."""
    far = reset().model_copy(update={"expires_at": datetime(9999, 12, 31, 23, tzinfo=timezone(-timedelta(hours=14)))})
    await send_password_reset(far, OutgoingMail(mailer, deliver(far), streams))
    other = far.model_copy(update={"email": BOB})
    with pytest.raises(DeadLetter, match="another address"):
        await send_password_reset(other, OutgoingMail(mailer, deliver(other, "event-2"), streams))
    (mail,) = sink.mails()
    assert mail["To"] == ADA
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert f"{tomorrow.day} {tomorrow:%B %Y}" in text_of(mail)


async def test_one_stock_alert_per_item_and_window(
    sink: MailServer, open_mailer: OpenMailer, streams: Streams, deliver: Deliver
) -> None:
    async with open_mailer(email_stock_alerts_to=f"{ADA},{BOB}") as mailer:
        await send_stock_alert(low(), OutgoingMail(mailer, deliver(low(), "a"), streams))
        await send_stock_alert(low(), OutgoingMail(mailer, deliver(low(), "b"), streams))
        await send_stock_alert(low("OAK/2"), OutgoingMail(mailer, deliver(low(), "c"), streams))
    first, second = sink.mails()
    assert first["Subject"] == "Low stock: OAK-1 (3 left)"
    assert first["To"] == f"{ADA}, {BOB}"
    assert "https://app.example.com/businesses/42/stock/OAK%2F2" in text_of(second)
    assert "every 6 hours" in text_of(first)


async def test_an_alert_names_the_product_and_the_shop(
    sink: MailServer, open_mailer: OpenMailer, streams: Streams, deliver: Deliver
) -> None:
    event = low().model_copy(update={"name": "Oak board", "business": "Söhne & Co"})
    async with open_mailer(email_stock_alerts_to=ADA) as mailer:
        await send_stock_alert(event, OutgoingMail(mailer, deliver(event, "a"), streams))
        await send_stock_alert(low("ELM"), OutgoingMail(mailer, deliver(low("ELM"), "b"), streams))
    named, plain = sink.mails()
    assert named["Subject"] == "Low stock: Oak board, OAK-1 (3 left)"
    assert "Söhne & Co" in text_of(named)
    assert "Oak board is running low" in text_of(named)
    assert "Business 42" in text_of(plain)
    assert "ELM is running low" in text_of(plain)


async def test_an_alert_that_was_not_sent_leaves_the_window_to_the_next_event(
    sink: MailServer, open_mailer: OpenMailer, streams: Streams, deliver: Deliver
) -> None:
    async with open_mailer(email_stock_alerts_to=ADA) as mailer:
        for code, signal in ((451, Retry), (550, DeadLetter)):
            sink.follow(MailRules(recipients={ADA: Rule(code=code)}))
            with pytest.raises(signal):
                await send_stock_alert(low(), OutgoingMail(mailer, deliver(low(), f"event-{code}"), streams))
        sink.follow(MailRules())
        await send_stock_alert(low(), OutgoingMail(mailer, deliver(low(), "next"), streams))
    assert [mail["Message-ID"] for mail in sink.mails()] == ["<next.stock_alert@bord.example>"]


async def test_an_alert_that_may_have_been_sent_keeps_the_window(
    sink: MailServer, open_mailer: OpenMailer, streams: Streams, deliver: Deliver
) -> None:
    sink.follow(MailRules(recipients={ADA: Rule(drop=True, times=1)}))
    async with open_mailer(email_stock_alerts_to=ADA) as mailer:
        with pytest.raises(Ambiguous):
            await send_stock_alert(low(), OutgoingMail(mailer, deliver(low(), "a"), streams))
        await send_stock_alert(low(), OutgoingMail(mailer, deliver(low(), "b"), streams))
        await send_stock_alert(low(), OutgoingMail(mailer, deliver(low(), "a"), streams))
    assert {mail["Message-ID"] for mail in sink.mails()} == {"<a.stock_alert@bord.example>"}
    assert len(sink.mails()) == 2


async def test_an_alert_that_is_held_keeps_the_window(
    sink: MailServer, open_mailer: OpenMailer, streams: Streams, deliver: Deliver
) -> None:
    sink.follow(MailRules(recipients={ADA: Rule(drop=True, times=1)}))
    async with open_mailer(email_stock_alerts_to=ADA, email_ambiguous="hold") as mailer:
        with pytest.raises(Held):
            await send_stock_alert(low(), OutgoingMail(mailer, deliver(low(), "a"), streams))
        await send_stock_alert(low(), OutgoingMail(mailer, deliver(low(), "b"), streams))
    assert [mail["Message-ID"] for mail in sink.mails()] == ["<a.stock_alert@bord.example>"]


async def test_nobody_to_tell_is_said_and_settled(
    sink: MailServer, mailer: Mailer, streams: Streams, deliver: Deliver
) -> None:
    with capture_logs() as logs:
        assert await send_stock_alert(low(), OutgoingMail(mailer, deliver(low()), streams)) == []
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("stock.no_recipient", "warning")]
    assert sink.mails() == []


@pytest.mark.parametrize(
    ("sku", "subject"),
    [
        ("a\r\nBcc: eve@evil.example", "Low stock: a Bcc: eve at evil. example (3 left)"),
        ("=?UTF-8?Q?=0A?=", "Low stock: =?UTF-8?Q?=0A?= (3 left)"),
        ("=?utf-8?q?=0aBcc:x?=", "Low stock: =?utf-8?q?=0aBcc: x?= (3 left)"),
        ("a\x00", "Low stock: a\ufffd (3 left)"),
        ("A\u009615", "Low stock: A\ufffd15 (3 left)"),
        ("A\u202815", "Low stock: A 15 (3 left)"),
        ("A\u202e51", "Low stock: A51 (3 left)"),
    ],
)
async def test_an_alert_about_an_odd_sku_is_sent_and_adds_no_header(
    sink: MailServer, open_mailer: OpenMailer, streams: Streams, deliver: Deliver, sku: str, subject: str
) -> None:
    async with open_mailer(email_stock_alerts_to=ADA) as mailer:
        await send_stock_alert(low(sku), OutgoingMail(mailer, deliver(low(sku)), streams))
    (mail,) = sink.mails()
    assert mail["Subject"] == subject
    assert mail["Bcc"] is None
    assert sink.events("accepted")[0]["recipients"] == [ADA]


async def test_recipients_who_were_refused_are_reported_and_not_logged(
    sink: MailServer, open_mailer: OpenMailer, streams: Streams, deliver: Deliver
) -> None:
    sink.follow(
        MailRules(recipients={BOB: Rule(code=550, text=f"<{BOB}> no such user"), "@busy.example": Rule(code=452)})
    )
    async with open_mailer(email_stock_alerts_to=f"{ADA},{BOB},eve@busy.example") as mailer:
        with capture_logs() as logs:
            reports = await send_stock_alert(low(), OutgoingMail(mailer, deliver(low(), "a"), streams))
    assert reports == [
        EmailRefused(
            template="stock_alert", message_id="<a.stock_alert@bord.example>", recipients=[who], code=code, reply=reply
        )
        for who, code, reply in ((BOB, 550, "<[address]> no such user"), ("eve@busy.example", 452, "as scripted"))
    ]
    assert [(entry["event"], entry["code"]) for entry in logs if entry["log_level"] == "warning"] == [
        ("mail.refused", 550),
        ("mail.refused", 452),
    ]
    assert BOB not in repr(logs)


async def test_report_ready(sink: MailServer, mailer: Mailer, deliver: Deliver, streams: Streams) -> None:
    url = HttpUrl("https://files.example.com/r.xlsx?signature=a&b=%22x%22")
    event = ReportGenerated(report_id="sales <10>", url=url, user_email=ADA)
    assert await send_report_ready(event, OutgoingMail(mailer, deliver(event), streams)) == []
    (mail,) = sink.mails()
    assert "sales <10>" in text_of(mail)
    assert str(url) in text_of(mail).splitlines()
    event = ReportGenerated(report_id="r-1", url=url, user_email=ADA, title="Sales analysis, October 2026")
    assert await send_report_ready(event, OutgoingMail(mailer, deliver(event), streams)) == []
    assert "Sales analysis, October 2026 can be fetched now." in text_of(sink.mails()[1])


async def test_a_failed_report_says_why(sink: MailServer, mailer: Mailer, deliver: Deliver, streams: Streams) -> None:
    event = ReportFailed(
        report_id="r", business_id=7, report_type="stock-forecast", format="pdf", problem="nothing <is> sold",
        user_email=ADA,
    )  # fmt: skip
    assert await send_report_failed(event, OutgoingMail(mailer, deliver(event), streams)) == []
    (mail,) = sink.mails()
    assert mail["Subject"] == "Your report could not be made"
    assert "You asked for the stock forecast." in text_of(mail)
    assert "nothing <is> sold" in text_of(mail)
    assert "https://app.example.com/businesses/7/reports" in text_of(mail)


FILE = "1/0123456789abcdef0123456789abcdef.csv"
REPORT = HttpUrl("https://files.example.com/r.csv?signature=a&b=1")


def imported(**given: Any) -> InventoryImported:
    values = {"business_id": 7, "import_id": "i", "file": FILE, "rows": 1234, "written": 1234, "refused": 0,
              "name": "stock.csv", "user_email": ADA} | given  # fmt: skip
    return InventoryImported(**values)


async def test_an_import_is_told_to_who_sent_the_file(
    sink: MailServer, mailer: Mailer, deliver: Deliver, streams: Streams
) -> None:
    for event in (
        imported(),
        imported(written=1200, refused=34, errors_url=REPORT),
        imported(repeated=True, name="<b>.csv"),
    ):
        assert await send_import_done(event, OutgoingMail(mailer, deliver(event), streams)) == []
    clean, partly, again = sink.mails()
    assert [mail["To"] for mail in sink.mails()] == [ADA] * 3
    assert clean["Subject"] == "Imported: stock.csv"
    assert "https://app.example.com/businesses/7/stock" in text_of(clean).splitlines()
    assert "refused" not in text_of(clean)
    assert partly["Subject"] == "Imported: stock.csv (34 refused)"
    assert str(REPORT) in text_of(partly).splitlines()
    assert re.search(r"Rows imported: +1,200\r?\nRows refused: +34", text_of(partly))
    assert again["Subject"] == "Imported before: <b>.csv"
    assert "<b>.csv had been imported before, so nothing was changed" in text_of(again)


@pytest.mark.parametrize("report", [None, REPORT])
async def test_a_failed_import_says_why(
    sink: MailServer, mailer: Mailer, deliver: Deliver, streams: Streams, report: HttpUrl | None
) -> None:
    event = InventoryImportFailed(
        business_id=7, import_id="i", file=FILE, problem="the file is empty", errors_url=report, user_email=ADA
    )
    assert await send_import_failed(event, OutgoingMail(mailer, deliver(event), streams)) == []
    (mail,) = sink.mails()
    assert mail["Subject"] == "Not imported: Your file"
    assert "the file is empty" in text_of(mail)
    assert str(report or "https://app.example.com/businesses/7/stock") in text_of(mail).splitlines()


async def test_a_failed_import_says_as_before_only_when_it_is_true(
    sink: MailServer, mailer: Mailer, deliver: Deliver, streams: Streams
) -> None:
    for written in (0, 19_999):
        event = InventoryImportFailed(
            business_id=7, import_id="i", file=FILE, problem="it broke", written=written, user_email=ADA
        )
        assert await send_import_failed(event, OutgoingMail(mailer, deliver(event), streams)) == []
    nothing, partly = (text_of(mail) for mail in sink.mails())
    assert "your stock is as it was before" in nothing
    assert "as it was before" not in partly
    assert "19,999 rows of it had been written" in partly.replace("\r\n", " ")


async def test_counts_and_failed_exports(sink: MailServer, mailer: Mailer, deliver: Deliver, streams: Streams) -> None:
    event = imported(written=1200, products_new=3, products_changed=1000, products_unchanged=197)
    assert await send_import_done(event, OutgoingMail(mailer, deliver(event), streams)) == []
    failed = InventoryExportFailed(
        business_id=7, export_id="e", format="xlsx", problem="something went wrong at our side", user_email=ADA
    )
    assert await send_export_failed(failed, OutgoingMail(mailer, deliver(failed), streams)) == []
    done, export = sink.mails()
    for words in (r"new products: +3\b", r"changed: +1,000", r"as they were: +197"):
        assert re.search(words, text_of(done)), words
    assert export["Subject"] == "Your export could not be made"
    assert "something went wrong at our side" in text_of(export)


async def test_an_export_is_told_with_its_link(
    sink: MailServer, mailer: Mailer, deliver: Deliver, streams: Streams
) -> None:
    event = InventoryExported(
        business_id=7, export_id="e", format="xlsx", url=REPORT, rows=1234, bytes=48_200, user_email=ADA
    )
    assert await send_export_ready(event, OutgoingMail(mailer, deliver(event), streams)) == []
    (mail,) = sink.mails()
    assert str(REPORT) in text_of(mail).splitlines()
    assert "XLSX, 48.2 kB" in text_of(mail)


async def test_who_did_not_say_whom_to_tell_gets_no_mail(
    sink: MailServer, mailer: Mailer, deliver: Deliver, streams: Streams
) -> None:
    event = imported(user_email=None)
    failed = InventoryImportFailed(business_id=7, import_id="i", file=FILE, problem="x")
    exported = InventoryExported(business_id=7, export_id="e", format="csv", url=REPORT, rows=1, bytes=1)
    assert await send_import_done(event, OutgoingMail(mailer, deliver(event), streams)) == []
    assert await send_import_failed(failed, OutgoingMail(mailer, deliver(failed), streams)) == []
    assert await send_export_ready(exported, OutgoingMail(mailer, deliver(exported), streams)) == []
    assert sink.events("connect") == []


@pytest.mark.parametrize(
    ("asked_by", "digest_to", "to"),
    [("eve@example.com", "7=bob@example.com", ["eve@example.com"]), (None, "7=bob@example.com", ["bob@example.com"]),
     (None, "8=bob@example.com", [])],
)  # fmt: skip
async def test_a_sync_that_has_stopped_is_mailed(
    sink: MailServer, open_mailer: OpenMailer, deliver: Deliver, streams: Streams, asked_by: str | None, digest_to: str,
    to: list[str],
) -> None:  # fmt: skip
    """To the person who asked for it, else to those who have the business' digest."""
    event = InventorySyncFailed(
        business_id=7, external_system="acme", sync_id="s", page=2, problem="supplier acme: 503", user_email=asked_by
    )
    async with open_mailer(email_digest_to=digest_to) as mailer:
        assert await send_sync_failed(event, OutgoingMail(mailer, deliver(event), streams)) == []
    assert [str(mail["To"]) for mail in sink.mails()] == to
    assert all("supplier acme: 503" in text_of(mail) for mail in sink.mails())
