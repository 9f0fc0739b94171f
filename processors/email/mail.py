"""Mail: one message to be sent, whose headers can hold nothing but what was meant.

Everything that comes from outside passes `_checked` before it becomes a header: the standard library refuses CR and
LF in a header's text, but not what an encoded word (`=?UTF-8?Q?=0A?=`) turns into when it is parsed.
"""

from __future__ import annotations

import re
import unicodedata
from binascii import b2a_qp
from dataclasses import dataclass
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from email.utils import format_datetime
from hashlib import sha256
from typing import Final

from email_validator import EmailNotValidError, validate_email

from processors.email.rendering import Rendered
from streams import DeadLetter

_PLAIN_ID: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,62}[A-Za-z0-9])?")
_LINE_SEPARATORS: Final = frozenset("\u2028\u2029")
_BOUNDARY: Final = b"=_bord"  # quoted-printable text has no `=_`
# 7bit headers pass every server; SMTPUTF8 would have to be asked for. Lines of 200 keep the Message-ID beside its name:
# it is longer than the usual 78, and not every reader looks on the next line.
_POLICIES: Final = {
    utf8: (SMTPUTF8 if utf8 else SMTP).clone(cte_type="7bit", max_line_length=200) for utf8 in (False, True)
}


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail ready to be handed over: the bytes, and the envelope they travel in.

    `utf8` says that a recipient's address needs a server with SMTPUTF8 (RFC 6531).
    """

    template: str
    message_id: str
    sender: str
    recipients: tuple[str, ...]
    content: bytes
    utf8: bool


def message_id(event_id: str, template: str, domain: str) -> str:
    """The Message-ID of the mail that `template` makes of an event: the same whenever and wherever it is sent again,
    so that mail systems can drop the second copy. Ids that are not plain words (they may be a stranger's) are hashed.
    """
    word = event_id if _PLAIN_ID.fullmatch(event_id) else sha256(event_id.encode(errors="replace")).hexdigest()
    return f"<{word}.{template}@{domain}>"


def compose(rendered: Rendered, *, event_id: str, template: str, sender: Address, recipients: tuple[str, ...]) -> Mail:
    """Builds the mail: plain text and HTML as alternatives, addressed to all `recipients`.

    Raises `DeadLetter` when a header or an address holds what could end a header line. Such an event is an attack or
    a fault of its publisher, and trying again would not change it.
    """
    addresses = tuple(_address(recipient) for recipient in recipients)
    utf8 = not all(address.isascii() for address in addresses)
    identity = message_id(event_id, template, sender.domain)
    message = EmailMessage(policy=_POLICIES[utf8])
    message["Message-ID"] = identity
    message["Date"] = format_datetime(datetime.now(UTC))
    message["From"] = sender
    message["To"] = ", ".join(addresses)
    message["Subject"] = _checked("subject", rendered.subject)
    # RFC 3834: no vacation replies to a robot; the second header is how Exchange wants to be told.
    message["Auto-Submitted"] = "auto-generated"
    message["X-Auto-Response-Suppress"] = "All"
    for name in ("From", "To", "Subject"):
        _checked(name.lower(), str(message[name]))
    content = message.as_bytes().removesuffix(b"\r\n") + _alternatives(rendered)
    return Mail(template, identity, sender.addr_spec, addresses, content, utf8)


def _alternatives(rendered: Rendered) -> bytes:
    """The body and what says that it is there twice. By hand, as `EmailMessage` takes ten times as long for it."""
    parts = b"".join(
        b"--%b\r\nContent-Type: text/%b; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n%b\r\n"
        % (_BOUNDARY, kind, _quoted(text))
        for kind, text in ((b"plain", rendered.text), (b"html", rendered.html))
    )
    head = b'MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary="%b"\r\n\r\n' % _BOUNDARY
    return head + parts + b"--%b--\r\n" % _BOUNDARY


def _quoted(text: str) -> bytes:
    """Quoted-printable: seven bits and lines of 76, which pass every server. Each line ends with CR and LF, and nothing
    else does: a lone CR would be the end of a line to some servers, and what follows it a command.
    """
    return b"".join(b2a_qp(line).replace(b"=\n", b"=\r\n") + b"\r\n" for line in text.encode().splitlines())


def _address(recipient: str) -> str:
    _checked("address", recipient)
    if "=?" in recipient:  # valid in a local part, but header parsers decode it
        raise DeadLetter("the recipient's address holds an encoded word")
    try:
        found = validate_email(recipient, check_deliverability=False)
    except EmailNotValidError as error:
        raise DeadLetter(f"the recipient's address cannot be used: {error.__class__.__name__}") from None
    # A domain in another script has an ASCII form every server takes; a local part has none.
    return found.ascii_email or found.normalized


def _checked(what: str, text: str) -> str:
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs") or character in _LINE_SEPARATORS:
            raise DeadLetter(f"the {what} holds the control character U+{ord(character):04X}")
    return text
