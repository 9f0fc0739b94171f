"""Subjects read back to the letter, by three readers: the standard library's two and the grammar of RFC 2047 below."""

from __future__ import annotations

import os
import re
from base64 import b64decode
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.headerregistry import Address
from email.utils import parseaddr
from random import Random

import pytest

from processors.email.mail import compose
from processors.email.rendering import Rendered
from processors.email.subject import phrase
from processors.shared.safe_text import shown

SENDER = Address("Planning Bord", addr_spec="no-reply@bord.example")
# RFC 2047, section 2: no specials, no space within a word; section 4.2: `_` is a space, `=XX` a byte.
_ENCODED = re.compile(r"=\?([^?\s]+)\?([bBqQ])\?([!->@-~]*)\?=")
_WORDS = (
    "Käse", "Schraube „groß“", "M8\u00d740", "d\u2019abonnement", "🔥", "\U0001f469\u200d\U0001f469\u200d\U0001f467",
    "株式会社", "سكر أبيض", "שָׁלוֹם", "Łożysko", "plain", "a,b;c:", "=?utf-8?q?x?=", "x" * 70, "ü" * 70, "…", "#12",
    "?=", "=", "_", "\\", '"', "(3 left)", "", "é", "<b>", "\u200b",
)  # fmt: skip


def subject_of(text: str) -> bytes:
    """The subject's header as it is sent, its name included."""
    mail = compose(
        Rendered(text, "<p></p>", ""), event_id="e", template="welcome", sender=SENDER, recipients=("ada@example.com",)
    )
    found = re.search(rb"^Subject: ?[^\r\n]*(?:\r\n[ \t][^\r\n]*)*", mail.content, re.MULTILINE)
    assert found is not None
    return found[0]


def by_the_grammar(header: bytes) -> str:
    """What RFC 2047 and 5322 make of an unstructured header; breaks where the header breaks one of their rules."""
    lines = header.decode("ascii").split("\r\n")
    for line in lines:
        assert len(line) <= (76 if "=?" in line else 78), line
        assert line.strip(), "a line of spaces only"
    assert all(line[0] == " " for line in lines[1:])
    unfolded = "".join(lines).removeprefix("Subject:").removeprefix(" ")
    read, end, was_word = "", 0, False
    for found in _ENCODED.finditer(unfolded):
        between = unfolded[end : found.start()]
        assert len(found[0]) <= 75
        assert found.start() == 0 or unfolded[found.start() - 1] == " "
        assert found.end() == len(unfolded) or unfolded[found.end()] == " "
        read += "" if was_word and not between.strip(" ") else between
        raw = b64decode(found[3], validate=True) if found[2] in "bB" else _unquoted(found[3])
        read += raw.decode(found[1])  # of whole characters, or it breaks
        end, was_word = found.end(), True
    return read + unfolded[end:]


def _unquoted(text: str) -> bytes:
    assert " " not in text
    assert "?" not in text
    return re.sub(rb"=([0-9A-F]{2})", lambda byte: bytes.fromhex(byte[1].decode()), text.replace("_", " ").encode())


def by_python(header: bytes) -> str:
    return str(message_from_bytes(header + b"\r\n\r\n", policy=policy.default)["Subject"])


def by_old_python(header: bytes) -> str:
    raw = message_from_bytes(header + b"\r\n\r\n", policy=policy.compat32)["Subject"]
    return str(make_header(decode_header(re.sub(r"\r\n(?=[ \t])", "", str(raw)))))


def made_up(dice: Random) -> str:
    """Words of people and of machines, or any characters at all; not what `shown` takes out."""
    if dice.random() < 0.7:
        text = " ".join(dice.choice(_WORDS) for _ in range(dice.randint(1, 14)))
    else:
        ranges = ((32, 126), (160, 0x2FFF), (0x1F300, 0x1FAFF))
        text = "".join(chr(dice.randint(*dice.choice(ranges))) for _ in range(dice.randint(1, 250)))
    return shown(text)


def check(count: int) -> None:
    seed = int(os.environ.get("SUBJECT_SEED", Random().randrange(2**32)))
    print(f"SUBJECT_SEED={seed}")
    dice = Random(seed)
    for _ in range(count):
        text = made_up(dice)
        header = subject_of(text)
        assert by_the_grammar(header) == text
        if text == text.strip() and text:  # the standard library strips what is around an unstructured value
            assert by_python(header) == text
        assert by_old_python(header) == text


def test_some_subjects_come_back_to_the_letter() -> None:
    check(500)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_20_000_subjects_come_back_to_the_letter() -> None:
    check(20_000)


@pytest.mark.parametrize(
    "text",
    [
        "Imported: 🔥 Käse #12 M8\u00d740 d\u2019abonnement Käse.csv",
        "Low stock: Schraube „groß“ (3 left)",
        "a " * 200 + "b",
        "x" * 998,
        " two  spaces ",
        "=?UTF-8?Q?=0A?=",
        "ü",
        "",
    ],
)
def test_a_subject_comes_back_to_the_letter(text: str) -> None:
    header = subject_of(text)
    assert by_the_grammar(header) == by_old_python(header) == text


@pytest.mark.parametrize(
    "name", ["Planning Bord", 'Bord "north", GmbH', "Płanning Bōrd " * 9, "a@b", "=?x?=", "B" * 90]
)
def test_the_name_of_the_sender_comes_back(name: str) -> None:
    sender = Address(name, addr_spec="no-reply@bord.example")
    mail = compose(
        Rendered("Hello", "<p></p>", ""), event_id="e", template="welcome", sender=sender, recipients=("a@example.com",)
    )
    raw = message_from_bytes(mail.content, policy=policy.compat32)["From"]
    found, address = parseaddr(re.sub(r"\r\n(?=[ \t])", "", raw))
    assert (str(make_header(decode_header(found))), address) == (name, "no-reply@bord.example")
    for line in mail.content.partition(b"\r\nTo:")[0].split(b"\r\n")[2:]:
        assert len(line) <= 78
    assert all(len(word) <= 75 for word in phrase(name, first=6).split() if "=?" in word)
