"""Replies: what a mail server's answer means for the message at hand, and how it may be quoted."""

from __future__ import annotations

import re
from typing import Final

from processors.email.mail_backoff import Deferred
from streams import DeadLetter, Unavailable

_MOST: Final = 500
_ADDRESS: Final = re.compile(r"[^\s<>\"'(),:;=]+@[^\s<>\"'(),:;=]+")
_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e\xa0-\ud7ff\ue000-\U0010ffff]+")  # surrogates are undecodable bytes
# RFC 4954: the server wants a login or a stronger one. That is a setting of ours, not a fault of the mail.
_LOGIN_WANTED: Final = frozenset({530, 534, 535, 538})


class Held(DeadLetter):
    """The same where `EMAIL_AMBIGUOUS` is `hold`: it is not sent again until an operator replays it."""

    def __init__(self, message_id: str, why: str) -> None:
        super().__init__(
            f"held, it may or may not have been sent ({why}): look for {message_id} at the mail server, then replay "
            "this to send it, or discard it"
        )


def quotable(reply: str) -> str:
    """A reply for logs and dead letters: one line, at most 500 characters, without mail addresses (they are PII)."""
    # Cut before the search as well: its time grows with the square of the length, which the server chooses.
    line = " ".join(_UNPRINTABLE.sub(" ", reply[: 4 * _MOST]).split())
    return _ADDRESS.sub("[address]", line)[:_MOST]


def judge(code: int, reply: str) -> Deferred | DeadLetter | Unavailable:
    """The outcome for a reply that refuses a mail, by RFC 5321 section 4.2.1: 4xx is worth another try, 5xx is not.

    A 4xx is about this mail or a recipient (greylisting, throttling, a full mailbox) and no outage: other mails go on.
    """
    text = f"{code} {quotable(reply)}".strip()
    if code in _LOGIN_WANTED:
        return Unavailable("smtp", f"the server wants a login ({code}): check SMTP_URL")
    if 400 <= code < 500:
        return Deferred(f"the mail server refused for now: {text}")
    if 500 <= code < 600:
        return DeadLetter(f"the mail server refused for good: {text}")
    return Unavailable("smtp", f"the mail server does not speak SMTP: {text}")
