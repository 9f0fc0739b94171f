"""Many low-stock alerts that come together are one mail, however they come, and each item is mailed about once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from email.message import EmailMessage

import pytest

from examples.fakes.mail_rules import MailRules, Rule
from examples.fakes.mail_server import MailServer
from processors.email.handlers import send_stock_alert, send_stock_alerts
from processors.email.low_stock import Alert, LowStock
from processors.email.outgoing_mail import OutgoingMail
from schemas import EmailRefused, StockAlertsDue, StockBelowThreshold
from streams import Event
from streams.client.client import Streams
from streams.messages.outcome import DeadLetter, Snooze
from streams.testing import Harness
from tests.processors.email.conftest import Deliver, MakeSettings, OpenHarness, OpenMailer
from tests.support.waiting import wait_until

ADA, BOB = "ada@example.com", "bob@example.com"


def low(number: int, *, business_id: int = 7, quantity: int = 1) -> StockBelowThreshold:
    return StockBelowThreshold(
        business_id=business_id, sku=f"S-{number:03}", quantity=quantity, threshold=10, name=f"Oak board {number}",
        business="Söhne & Co",
    )  # fmt: skip


def text_of(mail: EmailMessage) -> str:
    body = mail.get_body(("plain",))
    assert body is not None
    return str(body.get_content()).replace("\r\n", "\n")


@pytest.fixture
async def harness(open_harness: OpenHarness) -> AsyncIterator[Harness]:
    async with open_harness(email_stock_alerts_to=ADA, email_stock_gather=30) as streams:
        yield streams


@pytest.mark.parametrize("at_once", [1, 7, 300])
async def test_300_alerts_are_one_mail(sink: MailServer, harness: Harness, at_once: int) -> None:
    """In whatever pieces they are published within half a minute."""
    events = [low(number, quantity=number % 10) for number in range(300)]
    for begin in range(0, 300, at_once):
        await harness.publish_many(events[begin : begin + at_once])
        if at_once != 1 or begin % 20 == 0:
            await harness.run()
    await harness.advance(minutes=2)
    (mail,) = sink.mails()
    assert mail["Subject"] == "Low stock: 300 items of Söhne & Co"
    text = text_of(mail)
    assert text.count(" left") == 50
    assert "and 250 more" in text
    assert "Oak board 0 " in text
    assert "S-000" in text
    assert "Söhne & Co" in text
    assert len(harness.published(StockAlertsDue)) == 1
    assert list(harness.dead_letters("email")) == []


async def test_a_few_are_a_mail_each(sink: MailServer, harness: Harness) -> None:
    receipts = await harness.publish_many([low(number) for number in range(5)])
    await harness.run()
    assert sink.mails() == []
    await harness.advance(minutes=1)
    assert {mail["Message-ID"] for mail in sink.mails()} == {
        f"<{receipt.id}.stock_alert@bord.example>" for receipt in receipts
    }
    assert len(sink.mails()) == 5


async def test_businesses_have_mails_of_their_own(sink: MailServer, harness: Harness) -> None:
    await harness.publish_many([low(number, business_id=number % 2) for number in range(40)])
    await harness.run()
    await harness.advance(minutes=1)
    assert len(sink.mails()) == 2


async def test_what_comes_later_is_the_next_mail(sink: MailServer, harness: Harness) -> None:
    await harness.publish_many([low(number) for number in range(10)])
    await harness.run()
    await harness.advance(minutes=1)
    await harness.publish_many([low(number) for number in range(20)])  # half of them were mailed about
    await harness.run()
    await harness.advance(minutes=1)
    assert [mail["Subject"].split()[2] for mail in sink.mails()] == ["10", "10"]


async def test_a_refusal_for_now_sends_the_same_mail_later(sink: MailServer, harness: Harness) -> None:
    sink.follow(MailRules(recipients={ADA: Rule(code=451, times=2)}))
    await harness.publish_many([low(number) for number in range(10)])
    await harness.run()
    await harness.advance(minutes=1)
    await harness.publish_many([low(number) for number in range(10, 30)])
    await harness.run()
    await harness.advance(hours=1)
    assert sorted(mail["Subject"].split()[2] for mail in sink.mails()) == ["10", "20"]


async def test_a_lost_reply_repeats_the_same_mail(sink: MailServer, harness: Harness) -> None:
    sink.follow(MailRules(recipients={ADA: Rule(drop=True, times=1)}))
    await harness.publish_many([low(number) for number in range(10)])
    await harness.run()
    await harness.advance(hours=1)
    first, second = sink.mails()
    assert first["Message-ID"] == second["Message-ID"]
    assert text_of(first) == text_of(second)


async def test_a_redelivered_alert_begins_no_second_mail(
    sink: MailServer, open_mailer: OpenMailer, streams: Streams, deliver: Deliver
) -> None:
    """Its process died after it had gathered the alert and before the event was settled."""
    due = StockAlertsDue(business_id=7)
    async with open_mailer(email_stock_alerts_to=ADA, email_stock_gather=0.05) as mailer:

        async def alert(number: int) -> list[Event]:
            event = low(number)
            return list(await send_stock_alert(event, OutgoingMail(mailer, deliver(event, f"event-{number}"), streams)))

        asked = [event for number in range(8) for event in await alert(number)]
        assert asked == [due]
        assert await alert(0) == [due], "the leader asks again: its first answer was lost"

        async def send() -> bool:
            try:
                return await send_stock_alerts(due, OutgoingMail(mailer, deliver(due, "due"), streams)) == []
            except Snooze:
                return False

        await wait_until(send)
        for number in range(8):
            assert await alert(number) == []
        assert await send(), "the due event is delivered again"
        other = OutgoingMail(mailer, deliver(due, "another"), streams)
        assert await send_stock_alerts(due, other) == []
    assert [mail["Message-ID"] for mail in sink.mails()] == ["<due.stock_alerts@bord.example>"]


async def test_a_refusal_for_good_leaves_the_items_to_the_next_alerts(sink: MailServer, harness: Harness) -> None:
    sink.follow(MailRules(recipients={ADA: Rule(code=550, times=1)}))
    for _ in range(2):
        await harness.publish_many([low(number) for number in range(10)])
        await harness.run()
        await harness.advance(minutes=1)
    (letter,) = harness.dead_letters("email")
    assert letter.type == "StockAlertsDue"
    assert len(sink.mails()) == 1


async def test_who_was_refused_is_reported_although_a_later_mail_fails(
    sink: MailServer, make_settings: MakeSettings, open_mailer: OpenMailer, streams: Streams, deliver: Deliver
) -> None:
    sink.follow(MailRules(recipients={BOB: Rule(code=550), ADA: Rule(code=451, at="data", times=1)}))
    due = StockAlertsDue(business_id=7)
    async with open_mailer(email_stock_alerts_to=f"{ADA},{BOB}", email_stock_gather=0.001) as mailer:
        for number in range(3):
            event = low(number)
            await send_stock_alert(event, OutgoingMail(mailer, deliver(event, f"event-{number}"), streams))
        made: list[Event] = []

        async def send() -> bool:
            try:
                made.extend(await send_stock_alerts(due, OutgoingMail(mailer, deliver(due, "due"), streams)))
            except DeadLetter:
                raise
            except Exception:
                return False
            return True

        await wait_until(send)
    assert len(sink.mails()) == 3
    assert len([event for event in made if isinstance(event, EmailRefused)]) == 3


async def test_a_lost_leader_does_not_hold_the_others(streams: Streams) -> None:
    """It was cancelled after it had gathered: one that finds the mail overdue asks for it."""
    gathered = LowStock(streams.redis, streams.keys, 7, seconds=0)
    assert await gathered.add(Alert("a", "A", 1, 2, "", "")) is True
    assert await gathered.add(Alert("b", "B", 1, 2, "", "")) is False
    key = streams.keys.own("email", "low", "7", "waiting")
    await streams.redis.hincrby(key, "since", -61_000)
    assert await gathered.add(Alert("c", "C", 1, 2, "", "")) is True
    found = await gathered.take("due")
    assert isinstance(found, list)
    assert {alert.event_id for alert in found} == {"a", "b", "c"}
    for name in [name async for name in streams.redis.scan_iter(f"{streams.keys.tag}:own:email:low:*")]:
        assert 6 * 86_400 < await streams.redis.ttl(name) <= 7 * 86_400


async def test_of_many_takers_one_takes(streams: Streams) -> None:
    gathered = LowStock(streams.redis, streams.keys, 7, seconds=0)
    for number in range(20):
        await gathered.add(Alert(str(number), f"S{number}", 1, 2, "", ""))
    taken = await asyncio.gather(*(gathered.take(f"due-{number}") for number in range(10)))
    assert sorted(len(found) for found in taken if isinstance(found, list)) == [0] * 9 + [20]
