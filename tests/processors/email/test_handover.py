"""A mail whose fate is not known: sent again, or held until somebody has looked."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from processors.demo.script import Rule, Script
from processors.demo.sink import Sink
from processors.email.handlers import send_welcome
from processors.email.handover import Handover, Taken
from processors.email.mail import message_id
from processors.email.mailer import Mailer
from processors.email.post import Post
from processors.email.replies import Held
from processors.email.tries import Ambiguous
from schemas import UserRegistered
from streams.client import Streams
from streams.delivery import Delivery
from streams.message import Carried
from streams.outcome import Retry, Unavailable
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
    sink: Sink, open_mailer: OpenMailer, streams: Streams, deliver_turn: Deliver
) -> None:
    sink.follow(Script(recipients={ADA: Rule(drop=True, times=1)}))
    async with open_mailer(email_ambiguous="hold") as mailer:
        with pytest.raises(Held, match=r"may or may not have been sent \(no reply after the content: \w+\)") as caught:
            await send_welcome(WELCOME, Post(mailer, deliver_turn(0), streams))
        assert IDENTITY in str(caught.value)
        with pytest.raises(Held, match="ended before the server's reply"):
            await send_welcome(WELCOME, Post(mailer, deliver_turn(0), streams))
        assert len(sink.mails()) == 1
        for _ in range(2):  # somebody has looked; and its process dies before it is settled
            assert await send_welcome(WELCOME, Post(mailer, deliver_turn(1), streams)) == []
    assert [mail["Message-ID"] for mail in sink.mails()] == [IDENTITY] * 2
    assert [event["event"] for event in sink.events() if event["message_id"]] == ["dropped", "accepted"]


async def test_what_the_server_has_taken_is_not_sent_again(
    sink: Sink, open_mailer: OpenMailer, streams: Streams, deliver_turn: Deliver
) -> None:
    """Its process died after the reply, and before the event was settled."""
    async with open_mailer(email_ambiguous="hold") as mailer:
        await send_welcome(WELCOME, Post(mailer, deliver_turn(0), streams))
        with capture_logs() as logs:
            assert await send_welcome(WELCOME, Post(mailer, deliver_turn(0), streams)) == []
    assert [entry["event"] for entry in logs] == ["mail.already_sent"]
    assert len(sink.mails()) == 1


@pytest.mark.parametrize("at", ["rcpt", "data"])
async def test_a_refusal_is_no_doubt(
    sink: Sink, open_mailer: OpenMailer, streams: Streams, deliver_turn: Deliver, at: str
) -> None:
    sink.follow(Script(recipients={ADA: Rule.model_validate({"code": 451, "at": at, "times": 1})}))
    async with open_mailer(email_ambiguous="hold") as mailer:
        with pytest.raises(Retry):
            await send_welcome(WELCOME, Post(mailer, deliver_turn(0), streams))
        await send_welcome(WELCOME, Post(mailer, deliver_turn(0), streams))
    assert len(sink.mails()) == 1


async def test_a_server_that_is_away_is_no_doubt_either(
    sink: Sink, open_mailer: OpenMailer, streams: Streams, deliver_turn: Deliver
) -> None:
    sink.stop_listening()
    async with open_mailer(email_ambiguous="hold") as mailer:
        with pytest.raises(Unavailable):
            await send_welcome(WELCOME, Post(mailer, deliver_turn(0), streams))
        sink.listen()
        await send_welcome(WELCOME, Post(mailer, deliver_turn(0), streams))
    assert len(sink.mails()) == 1


async def test_what_is_sent_once_is_sent_again_only_in_doubt(
    sink: Sink, mailer: Mailer, streams: Streams, deliver_turn: Deliver
) -> None:
    """With a subject of its own, and `EMAIL_AMBIGUOUS` as it is by default."""
    sink.follow(Script(recipients={ADA: Rule(drop=True, times=1)}))

    async def once() -> None:
        values = {"name": "Ada", "link": "https://app.example.com/"}
        await Post(mailer, deliver_turn(0), streams).send("welcome", (ADA,), subject_id="7-2026-11-23", **values)

    with pytest.raises(Ambiguous):
        await once()
    for _ in range(3):
        await once()
    assert [mail["Message-ID"] for mail in sink.mails()] == ["<7-2026-11-23.welcome@bord.example>"] * 2


async def test_of_two_processes_with_one_mail_one_sends(
    sink: Sink, mailer: Mailer, streams: Streams, deliver_turn: Deliver
) -> None:
    """The other one leaves the server with a connection that can be used."""
    first, second = (Handover(streams.redis, streams.keys, IDENTITY, turn=0) for _ in range(2))
    assert [await first.known(), await second.known()] == ["", ""]
    await first.begin()
    with pytest.raises(Taken):
        await second.begin()

    async def attempt() -> None:
        values = {"name": "Ada", "link": "https://app.example.com/"}
        await Post(mailer, deliver_turn(0), streams).send("welcome", (ADA,), subject_id="both", **values)

    done = await asyncio.gather(*(attempt() for _ in range(5)), return_exceptions=True)
    assert {type(error) for error in done if error} <= {Ambiguous}
    assert len(sink.mails()) == 1
    await send_welcome(WELCOME, Post(mailer, deliver_turn(0), streams))
    assert len(sink.mails()) == 2
    assert not [event for event in sink.events("data") if event["code"] >= 400]


async def test_the_mark_ends(streams: Streams) -> None:
    handover = Handover(streams.redis, streams.keys, IDENTITY, turn=3)
    await handover.begin()
    (key,) = [name async for name in streams.redis.scan_iter(f"{streams.keys.tag}:own:email:mail:*")]
    assert 6 * 86_400 < await streams.redis.ttl(key) <= 7 * 86_400
    await handover.end()
    assert 6 * 86_400 < await streams.redis.ttl(key) <= 7 * 86_400
    assert [await Handover(streams.redis, streams.keys, IDENTITY, turn=turn).known() for turn in (2, 3)] == ["", "sent"]
