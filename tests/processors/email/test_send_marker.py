"""A mail whose fate is not known: sent again, or held until somebody has looked."""

from __future__ import annotations

import asyncio
import re
from contextlib import nullcontext, suppress
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from typing import Any

import pytest
from structlog.testing import capture_logs

from examples.fakes.mail_rules import MailRules, Rule
from examples.fakes.mail_server import MailServer
from processors.email.handlers import send_password_reset, send_welcome
from processors.email.mail import message_id
from processors.email.mail_backoff import Ambiguous
from processors.email.mailer import Mailer
from processors.email.outgoing_mail import OutgoingMail
from processors.email.reset_tokens import verify
from processors.email.send_marker import SendMarker, Taken
from processors.email.smtp_replies import Held
from schemas import PasswordResetRequested, UserRegistered
from streams.client.client import Streams
from streams.messages.delivery import Delivery
from streams.messages.message import Carried
from streams.messages.outcome import Retry, Unavailable
from tests.processors.email.conftest import Deliver, OpenMailer

ADA = "ada@example.com"
WELCOME = UserRegistered(user_id=1, email=ADA, name="Ada")
IDENTITY = message_id("event-1", "welcome", "bord.example")


@pytest.fixture
def deliver_turn(deliver: Deliver) -> Deliver:
    """The delivery of the same event after so many replays."""

    def deliver_turn(turn: int) -> Delivery:
        delivery = deliver(WELCOME, "event-1")
        delivery.message.carried = Carried(replays=turn)
        return delivery

    return deliver_turn


async def test_a_lost_reply_is_held_until_it_is_replayed(
    sink: MailServer, open_mailer: OpenMailer, streams: Streams, deliver_turn: Deliver
) -> None:
    sink.follow(MailRules(recipients={ADA: Rule(drop=True, times=1)}))
    async with open_mailer(email_ambiguous="hold") as mailer:
        with pytest.raises(Held, match=r"may or may not have been sent \(no reply after the content: \w+\)") as caught:
            await send_welcome(WELCOME, OutgoingMail(mailer, deliver_turn(0), streams))
        assert IDENTITY in str(caught.value)
        with pytest.raises(Held, match="ended before the server's reply"):
            await send_welcome(WELCOME, OutgoingMail(mailer, deliver_turn(0), streams))
        assert len(sink.mails()) == 1
        for _ in range(2):  # somebody has looked; and its process dies before it is settled
            assert await send_welcome(WELCOME, OutgoingMail(mailer, deliver_turn(1), streams)) == []
    assert [mail["Message-ID"] for mail in sink.mails()] == [IDENTITY] * 2
    assert [event["event"] for event in sink.events() if event["message_id"]] == ["dropped", "accepted"]


async def test_what_the_server_has_taken_is_not_sent_again(
    sink: MailServer, open_mailer: OpenMailer, streams: Streams, deliver_turn: Deliver
) -> None:
    """Its process died after the reply, and before the event was settled."""
    async with open_mailer(email_ambiguous="hold") as mailer:
        await send_welcome(WELCOME, OutgoingMail(mailer, deliver_turn(0), streams))
        with capture_logs() as logs:
            assert await send_welcome(WELCOME, OutgoingMail(mailer, deliver_turn(0), streams)) == []
    assert [entry["event"] for entry in logs] == ["mail.already_sent"]
    assert len(sink.mails()) == 1


@pytest.mark.parametrize("at", ["rcpt", "data"])
async def test_a_refusal_is_no_doubt(
    sink: MailServer, open_mailer: OpenMailer, streams: Streams, deliver_turn: Deliver, at: str
) -> None:
    sink.follow(MailRules(recipients={ADA: Rule.model_validate({"code": 451, "at": at, "times": 1})}))
    async with open_mailer(email_ambiguous="hold") as mailer:
        with pytest.raises(Retry):
            await send_welcome(WELCOME, OutgoingMail(mailer, deliver_turn(0), streams))
        await send_welcome(WELCOME, OutgoingMail(mailer, deliver_turn(0), streams))
    assert len(sink.mails()) == 1


