"""Recipients: the addresses to mail about a business, as settings write them: `ada@example.com,7=grace@example.com`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from email_validator import EmailNotValidError, validate_email

_MOST: Final = 2**31 - 1
_ONE_BUSINESS: Final = re.compile(r"([0-9]{1,10})\s*=\s*(.+)", re.ASCII)
_NO_NUMBER: Final = re.compile(r"([^@=\"]*)=")


def recipient(text: str, variable: str) -> tuple[int | None, str]:
    """The business that an entry is for (None: every one), and the address. Raises `ValueError` naming the variable."""
    only = _ONE_BUSINESS.fullmatch(text)
    if only is None and (wrong := _NO_NUMBER.match(text)):
        # `shop=ada@example.com` and `1=2=ada@example.com` are legal addresses, and are never meant as such.
        what = f"{wrong[1]!r} is no business" if not wrong[1].strip().isdecimal() else f"{text!r} is invalid"
        raise ValueError(f"{variable}: {what}; write 7=ada@example.com")
    if only is not None and int(only[1]) > _MOST:
        raise ValueError(f"{variable}: there is no business {only[1]}")
    if only is not None and "=" in only[2].partition("@")[0]:
        raise ValueError(f"{variable}: {text!r} names two businesses; write 7=ada@example.com,8=ada@example.com")
    try:
        found = validate_email(only[2] if only else text, check_deliverability=False).normalized
    except EmailNotValidError as error:
        raise ValueError(f"{variable}: {error}") from None
    return (int(only[1]) if only else None), found


def recipients_of(business_id: int, entries: Sequence[str], variable: str) -> tuple[str, ...]:
    """The recipients of mails about a business, each once."""
    named = (recipient(text, variable) for text in entries)
    return tuple(dict.fromkeys(address for only, address in named if only in (None, business_id)))
