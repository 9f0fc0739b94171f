"""Mails: one for each event that somebody is written to about, handed to a mail server."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from pydantic import HttpUrl

from examples.fakes.mail_rules import MailRules, Rule
from examples.fakes.mail_server import MailServer
from processors.email import email
from processors.email.apply_settings import apply_settings
from processors.email.settings import EmailSettings
from schemas import EmailRefused, InventoryImported, StockBelowThreshold, UserRegistered
from streams import Streams
from tests.guide.shop import becomes
from tests.streams.conftest import StartConsumer
from tests.support.waiting import wait_until

pytestmark = pytest.mark.newest_redis

FILE = "1/0123456789abcdef0123456789abcdef.csv"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MailServer]:
    """A mail server that keeps what it is given, and misbehaves when it is told to."""
    with MailServer(tmp_path / "mails") as sink:
        monkeypatch.setenv("SMTP_URL", f"smtp://127.0.0.1:{sink.port}")
        yield sink


async def test_who_sent_a_file_is_told_what_became_of_it(
    streams: Streams, start: StartConsumer, server: MailServer
) -> None:
    """With the link to the report of what was refused."""
    await start(email)
    await streams.publish(
        InventoryImported(
            business_id=1, import_id="7", file=FILE, name="stock.csv", rows=12, written=10, refused=2,
            errors_url=HttpUrl("https://files.example.com/report.csv"), user_email="ada@example.com",
        )
    )  # fmt: skip

    (mail,) = await wait_until(server.mails)
    assert (mail["To"], mail["Subject"]) == ("ada@example.com", "Imported: stock.csv (2 refused)")
    assert "https://files.example.com/report.csv" in mail.get_body(("plain",)).get_content()


async def test_one_refused_address_does_not_keep_it_from_the_others(
    streams: Streams, start: StartConsumer, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mail is sent, and an event that follows says who did not get it, and why."""
    monkeypatch.setenv("EMAIL_STOCK_ALERTS_TO", "ada@example.com,gone@example.com")
    monkeypatch.setenv("EMAIL_STOCK_GATHER", "0")
    server.follow(MailRules(recipients={"gone@example.com": Rule(code=550, text="no such mailbox")}))
    await start(email)
    receipt = await streams.publish(StockBelowThreshold(business_id=1, sku="OAK-1", quantity=3, threshold=10))

    await becomes(streams, receipt, "email", "acked")
    (accepted,) = server.events("accepted")
    assert accepted["recipients"] == ["ada@example.com"]
    (follow_up,) = (await streams.event(receipt.id)).follow_ups
    ((_, fields),) = await streams.redis.xrange(streams.keys.stream("emails"))
    refused = EmailRefused.decode(fields[b"data"], 1)
    assert follow_up.type == "EmailRefused"
    assert (refused.recipients, refused.code, refused.reply) == (["gone@example.com"], 550, "no such mailbox")


async def test_a_mail_whose_fate_is_unknown_is_held(
    streams: Streams, start: StartConsumer, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `EMAIL_AMBIGUOUS=hold` it is a dead letter; replay it to send it. Without, it is sent again at once."""
    monkeypatch.setenv("EMAIL_AMBIGUOUS", "hold")
    server.follow(MailRules(recipients={"ada@example.com": Rule(drop=True, times=1)}))  # taken, and no reply
    await start(email)
    receipt = await streams.publish(UserRegistered(user_id=7, email="ada@example.com", name="Ada"))

    await becomes(streams, receipt, "email", "dead")
    (letter,) = [letter async for letter in streams.dead_letters("email").ls()]
    assert "it may or may not have been sent" in letter.error

    await streams.dead_letters("email").replay([receipt.id])
    await becomes(streams, receipt, "email", "acked")
    assert len({str(mail["Message-ID"]) for mail in server.mails()}) == 1


async def test_only_so_many_mails_a_second(streams: Streams, start: StartConsumer, server: MailServer) -> None:
    """`EMAIL_RATE=10`: whatever they are about, and however many processes send them."""
    settings = EmailSettings(email_rate=10, email_stock_alerts_to=("ada@example.com",))
    for _ in range(2):
        await start(apply_settings(email, settings))
    await streams.publish_many(UserRegistered(user_id=n, email=f"u{n}@example.com", name="Ada") for n in range(11))

    await wait_until(lambda: len(server.mails()) == 11)
    times = sorted(line["time"] for line in server.events("accepted"))
    assert sum(later - earlier for earlier, later in pairwise(times)) > 10 * 0.1 * 0.8
