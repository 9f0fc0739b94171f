"""The mailbox reads what the mail server has logged: a real one, with a real client."""

from __future__ import annotations

import smtplib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.demo.mail_log import MailLog
from examples.fakes.mail_rules import MailRules, Rule
from examples.fakes.mail_server import MailServer


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[MailServer]:
    rules = MailRules(recipients={"gone@example.com": Rule(code=550), "slow@example.com": Rule(at="data", delay=0.3)})
    with MailServer(tmp_path / "mails", rules=rules) as sink:
        yield sink


def send(sink: MailServer, event: str, to: str, body: str = "Hello") -> None:
    mail = f"From: a@example.com\r\nTo: {to}\r\nMessage-ID: <{event}.welcome@example.com>\r\n\r\n{body}\r\n"
    with smtplib.SMTP("127.0.0.1", sink.port, timeout=5) as client:
        client.sendmail("a@example.com", to, mail)


def test_it_counts_mails_by_event_and_replies_by_recipient(sink: MailServer) -> None:
    mailbox = MailLog(sink.directory)
    assert mailbox.look().taken == 0
    send(sink, "e-1", "ada@example.com")
    assert mailbox.look().mails == {"e-1": 1}
    send(sink, "e-1", "ada@example.com")
    send(sink, "e-2", "ada@example.com")
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        send(sink, "e-3", "gone@example.com")
    assert mailbox.look().mails == {"e-1": 2, "e-2": 1}
    assert (mailbox.taken, mailbox.duplicates({"e-1", "e-2"}), mailbox.duplicates({"e-2"})) == (2, 1, 0)
    assert [reply.code for reply in mailbox.replies["gone@example.com"]] == [550]
    assert mailbox.scripts == 0
    sink.follow(MailRules())
    assert mailbox.look().scripts == 1


def test_a_line_that_is_still_being_written_is_read_when_it_is_whole(tmp_path: Path) -> None:
    mailbox, log = MailLog(tmp_path), tmp_path / "log.jsonl"
    assert mailbox.look().taken == 0, "before the server there is no log"
    line = '{"event":"accepted","message_id":"<e-1.welcome@x>"}\n'
    log.write_text(line + line[:20])
    assert mailbox.look().mails == {"e-1": 1}
    log.write_text(line + line)
    assert mailbox.look().mails == {"e-1": 2}


def test_it_finds_the_token_in_the_mail_of_the_event(sink: MailServer) -> None:
    send(sink, "e-1", "ada@example.com", "http://x/reset-password/r?token=somebody-elses-token-0123456789")
    send(sink, "e-2", "ada@example.com", "http://x/reset-password/r?token=kJ8-token_of-the-test_0123456789 works once")
    mailbox = MailLog(sink.directory)
    assert mailbox.token("e-2") == "kJ8-token_of-the-test_0123456789"
    assert mailbox.token("e-3") == ""


def test_a_slow_server_has_the_mail_before_it_answers(sink: MailServer) -> None:
    """Which is what makes a duplicate when the client dies in between."""
    began = time.time()
    send(sink, "e-1", "slow@example.com")
    assert time.time() - began >= 0.3
    [accepted] = sink.events("accepted")
    assert accepted["time"] - began < 0.3