async def test_a_server_that_is_away_is_no_doubt_either(
    sink: MailServer, open_mailer: OpenMailer, streams: Streams, deliver_turn: Deliver
) -> None:
    sink.stop_listening()
    async with open_mailer(email_ambiguous="hold") as mailer:
        with pytest.raises(Unavailable):
            await send_welcome(WELCOME, OutgoingMail(mailer, deliver_turn(0), streams))
        sink.listen()
        await send_welcome(WELCOME, OutgoingMail(mailer, deliver_turn(0), streams))
    assert len(sink.mails()) == 1


async def test_what_is_sent_once_is_sent_again_only_in_doubt(
    sink: MailServer, mailer: Mailer, streams: Streams, deliver_turn: Deliver
) -> None:
    """With a subject of its own, and `EMAIL_AMBIGUOUS` as it is by default."""
    sink.follow(MailRules(recipients={ADA: Rule(drop=True, times=1)}))

    async def once() -> None:
        values = {"name": "Ada", "link": "https://app.example.com/"}
        await OutgoingMail(mailer, deliver_turn(0), streams).send(
            "welcome", (ADA,), subject_id="7-2026-11-23", **values
        )

    with pytest.raises(Ambiguous):
        await once()
    for _ in range(3):
        await once()
    assert [mail["Message-ID"] for mail in sink.mails()] == ["<7-2026-11-23.welcome@bord.example>"] * 2


async def test_of_two_processes_with_one_mail_one_sends(
    sink: MailServer, mailer: Mailer, streams: Streams, deliver_turn: Deliver
) -> None:
    """The other one leaves the server with a connection that can be used."""
    first, second = (SendMarker(streams.redis, streams.keys, IDENTITY, replays=0) for _ in range(2))
    assert [await first.known(), await second.known()] == ["", ""]
    await first.begin()
    with pytest.raises(Taken):
        await second.begin()

    async def attempt() -> None:
        values = {"name": "Ada", "link": "https://app.example.com/"}
        await OutgoingMail(mailer, deliver_turn(0), streams).send("welcome", (ADA,), subject_id="both", **values)

    done = await asyncio.gather(*(attempt() for _ in range(5)), return_exceptions=True)
    assert {type(error) for error in done if error} <= {Ambiguous}
    assert len(sink.mails()) == 1
    await send_welcome(WELCOME, OutgoingMail(mailer, deliver_turn(0), streams))
    assert len(sink.mails()) == 2
    assert not [event for event in sink.events("data") if event["code"] >= 400]


async def test_the_mark_ends(streams: Streams) -> None:
    marker = SendMarker(streams.redis, streams.keys, IDENTITY, replays=3)
    await marker.begin()
    (key,) = [name async for name in streams.redis.scan_iter(f"{streams.keys.tag}:own:email:mail:*")]
    assert 6 * 86_400 < await streams.redis.ttl(key) <= 7 * 86_400
    await marker.end()
    assert 6 * 86_400 < await streams.redis.ttl(key) <= 7 * 86_400
    assert [await SendMarker(streams.redis, streams.keys, IDENTITY, replays=turn).known() for turn in (2, 3)] == [
        "",
        "sent",
    ]


RESET = PasswordResetRequested(
    user_id=1, email=ADA, reset_id="reset-12345", expires_at=datetime.now(UTC) + timedelta(hours=1)
)


def link_of(mail: EmailMessage) -> str:
    """The token in a mail's link."""
    body = mail.get_body(("plain",))
    assert body is not None
    (token,) = re.findall(r"\?token=([\w-]+)", body.get_content())
    return str(token)


async def works(streams: Streams, token: str) -> bool:
    """Uses it up, if it does."""
    return await verify(streams.redis, streams.keys, RESET.reset_id, token)


