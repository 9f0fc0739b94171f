"""Mail: one message to be sent, whose headers can hold nothing but what was meant.

Headers are written here and not by `EmailMessage`, whose encoded words are longer than RFC 2047 allows where its lines
are, and lose spaces where they are not. Text becomes a header without its controls (`shown`); an address with one is a
dead letter. What looks like an encoded word (`=?UTF-8?Q?=0A?=`) is encoded, so that it is read as what it looks like.
"""

from __future__ import annotations

import re
import unicodedata
from binascii import b2a_qp
from dataclasses import dataclass
from datetime import UTC, datetime
from email.headerregistry import Address
from email.utils import format_datetime
from hashlib import sha256
from typing import Final

from email_validator import EmailNotValidError, validate_email

from processors.email.rendering import Rendered
from processors.email.subject import phrase, subject_header
from processors.shared.safe_text import shown
from streams import DeadLetter

_PLAIN_ID: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,62}[A-Za-z0-9])?")
_BOUNDARY: Final = b"=_bord"  # quoted-printable text has no `=_`


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail ready to be sent: the bytes, and the envelope they travel in.

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

    Raises `DeadLetter` for what is no address. Such an event is an attack or a fault of its publisher, and trying again
    would not change it.
    """
    addresses = tuple(_address(recipient) for recipient in recipients)
    utf8 = not all(address.isascii() for address in addresses)
    identity = message_id(event_id, template, sender.domain)
    lines = (
        f"Message-ID: {identity}",  # never folded: not every reader looks on the next line
        f"Date: {format_datetime(datetime.now(UTC))}",
        f"From: {_from(sender)}",
        "To: " + ",\r\n ".join(addresses),
        subject_header(shown(rendered.subject)),
        # RFC 3834: no vacation replies to a robot; the second header says it to Exchange.
        "Auto-Submitted: auto-generated",
        "X-Auto-Response-Suppress: All",
    )
    content = "".join(f"{line}\r\n" for line in lines).encode() + _alternatives(rendered)
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


def _from(sender: Address) -> str:
    if not sender.display_name:
        return sender.addr_spec
    return f"{phrase(shown(sender.display_name), first=len('From: '))}\r\n <{sender.addr_spec}>"


def _address(recipient: str) -> str:
    for character in recipient:
        if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
            raise DeadLetter(f"the recipient's address holds the control character U+{ord(character):04X}")
    if "=?" in recipient:  # valid in a local part, but header parsers decode it
        raise DeadLetter("the recipient's address holds an encoded word")
    try:
        found = validate_email(recipient, check_deliverability=False)
    except EmailNotValidError as error:
        raise DeadLetter(f"the recipient's address cannot be used: {error.__class__.__name__}") from None
    # A domain in another script has an ASCII form every server takes; a local part has none.
    return found.ascii_email or found.normalized
