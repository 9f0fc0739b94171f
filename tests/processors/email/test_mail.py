"""Composing a mail: its identity is stable, and nothing from outside becomes a header of its own."""

from __future__ import annotations

import unicodedata
from email import message_from_bytes, policy
from email.headerregistry import Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.email.mail import Mail, compose, message_id
from processors.email.rendering import Rendered
from processors.shared.safe_text import shown
from streams.messages.outcome import DeadLetter

SENDER = Address("Planning Bord", addr_spec="no-reply@bord.example")
HEADERS = {
    "Message-ID", "Date", "From", "To", "Subject", "Auto-Submitted", "X-Auto-Response-Suppress", "MIME-Version",
    "Content-Type",
}  # fmt: skip

# What ends a header line, by itself or once it is decoded, and what some parsers take for it.
LINE_ENDS = [
    "a\r\nBcc: eve@evil.example",
    "a\nBcc: eve@evil.example",
    "a\rBcc: eve@evil.example",
    "\r\n\r\n<h1>body</h1>",
    "a\r\n Bcc: eve@evil.example",
    "a\x00b",
    "a\x0bBcc: eve@evil.example",
    "a\x0cb",
    "a\x1cb",
    "a\x1db",
    "a\x1eb",
    "a\x85b",
    "a\u2028Bcc: eve@evil.example",
    "a\u2029b",
    "=?UTF-8?Q?=0A?=",
    "=?UTF-8?Q?a=0D=0ABcc:_eve@evil.example?=",
    "=?utf-8?b?YQ0KQmNjOiBldmVAZXZpbC5leGFtcGxl?=",
    "=?ISO-8859-1?Q?=0D=0A?= b",
    "=?UTF-8?Q?=00?=",
]
ADDRESSES = [
    "ada@example.com\r\nBcc: eve@evil.example",
    "ada@example.com\n",
    "ada@example.com\x00",
    "ada@example.com, eve@evil.example",
    "ada@example.com> SIZE=1",
    "<ada@example.com>",
    "=?UTF-8?Q?=0A?=@example.com",
    "=?UTF-8?Q?eve@evil.example=0A?=@example.com",
    "ada@exa mple.com",
    "ada@example.com\u2028Bcc: eve@evil.example",
    "Ada <ada@example.com>",
    "undisclosed:;",
    "",
]


def composed(subject: str = "Hello", *recipients: str, event_id: str = "event-1") -> Mail:
    return compose(
        Rendered(subject, "<p>Hé</p>", "Hé\n"),
        event_id=event_id,
        template="welcome",
        sender=SENDER,
        recipients=recipients or ("ada@example.com",),
    )


# Every kind of character that no subject may hold: C0, C1, line and paragraph separators, directions, zero width.
UNSEEN = [
    *map(chr, (*range(0x20), *range(0x7F, 0xA0))), "\u2028", "\u2029", "\u202a", "\u202e", "\u2066", "\u2069", "\u200e",
    "\u200f", "\u061c", "\u200b", "\u2060", "\ufeff", "\u00ad", "\ufffe", "\ud800", "\udfff", "\u180e", "\u3164",
]  # fmt: skip


@pytest.mark.parametrize("subject", LINE_ENDS)
def test_a_subject_cannot_end_its_line(subject: str) -> None:
    """It is sent all the same: what could end the line is replaced, an encoded word is read as what it looks like."""
    message = message_from_bytes(composed(subject).content, policy=policy.default)
    assert set(message.keys()) == HEADERS
    assert len(message.keys()) == len(HEADERS)
    assert message["Subject"].replace(" ", "") == shown(subject).strip().replace(" ", "")
    assert message["To"] == "ada@example.com"


@pytest.mark.parametrize("character", UNSEEN)
def test_a_character_that_cannot_be_seen_is_replaced_in_a_subject(character: str) -> None:
    message = message_from_bytes(composed(f"Low stock: A{character}15").content, policy=policy.default)
    assert message["Subject"] in ("Low stock: A15", "Low stock: A 15", "Low stock: A\ufffd15")


