"""When a mail is tried again: a real mail server that refuses for now, and the clock of the harness for the hours."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP
from pydantic import SecretStr

from examples.fakes.mail_rules import MailRules, Rule
from examples.fakes.mail_server import MailServer
from processors.email.handlers import send_welcome
from processors.email.mail_backoff import Deferred, MailBackoff
from processors.email.outgoing_mail import OutgoingMail
from schemas import EmailRefused, PasswordResetRequested, StockBelowThreshold, UserRegistered
from streams.client.client import Streams
from streams.messages.outcome import Retry, Unavailable
from tests.processors.email.conftest import Deliver, OpenHarness, OpenMailer

ADA, BOB, EVE = "ada@example.com", "bob@example.com", "eve@example.com"
WELCOME = UserRegistered(user_id=1, email=ADA, name="Ada")
LOW = StockBelowThreshold(business_id=7, sku="OAK-1", quantity=3, threshold=10)


def codes(sink: MailServer) -> list[int]:
    return [event["code"] for event in sink.events() if event["event"] in ("mail", "rcpt", "data", "accepted")]


@pytest.mark.parametrize(
    ("code", "at", "text"),
    [
        (450, "rcpt", "4.2.0 greylisted, come back in 5 minutes"),
        (451, "rcpt", "4.7.1 greylisting in action"),
        (452, "rcpt", "4.2.2 mailbox full"),
        (421, "rcpt", "4.7.28 unusual rate of mail"),
        (421, "data", "4.3.2 too many messages"),
        (454, "mail", "Throttling failure: maximum sending rate exceeded"),
        (454, "data", "Throttling failure: maximum sending rate exceeded"),
        (450, "mail", "4.7.1 too much mail from you"),
        (499, "data", "no known code"),
    ],
)
async def test_refused_for_now_is_tried_over_minutes_and_hours(
    sink: MailServer, open_harness: OpenHarness, code: int, at: str, text: str
) -> None:
    """Eight refusals: the tries last for more than two hours. No breaker: another mail goes out meanwhile."""
    name = "*" if at == "mail" else ADA
    sink.follow(MailRules(recipients={name: Rule.model_validate({"code": code, "at": at, "text": text, "times": 8})}))
    async with open_harness() as streams:
        receipt = await streams.publish(WELCOME)
        await streams.run()
        assert sink.mails() == []
        if at != "mail":
            await streams.publish(UserRegistered(user_id=2, email=BOB, name="Bob"))
            await streams.run()
            assert [mail["To"] for mail in sink.mails()] == [BOB]
        await streams.advance(minutes=31)
        assert list(streams.dead_letters("email")) == []
        before = len([mail for mail in sink.mails() if mail["To"] == ADA])
        await streams.advance(hours=8)
        (group,) = [group for group in (await streams.event(receipt.id)).groups if group.group == "email"]
        assert list(streams.dead_letters("email")) == []
    assert before == 0
    assert codes(sink).count(code) == 8
    assert [mail["To"] for mail in sink.mails() if mail["To"] == ADA] == [ADA]
    assert group.state == "acked"


async def test_it_is_given_up_after_its_attempts_with_the_reply(sink: MailServer, open_harness: OpenHarness) -> None:
    sink.follow(MailRules(recipients={ADA: Rule(code=450, text="4.2.0 greylisted")}))
    async with open_harness() as streams:
        await streams.publish(WELCOME)
        await streams.run()
        await streams.advance(hours=20)
        assert list(streams.dead_letters("email")) == []
        await streams.advance(days=4)
        (letter,) = streams.dead_letters("email")
    assert (letter.reason, letter.attempts) == ("failed", 20)
    assert "450 4.2.0 greylisted" in letter.error
    assert codes(sink) == [450] * 20


async def test_a_reset_is_tried_until_its_link_ends(sink: MailServer, open_harness: OpenHarness) -> None:
    """The last try is a minute before; what comes later would be of no use to the person."""
    sink.follow(MailRules(recipients={ADA: Rule(code=451)}))
    start = datetime.now(UTC)
    async with open_harness() as streams:
        expires_at = start + timedelta(hours=1)
        await streams.publish(
            PasswordResetRequested(user_id=1, email=ADA, reset_id="reset-12345", expires_at=expires_at)
        )
        await streams.run()
        await streams.advance(minutes=57)
        assert list(streams.dead_letters("email")) == []
        tried = len(codes(sink))
        await streams.advance(minutes=4)
        (letter,) = streams.dead_letters("email")
        assert timedelta(minutes=58) < datetime.fromisoformat(letter.last_failed_at) - start < timedelta(hours=1)
    assert "451" in letter.error
    assert len(codes(sink)) == tried + 1


def test_the_schedule() -> None:
    """As docs/business/mail.md says it: minutes, then hours, two days in all; other errors have the engine's three
    tries.
    """
    policy = MailBackoff()
    refused = [policy.next_delay(n, Deferred("450"), lambda: 0.5) for n in range(1, 21)]
    minutes = [delay / 60 for delay in refused if delay is not None]
    assert minutes == [1, 2, 4, 8, 16, 32, 64, 128] + [240] * 11
    assert sum(minutes) / 60 / 24 == pytest.approx(2.0, abs=0.1)
    assert refused[-1] is None
    assert [policy.next_delay(n, Retry("x"), lambda: 0.5) for n in range(1, 4)] == [2.0, 4.0, None]
    assert policy.next_delay(9, Retry("x"), lambda: 0.5) == 4 * 3600  # eight were refusals of the server


async def test_a_lost_reply_counts_its_own_kind(sink: MailServer, open_harness: OpenHarness) -> None:
    """After five refusals for now its reply is lost again and again: three copies, and no more."""
    refused = {ADA: Rule(code=451, times=5)}
    sink.follow(MailRules(recipients=refused))
    async with open_harness() as streams:
        await streams.publish(WELCOME)
        await streams.run()
        await streams.advance(minutes=25)
        sink.follow(MailRules(recipients={ADA: Rule(drop=True)}))
        await streams.advance(hours=3)
        (letter,) = streams.dead_letters("email")
    assert "no reply after the content" in letter.error
    assert len(sink.mails()) == 3


async def test_an_outage_costs_no_attempt(sink: MailServer, open_harness: OpenHarness) -> None:
    sink.follow(MailRules(refuse=True))
    async with open_harness() as streams:
        await streams.publish(WELCOME)
        await streams.run()
        await streams.advance(minutes=20)
        assert list(streams.dead_letters("email")) == []
        sink.follow(MailRules())
        await streams.advance(minutes=2)
    assert len(sink.mails()) == 1


@pytest.mark.parametrize("hold", ["resend", "hold"])
async def test_a_recipient_who_is_refused_for_now_is_tried_alone(
    sink: MailServer, open_harness: OpenHarness, hold: str
) -> None:
    """The others have the mail and get no second one; who is refused for good is reported, once."""
    sink.follow(MailRules(recipients={BOB: Rule(code=450, times=3), EVE: Rule(code=550)}))
    async with open_harness(email_stock_alerts_to=f"{ADA},{BOB},{EVE}", email_ambiguous=hold) as streams:
        await streams.publish(LOW)
        await streams.run()
        await streams.advance(hours=1)
        assert list(streams.dead_letters("email")) == []
        (refused,) = streams.published(EmailRefused)
    assert [event["recipients"] for event in sink.events("accepted")] == [[ADA], [BOB]]
    assert (refused.recipients, refused.code) == ([EVE], 550)
    assert len({mail["Message-ID"] for mail in sink.mails()}) == 1


async def test_a_recipient_who_stays_refused_is_reported_at_last(sink: MailServer, open_harness: OpenHarness) -> None:
    sink.follow(MailRules(recipients={BOB: Rule(code=450), EVE: Rule(code=550)}))
    settings = {"email_stock_alerts_to": f"{ADA},{BOB},{EVE}", "email_retry_attempts": 3}
    async with open_harness(**settings) as streams:
        await streams.publish(LOW)
        await streams.run()
        await streams.advance(hours=1)
        assert list(streams.dead_letters("email")) == []
        refused = streams.published(EmailRefused)
    assert sorted((event.recipients, event.code) for event in refused) == [([BOB], 450), ([EVE], 550)]
    assert [event["recipients"] for event in sink.events("accepted")] == [[ADA]]


class OldServer(SMTP):
    """A server that knows no EHLO."""

    reply = "502 5.5.1 command not implemented"

    async def smtp_EHLO(self, hostname: str) -> None:  # noqa: N802
        await self.push(self.reply)


class Kept:
    """What it was given."""

    def __init__(self) -> None:
        self.contents: list[bytes] = []

    async def handle_DATA(self, _server: object, _session: object, envelope: Any) -> str:  # noqa: N802
        self.contents.append(envelope.content)
        return "250 OK"


@pytest.mark.parametrize("reply", ["500 unknown command", "502 not implemented", "504 no such parameter"])
async def test_a_server_without_ehlo_is_greeted_with_helo(
    reply: str, open_mailer: OpenMailer, streams: Streams, deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OldServer, "reply", reply)
    kept = Kept()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: OldServer(kept, loop=loop), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with open_mailer(smtp_url=SecretStr(f"smtp://127.0.0.1:{port}")) as mailer:
            for id in ("one", "two"):
                assert await send_welcome(WELCOME, OutgoingMail(mailer, deliver(WELCOME, id), streams)) == []
            assert mailer.connections.opened == 1
    assert len(kept.contents) == 2


async def test_a_server_that_wants_no_greeting_of_ours_is_an_outage(
    open_mailer: OpenMailer, streams: Streams, deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """550 to EHLO is about us, and HELO would not change it."""
    monkeypatch.setattr(OldServer, "reply", "550 5.7.1 not from there")
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: OldServer(Kept(), loop=loop), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with open_mailer(smtp_url=SecretStr(f"smtp://127.0.0.1:{port}")) as mailer:
            with pytest.raises(Unavailable, match="550"):
                await send_welcome(WELCOME, OutgoingMail(mailer, deliver(WELCOME), streams))
