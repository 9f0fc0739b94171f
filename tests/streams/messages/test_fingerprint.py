"""Fingerprint: the same for failures of one kind, another for another."""

from __future__ import annotations

import time

import pytest

from streams.messages.error_text import describe, describe_traceback
from streams.messages.fingerprint import fingerprint, innermost_frame, normalised


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SMTPError: 550 no mailbox ada@example.com", "SMTPError: 551 no mailbox grace@example.org"),
        ("KeyError: 'order-7'", "KeyError: 'order-12345'"),
        ('ValueError: no user "Ada Lovelace"', 'ValueError: no user "Grace"'),
        ("OSError: could not reach http://a.example:80/x?y=1", "OSError: could not reach https://b.example/z"),
        ("E: object at 0x7f3a9c is gone", "E: object at 0xdeadbeef is gone"),
        ("E: row 01a20c3a-65dd-7203-8765-451f4bc2f23e", "E: row 0197f3a0-0000-7000-8000-000000000000"),
        ("E: commit 9f8e7d6c5b4a is unknown", "E: commit 0a1b2c3d4e5f is unknown"),
        ("E: timed out after 1.25 s", "E: timed  out after 30.0 s"),
        ("E: connection to 10.0.0.7:5432 refused", "E: connection to 192.168.1.1:80 refused"),
    ],
)
def test_what_varies_does_not_count(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)
    assert fingerprint("A", "failed", one) == fingerprint("A", "failed", other)


@pytest.mark.parametrize(
    "other",
    [
        ("B", "failed", "ValueError: bad thing", ""),
        ("A", "rejected", "ValueError: bad thing", ""),
        ("A", "failed", "KeyError: bad thing", ""),
        ("A", "failed", "ValueError: good thing", ""),
        ("A", "failed", "ValueError: bad thing", 'File "/a/b.py", line 3, in f\n    x()\nValueError: bad thing'),
    ],
)
def test_what_stays_counts(other: tuple[str, str, str, str]) -> None:
    assert fingerprint(*other) != fingerprint("A", "failed", "ValueError: bad thing", "")


def _fail(value: str) -> None:
    raise ValueError(f"bad {value!r}")


def _fail_elsewhere(value: str) -> None:
    raise ValueError(f"bad {value!r}")


def _told(function: object, value: str) -> str:
    try:
        try:
            function(value)  # type: ignore[operator]
        except ValueError as error:
            raise RuntimeError("it failed") from error
    except RuntimeError as error:
        return fingerprint(
            "A", "failed", describe(error.__cause__ or error), describe_traceback(error.__cause__ or error)
        )
    raise AssertionError


def test_the_innermost_frame_of_a_real_traceback() -> None:
    """By file and function, not by line: of what caused it, and not of what was merely being handled."""
    assert _told(_fail, "x") == _told(_fail, "another")
    assert _told(_fail, "x") != _told(_fail_elsewhere, "x")
    try:
        try:
            _fail("x")
        except ValueError as error:
            raise RuntimeError from error
    except RuntimeError as error:
        traceback = describe_traceback(error)
    assert innermost_frame(traceback) == "test_fingerprint.py _fail"
    with pytest.raises(ValueError) as raised:
        try:
            _fail("x")
        except ValueError:
            _fail_elsewhere("x")
    assert innermost_frame(describe_traceback(raised.value)) == "test_fingerprint.py _fail_elsewhere"
    lines = traceback.replace(", line 1", ", line 9")
    assert innermost_frame(lines) == innermost_frame(traceback)


@pytest.mark.parametrize(
    "piece",
    ["\n", " ", "\t", " \n", 'File "', '\n  File "', '\n  File "x", line 9, in ', "'", '"', "a", "9", "a.", "a@", "@",
     "0x", "f0", "<", "://", "a://", "`", "\n\ncaused by\n", "\n\nand by\n", " [note: ", "-", "\u2018"],
)  # fmt: skip
def test_a_megabyte_of_its_worst_character_is_no_work(piece: str) -> None:
    text = (piece * 1_000_000)[:1_000_000]
    began = time.process_time()
    fingerprint("A", "failed", text, text)
    innermost_frame(text)
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize("text", ["", "\x00\udc80", "'" * 5000, "a" * 100_000, "@" * 3000, "0x" * 3000, "://" * 2000])
def test_any_text_has_one_quickly(text: str) -> None:
    found = fingerprint(text, text, text, text)
    assert len(found) == 12
    assert found == fingerprint(text, text, text, text)