@settings(max_examples=300, deadline=None)
@given(text=st.text(alphabet=st.characters()))
def test_no_subject_whatever_is_refused_or_adds_a_header(text: str) -> None:
    message = message_from_bytes(composed(text).content, policy=policy.default)
    assert set(message.keys()) == HEADERS
    assert all(unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp") for character in message["Subject"])


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_is_one_address_or_a_dead_letter(address: str) -> None:
    with pytest.raises(DeadLetter) as caught:
        composed("Hello", address)
    assert "evil" not in str(caught.value)


@pytest.mark.parametrize(
    "subject", ["{{7*7}}", "ünï ✓ 漢字", "=?UTF-8?Q?caf=C3=A9?=", "Bcc: eve@evil.example", "x" * 2000, "a, b; c:"]
)
def test_any_other_subject_adds_no_header(subject: str) -> None:
    mail = composed(subject)
    message = message_from_bytes(mail.content, policy=policy.default)
    assert set(message.keys()) == HEADERS
    assert len(message.keys()) == len(HEADERS)
    assert message["To"] == "ada@example.com"
    if "=?" not in subject:
        assert message["Subject"].replace(" ", "") == subject.replace(" ", "")


def test_a_mail_passes_servers_that_know_seven_bits_only() -> None:
    mail = composed("Hé")
    assert mail.content.isascii()
    assert max(len(line) for line in mail.content.split(b"\r\n")) <= 998
    message = message_from_bytes(mail.content, policy=policy.default)
    text, html = message.iter_parts()
    assert (text.get_content(), html.get_content()) == ("Hé\r\n", "<p>Hé</p>\r\n")


@settings(max_examples=200, deadline=None)
@given(text=st.text() | st.text(alphabet="=_.- \t\r\n\x00\x0b\x0c\x85\u2028é"))
def test_a_body_comes_back_as_it_was_in_lines_of_crlf(text: str) -> None:
    """Also one that holds what separates the parts, or a lone CR, behind which some servers see a command."""
    text = text.encode(errors="replace").decode()
    mail = compose(
        Rendered("Hello", text, f"{text}--=_bord--\n.\r.\n"),
        event_id="event-1",
        template="welcome",
        sender=SENDER,
        recipients=("ada@example.com",),
    )
    lines = mail.content.split(b"\r\n")
    assert not [line for line in lines if b"\r" in line or b"\n" in line or not line.isascii()]
    assert max(len(line) for line in lines[lines.index(b"") :]) <= 76
    for part, given_text in zip(
        message_from_bytes(mail.content, policy=policy.default).iter_parts(),
        (f"{text}--=_bord--\n.\r.\n", text),
        strict=True,
    ):
        expected = b"".join(line + b"\r\n" for line in given_text.encode().splitlines())
        assert part.get_payload(decode=True) == expected


def test_the_message_id_is_the_events_and_the_templates() -> None:
    assert composed().message_id == composed().message_id == "<event-1.welcome@bord.example>"
    assert message_id("event-1", "welcome", "a.example") != message_id("event-1", "stock_alert", "a.example")


@pytest.mark.parametrize(
    "event_id", ["", "a>b", "<a@b>", "a b", "a\r\nBcc: eve@evil.example", "x" * 500, "ünï", "a.b", "-", "\udcff"]
)
def test_a_hostile_event_id_is_hashed(event_id: str) -> None:
    identity = message_id(event_id, "welcome", "bord.example")
    assert len(identity) == len("<.welcome@bord.example>") + 64
    assert identity == message_id(event_id, "welcome", "bord.example")
    message = message_from_bytes(composed(event_id=event_id).content, policy=policy.default)
    assert message["Message-ID"] == identity
    assert set(message.keys()) == HEADERS


def test_the_message_id_stands_beside_its_name() -> None:
    mail = composed(event_id="0192f0c1-0000-7000-8000-000000000000")
    assert f"Message-ID: {mail.message_id}\r\n".encode() in mail.content


def test_a_long_domain_keeps_the_message_id_in_one_piece() -> None:
    domain = ".".join(["d" * 60] * 4) + ".example"
    mail = compose(
        Rendered("a", "<p>a</p>", "a"),
        event_id="0192f0c1-0000-7000-8000-000000000000",
        template="password_reset",
        sender=Address(addr_spec=f"a@{domain}"),
        recipients=("ada@example.com",),
    )
    assert f"Message-ID: {mail.message_id}\r\n".encode() in mail.content.replace(b"Message-ID:\r\n ", b"Message-ID: ")