@pytest.mark.parametrize(
    ("first", "then", "mails"),
    [
        (Rule(drop=True, times=1), Held, 1),  # it may have arrived, and the same event comes again
        (Rule(times=0), None, 1),  # it was sent, and its process died before it was settled
    ],
)
async def test_a_reset_that_is_held_leaves_the_mailed_link_alone(
    sink: MailServer, open_mailer: OpenMailer, streams: Streams, deliver: Deliver, first: Rule, then: Any, mails: int
) -> None:
    """A delivery that sends no mail makes no token that works, and ends none."""
    sink.follow(MailRules(recipients={ADA: first}))
    async with open_mailer(email_ambiguous="hold") as mailer:
        with suppress(Held):
            await send_password_reset(RESET, OutgoingMail(mailer, deliver(RESET, "event-1"), streams))
        for _ in range(3):
            with pytest.raises(then) if then else nullcontext():
                await send_password_reset(RESET, OutgoingMail(mailer, deliver(RESET, "event-1"), streams))
    assert len(sink.mails()) == mails
    assert await works(streams, link_of(sink.mails()[0]))


@pytest.mark.parametrize("at", ["rcpt", "data"])
@pytest.mark.parametrize("ambiguous", ["hold", "resend"])
async def test_a_reset_that_is_refused_for_now_leaves_an_earlier_link_alone(
    sink: MailServer, open_mailer: OpenMailer, streams: Streams, deliver: Deliver, at: str, ambiguous: str
) -> None:
    """The same reset is asked for again, and that mail waits for two hours: the first mail's link works meanwhile."""
    async with open_mailer(email_ambiguous=ambiguous) as mailer:
        await send_password_reset(RESET, OutgoingMail(mailer, deliver(RESET, "event-1"), streams))
        sink.follow(MailRules(recipients={ADA: Rule.model_validate({"code": 451, "at": at, "times": 3})}))
        for _ in range(3):
            with pytest.raises(Retry):
                await send_password_reset(RESET, OutgoingMail(mailer, deliver(RESET, "event-2"), streams))
        sink.stop_listening()
        with pytest.raises(Unavailable):
            await send_password_reset(RESET, OutgoingMail(mailer, deliver(RESET, "event-2"), streams))
    (mail,) = sink.mails()
    assert await works(streams, link_of(mail))


async def test_of_resets_that_were_mailed_the_newest_works(
    sink: MailServer, open_mailer: OpenMailer, streams: Streams, deliver: Deliver
) -> None:
    async with open_mailer() as mailer:
        for event_id in ("event-1", "event-2"):
            await send_password_reset(RESET, OutgoingMail(mailer, deliver(RESET, event_id), streams))
    first, second = [link_of(mail) for mail in sink.mails()]
    assert not await works(streams, first)
    assert await works(streams, second)


async def test_of_resets_whose_fate_is_unknown_each_link_works(
    sink: MailServer, open_mailer: OpenMailer, streams: Streams, deliver: Deliver
) -> None:
    """The first mail is with the server, the reply to the second is lost."""
    async with open_mailer() as mailer:
        await send_password_reset(RESET, OutgoingMail(mailer, deliver(RESET, "event-1"), streams))
        sink.follow(MailRules(recipients={ADA: Rule(drop=True, times=1)}))
        with pytest.raises(Ambiguous):
            await send_password_reset(RESET, OutgoingMail(mailer, deliver(RESET, "event-2"), streams))
    tokens = [link_of(mail) for mail in sink.mails()]
    stored = await streams.redis.smembers(
        next(iter([key async for key in streams.redis.scan_iter(f"{{{streams.keys.app}:*:tokens")]))
    )
    assert len(stored) == len(tokens) == 2
    assert await works(streams, tokens[0])


async def test_a_reset_that_may_not_be_written_has_no_token(
    sink: MailServer, open_mailer: OpenMailer, streams: Streams, deliver: Deliver
) -> None:
    """Its address is in no domain of EMAIL_ALLOWED_RECIPIENTS; the log says so, and what to set."""
    async with open_mailer(email_allowed_recipients="bord.example") as mailer:
        with capture_logs() as logs:
            await send_password_reset(RESET, OutgoingMail(mailer, deliver(RESET, "event-1"), streams))
    assert sink.mails() == []
    assert [key async for key in streams.redis.scan_iter(f"{{{streams.keys.app}:*:tokens")] == []
    (line,) = logs
    assert line == {
        "event": "mail.held", "log_level": "info", "event_id": "event-1", "held": 1,
        "message_id": message_id("event-1", "password_reset", "bord.example"), "set": "EMAIL_ALLOWED_RECIPIENTS",
    }  # fmt: skip
    assert ADA not in repr(line)
