"""Recipients as settings write them: for every business, or for one."""

from __future__ import annotations

import pytest

from processors.shared.recipients import recipient, recipients_of


@pytest.mark.parametrize(
    ("text", "business", "address"),
    [
        ("ada@example.com", None, "ada@example.com"),
        ("7=grace@example.com", 7, "grace@example.com"),
        ("0 = grace@example.com", 0, "grace@example.com"),
        (f"{2**31 - 1}=grace@example.com", 2**31 - 1, "grace@example.com"),
    ],
)
def test_who_is_told_of_what(text: str, business: int | None, address: str) -> None:
    assert recipient(text, "TO") == (business, address)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("shop=ada@example.com", "TO: 'shop' is no business; write 7=ada@example.com"),
        ("=ada@example.com", "TO: '' is no business; write"),
        ("12345678901=ada@example.com", "TO: '12345678901=ada@example.com' is invalid; write"),
        (f"{2**31}=ada@example.com", f"TO: there is no business {2**31}"),
        ("1=2=ada@example.com", "TO: '1=2=ada@example.com' names two businesses; write 7=ada@example.com,8="),
        ("7=ada", "TO: "),
        ("ada", "TO: "),
        ("", "TO: "),
    ],
)
def test_what_is_no_recipient_is_said(text: str, said: str) -> None:
    """With the variable, and how to write it."""
    with pytest.raises(ValueError) as refused:
        recipient(text, "TO")
    assert str(refused.value).startswith(said)


def test_each_is_told_once_of_a_business() -> None:
    entries = ("ada@example.com", "7=grace@example.com", "7=ada@example.com", "8=eve@example.com")
    assert recipients_of(7, entries, "TO") == ("ada@example.com", "grace@example.com")
    assert recipients_of(8, entries, "TO") == ("ada@example.com", "eve@example.com")
    assert recipients_of(9, entries, "TO") == ("ada@example.com",)
    assert recipients_of(9, (), "TO") == ()
