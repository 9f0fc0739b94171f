"""The mailer against a real mail server: what each of its answers means for the message at hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from pydantic import SecretStr

from examples.fakes.mail_rules import MailRules, Rule
from examples.fakes.mail_server import MailServer
from processors.email import mailer as mailer_module
from processors.email.mail import Mail, compose
from processors.email.mail_backoff import Ambiguous
from processors.email.mailer import Mailer
from processors.email.rendering import Rendered
from processors.email.settings import EmailSettings
from processors.email.smtp_replies import quotable
from streams.messages.outcome import DeadLetter, Retry, Unavailable
from tests.processors.email.conftest import Certificate, MakeSettings, OpenMailer

ADA = "ada@example.com"
BOB = "bob@example.com"


def a_mail(*recipients: str, event_id: str = "event-1") -> Mail:
    sender = EmailSettings(email_from="no-reply@bord.example").sender()
    words = Rendered("Hello", "<p>Hello</p>", "Hello\n")
    return compose(words, event_id=event_id, template="welcome", sender=sender, recipients=recipients or (ADA,))


async def test_a_mail_arrives_as_it_was_composed(sink: MailServer, mailer: Mailer) -> None:
    sent = await mailer.send(a_mail())
    assert (sent.accepted, sent.refused) == (1, ())
    (mail,) = sink.mails()
    assert mail["To"] == ADA
    assert mail["From"] == "no-reply@bord.example"
    assert mail["Message-ID"] == "<event-1.welcome@bord.example>"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Date"].datetime.tzinfo is not None
    assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "text/html"]
    (accepted,) = sink.events("accepted")
    assert (accepted["from"], accepted["recipients"]) == ("no-reply@bord.example", [ADA])


async def test_connections_are_used_again(sink: MailServer, mailer: Mailer) -> None:
    for number in range(20):
        await mailer.send(a_mail(event_id=f"event-{number}"))
    assert len(sink.mails()) == 20
    assert len(sink.events("connect")) == mailer.connections.opened == 1


async def test_no_more_connections_than_allowed(sink: MailServer, open_mailer: OpenMailer) -> None:
    async with open_mailer(email_smtp_connections=3) as mailer:
        await asyncio.gather(*(mailer.send(a_mail(event_id=f"event-{number}")) for number in range(40)))
    assert len(sink.mails()) == 40
    assert len(sink.events("connect")) == 3


async def test_4xx_is_worth_another_try(sink: MailServer, mailer: Mailer) -> None:
    sink.follow(MailRules(recipients={ADA: Rule(code=451, times=2, text="come back later")}))
    for _ in range(2):
        with pytest.raises(Retry, match="451 come back later") as caught:
            await mailer.send(a_mail())
        assert caught.value.after is None, "the policy decides when"
        assert not isinstance(caught.value, Ambiguous)
    await mailer.send(a_mail())
    assert [event["code"] for event in sink.events("rcpt")] == [451, 451, 250]
    assert len(sink.events("connect")) == 1, "a refusal leaves the connection usable"


@pytest.mark.parametrize("at", ["rcpt", "data"])
async def test_5xx_is_a_dead_letter_with_code_and_reply(sink: MailServer, mailer: Mailer, at: str) -> None:
    rule = Rule.model_validate({"code": 550, "at": at, "text": f"5.1.1 <{ADA}> unknown " + "x" * 400})
    sink.follow(MailRules(recipients={ADA: rule}))
    with pytest.raises(DeadLetter) as caught:
        await mailer.send(a_mail())
    assert "550 5.1.1 <[address]> unknown xxx" in str(caught.value)
    assert ADA not in str(caught.value)
    await mailer.send(a_mail(BOB))
    assert len(sink.mails()) == 1
    assert len(sink.events("connect")) == 1


def test_a_reply_is_quoted_up_to_500_characters() -> None:
    assert len(quotable("x" * 9000)) == 500
    assert quotable("550 one\r\ntwo\x00\udcff ada@example.com,") == "550 one two [address],"


async def test_no_server_is_an_outage_until_it_is_back(sink: MailServer, mailer: Mailer) -> None:
    sink.stop_listening()
    with pytest.raises(Unavailable) as caught:
        await mailer.send(a_mail())
    assert caught.value.dependency == "smtp"
    assert str(sink.port) in str(caught.value)
    sink.listen()
    await mailer.send(a_mail())
    assert len(sink.mails()) == 1


async def test_421_at_connect_is_an_outage(sink: MailServer, mailer: Mailer) -> None:
    sink.follow(MailRules(refuse=True))
    with pytest.raises(Unavailable, match="421"):
        await mailer.send(a_mail())
    sink.follow(MailRules())
    await mailer.send(a_mail())
    assert len(sink.mails()) == 1


async def test_a_dropped_idle_connection_costs_no_attempt(sink: MailServer, open_mailer: OpenMailer) -> None:
    async with open_mailer(email_smtp_connections=2) as mailer:
        await asyncio.gather(mailer.send(a_mail(event_id="a")), mailer.send(a_mail(event_id="b")))
        opened = mailer.connections.opened
        # Both calls block this event loop, so the client cannot have seen the end of its connections: it finds out
        # when it says MAIL FROM.
        sink.stop_listening()
        sink.listen()
        await mailer.send(a_mail(event_id="c"))
        assert mailer.connections.opened == opened + 1
    assert len(sink.mails()) == 3


async def test_silence_after_the_content_is_sent_again_with_the_same_message_id(
    sink: MailServer, mailer: Mailer
) -> None:
    sink.follow(MailRules(recipients={ADA: Rule(drop=True, times=1)}))
    with pytest.raises(Ambiguous):
        await mailer.send(a_mail())
    await mailer.send(a_mail())
    first, second = sink.mails()
    assert first["Message-ID"] == second["Message-ID"] == "<event-1.welcome@bord.example>"
    assert [event["event"] for event in sink.events() if event["message_id"]] == ["dropped", "accepted"]


async def test_a_refusal_of_some_recipients_is_returned(sink: MailServer, mailer: Mailer) -> None:
    sink.follow(MailRules(recipients={BOB: Rule(code=550, text="no such user")}))
    sent = await mailer.send(a_mail(ADA, BOB))
    assert sent.accepted == 1
    assert sent.refused == ((BOB, 550, "no such user"),)
    assert [event["recipients"] for event in sink.events("accepted")] == [[ADA]]


async def test_all_refused_and_one_for_now_only_is_worth_another_try(sink: MailServer, mailer: Mailer) -> None:
    sink.follow(MailRules(recipients={ADA: Rule(code=550), BOB: Rule(code=452, times=1)}))
    with pytest.raises(Retry, match="452"):
        await mailer.send(a_mail(ADA, BOB))
    sent = await mailer.send(a_mail(ADA, BOB))
    assert [refusal.code for refusal in sent.refused] == [550]


async def test_only_allowed_domains_are_written_to(sink: MailServer, open_mailer: OpenMailer) -> None:
    async with open_mailer(email_allowed_recipients="@test.example, other.example") as mailer:
        assert (await mailer.send(a_mail(ADA))).accepted == 0
        assert sink.events("connect") == []
        await mailer.send(a_mail(ADA, "eve@TEST.example"))
    assert [event["recipients"] for event in sink.events("accepted")] == [["eve@test.example"]]


async def test_an_address_in_another_script(sink: MailServer, mailer: Mailer) -> None:
    await mailer.send(a_mail("ädä@example.com"))
    await mailer.send(a_mail("ada@bücher.example"))
    assert [event["recipients"] for event in sink.events("accepted")] == [
        ["ädä@example.com"],
        ["ada@xn--bcher-kva.example"],
    ]


# STARTTLS and login


async def test_starttls_and_login(tmp_path: Path, certificate: Certificate, make_settings: MakeSettings) -> None:
    with MailServer(tmp_path / "tls", tls=certificate.context, login=("user", "p@ss/word")) as sink:
        url = SecretStr(f"smtp+starttls://user:p%40ss%2Fword@localhost:{sink.port}")
        mailer = Mailer(make_settings(smtp_url=url, email_smtp_ca=certificate.file))
        await mailer.send(a_mail())
        await mailer.send(a_mail())
        await mailer.close()
        assert len(sink.mails()) == 2
        assert [event["code"] for event in sink.events("login")] == [235]


async def test_a_refused_login_is_our_setting_and_never_a_dead_letter(
    tmp_path: Path, certificate: Certificate, make_settings: MakeSettings
) -> None:
    with MailServer(tmp_path / "tls", tls=certificate.context, login=("user", "right")) as sink:
        url = SecretStr(f"smtp+starttls://user:hunter2@localhost:{sink.port}")
        mailer = Mailer(make_settings(smtp_url=url, email_smtp_ca=certificate.file))
        with pytest.raises(Unavailable, match=r"login was refused \(535\)") as caught:
            await mailer.send(a_mail())
        assert "hunter2" not in str(caught.value)
        assert sink.mails() == []


async def test_a_server_that_wants_a_login_we_do_not_have(tmp_path: Path, make_settings: MakeSettings) -> None:
    with MailServer(tmp_path / "login", login=("user", "right")) as sink:
        mailer = Mailer(make_settings(smtp_url=SecretStr(f"smtp://127.0.0.1:{sink.port}")))
        with pytest.raises(Unavailable, match="wants a login"):
            await mailer.send(a_mail())
        await mailer.close()


async def test_an_untrusted_certificate_stops_the_mail(
    tmp_path: Path, certificate: Certificate, make_settings: MakeSettings
) -> None:
    with MailServer(tmp_path / "tls", tls=certificate.context) as sink:
        mailer = Mailer(make_settings(smtp_url=SecretStr(f"smtp+starttls://localhost:{sink.port}")))
        with pytest.raises(Unavailable, match="certificate is not trusted"):
            await mailer.send(a_mail())
        assert sink.mails() == []


async def test_a_stripped_starttls_offer_stops_the_mail_before_the_login(
    sink: MailServer, make_settings: MakeSettings
) -> None:
    url = SecretStr(f"smtp+starttls://user:hunter2@localhost:{sink.port}")
    with pytest.raises(Unavailable, match="STARTTLS") as caught:
        await Mailer(make_settings(smtp_url=url)).send(a_mail())
    assert "hunter2" not in str(caught.value)
    assert {event["event"] for event in sink.events()} == {"listening", "connect"}


# A server that stops answering


@asynccontextmanager
async def quiet_server(answers: Sequence[bytes]) -> AsyncIterator[int]:
    """Gives each answer when a line (or the end of the content) has come, then says nothing and stays connected."""
    conversations: list[asyncio.Task[None]] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        conversations.append(task)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            for answer in answers:
                writer.write(answer + b"\r\n")
                await reader.readuntil(b"\r\n.\r\n" if answer.startswith(b"354") else b"\r\n")
            await reader.read()  # until the client gives up
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        await asyncio.wait_for(asyncio.gather(*conversations), 5)  # so it ends only when the client has hung up


@pytest.mark.parametrize("answers", [(), (b"220 hello",), (b"220 hello", b"250 hello"), (b"220 a", b"250 a", b"250 a")])
async def test_silence_before_the_content_is_an_outage(answers: Sequence[bytes], make_settings: MakeSettings) -> None:
    async with quiet_server(answers) as port:
        url = SecretStr(f"smtp://127.0.0.1:{port}")
        mailer = Mailer(make_settings(smtp_url=url, email_smtp_connect_timeout=0.1, email_smtp_timeout=0.3))
        with pytest.raises(Unavailable):
            await mailer.send(a_mail())
        assert not mailer.connections.slots.locked()


async def test_silence_after_the_content_is_ambiguous(make_settings: MakeSettings) -> None:
    async with quiet_server([b"220 a", b"250 a", b"250 a", b"250 a", b"354 go on"]) as port:
        url = SecretStr(f"smtp://127.0.0.1:{port}")
        with pytest.raises(Ambiguous):
            await Mailer(make_settings(smtp_url=url, email_smtp_timeout=0.2)).send(a_mail())


async def test_a_half_open_connection_costs_a_short_wait_and_no_attempt(make_settings: MakeSettings) -> None:
    """A firewall that forgot the connection answers nothing at all: the second mail goes over a new one."""
    async with quiet_server([b"220 a", b"250 a", b"250 a", b"250 a", b"354 go on", b"250 taken"]) as port:
        url = SecretStr(f"smtp://127.0.0.1:{port}")
        mailer = Mailer(make_settings(smtp_url=url, email_smtp_connect_timeout=0.3, email_smtp_timeout=5))
        for _ in range(2):
            assert (await mailer.send(a_mail())).accepted == 1
        assert mailer.connections.opened == 2
        await mailer.close()


async def test_a_cancelled_mail_leaves_no_half_open_transaction(make_settings: MakeSettings) -> None:
    async with quiet_server([b"220 a", b"250 a", b"250 a"]) as port:
        mailer = Mailer(make_settings(smtp_url=SecretStr(f"smtp://127.0.0.1:{port}")))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(mailer.send(a_mail()), 0.2)
        assert mailer.connections._free == []


# The span


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> tuple[TracerProvider, InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(mailer_module, "_tracer", provider.get_tracer("planning-bord.email"))
    return provider, exporter


async def test_a_client_span_tells_where_and_with_which_code(
    sink: MailServer, mailer: Mailer, spans: tuple[TracerProvider, InMemorySpanExporter]
) -> None:
    provider, exporter = spans
    sink.follow(MailRules(recipients={ADA: Rule(code=550, text=f"no {ADA}", times=1)}))
    with provider.get_tracer("test").start_as_current_span("process users"):
        with pytest.raises(DeadLetter):
            await mailer.send(a_mail())
        await mailer.send(a_mail())
    failed, sent, _ = exporter.get_finished_spans()
    assert (sent.name, sent.kind, sent.status.status_code) == ("smtp send", SpanKind.CLIENT, StatusCode.UNSET)
    assert sent.attributes == {"server.address": "127.0.0.1", "server.port": sink.port, "smtp.reply.code": 250}
    assert failed.attributes is not None
    assert (failed.attributes["smtp.reply.code"], failed.attributes["error.type"]) == (550, "550")
    assert failed.status.status_code is StatusCode.ERROR
    assert ADA not in failed.to_json() + sent.to_json()


async def test_no_span_where_nobody_records(mailer: Mailer, spans: tuple[TracerProvider, InMemorySpanExporter]) -> None:
    await mailer.send(a_mail())
    assert spans[1].get_finished_spans() == ()
