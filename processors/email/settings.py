"""EmailSettings: what the email processor reads from the environment."""

from __future__ import annotations

from email.headerregistry import Address
from email.utils import parseaddr
from pathlib import Path
from typing import Final, Literal, NamedTuple, Self
from urllib.parse import unquote, urlsplit

from email_validator import EmailNotValidError, validate_email
from pydantic import EmailStr, Field, SecretStr, model_validator

from processors.shared.recipients import recipient, recipients_of
from streams import StreamsError
from streams.scheduling import Cron
from streams.settings import CommaSeparated, EnvironmentSettings

Encryption = Literal["none", "starttls", "tls"]
WhenAmbiguous = Literal["resend", "hold"]

_SCHEMES: Final[dict[str, tuple[Encryption, int]]] = {
    "smtp": ("none", 25),
    "smtp+starttls": ("starttls", 587),
    "smtps": ("tls", 465),
}
_LOOPBACK: Final = {"localhost", "127.0.0.1", "::1"}


class Server(NamedTuple):
    """The mail server, and how to connect to it. `password` is a secret: never log a whole Server."""

    host: str
    port: int
    encryption: Encryption
    user: str
    password: str

    def __repr__(self) -> str:
        return f"<Server {self.host}:{self.port} {self.encryption}>"


class EmailSettings(EnvironmentSettings):
    """The email processor's settings; every field is the environment variable of the same name in capitals.

    `SMTP_URL` and `SMTP_PASSWORD` are also read from the files that `SMTP_URL_FILE` and `SMTP_PASSWORD_FILE` name.
    """

    secret_variables = ("SMTP_URL", "SMTP_PASSWORD")

    # smtp:// (plain), smtp+starttls:// (refuses to send without TLS) or smtps://, as user:password@host:port.
    # User and password are percent-encoded. Plain with a password is accepted for a server on this machine only.
    smtp_url: SecretStr = SecretStr("smtp://localhost:1025")
    smtp_password: SecretStr | None = None  # wins over the one in SMTP_URL
    email_smtp_ca: Path | None = None  # file with the CA of a server whose certificate is not publicly signed
    email_smtp_connections: int = Field(8, ge=1, le=100)  # connections one process holds to the server
    email_smtp_connect_timeout: float = Field(10.0, gt=0)  # seconds to connect, negotiate TLS and log in
    # Seconds one mail may take in all, waiting for a connection included; below the handlers' own timeout.
    email_smtp_timeout: float = Field(60.0, gt=0, le=80)

    # The outcome of a mail whose content was sent and whose reply was lost, or whose process died before the reply:
    # it is sent again with the same Message-ID, or it is held as a dead letter until an operator replays it.
    email_ambiguous: WhenAmbiguous = "resend"
    # When a mail that the server has refused for now (4xx) is tried again: after so many seconds, which double from one
    # try to the next up to the longest, and how many tries there are in all.
    email_retry_first: float = Field(60.0, gt=0, le=86_400)
    email_retry_most: float = Field(4 * 3600.0, gt=0, le=7 * 86_400)
    email_retry_attempts: int = Field(20, ge=1, le=1000)
    email_rate: float | None = Field(None, gt=0, le=1_000_000)  # mails begun in a second at most, over all processes

    # The sender, "Name <address>" or an address; its domain is also the right side of every Message-ID.
    email_from: str = "Planning Bord <no-reply@planning-bord.example>"
    # The recipients of alerts about low stock, comma separated. None by default: then such an event is settled with a
    # warning.
    email_stock_alerts_to: CommaSeparated[tuple[EmailStr, ...]] = ()
    # Seconds for which alerts of one business are gathered, so that many become one mail; 0: each goes out at once.
    email_stock_gather: float = Field(30.0, ge=0, le=3600)
    email_stock_window: int = Field(6 * 3600, ge=1)  # seconds in which one SKU of one business is mailed about once
    # The recipients of the daily digest, comma separated: an address for every business, 7=address for one.
    email_digest_to: CommaSeparated[tuple[str, ...]] = ()
    email_digest_cron: str = "0 7 * * *"  # when
    # In which time zone that is; empty: in each business' own. The day of a digest is the business' own in any case.
    email_digest_tz: str = ""
    # Domains that may be written to, comma separated; empty = all. Set it wherever real addresses meet test code.
    email_allowed_recipients: CommaSeparated[frozenset[str]] = frozenset()
    app_url: str = "http://localhost:8000"  # what links in mails begin with; https unless it is on this machine

    @model_validator(mode="after")
    def _check(self) -> Self:
        server = self.server()
        if server.password and server.encryption == "none" and server.host not in _LOOPBACK:
            raise ValueError("SMTP_URL would send a password in clear text: use smtp+starttls:// or smtps://")
        if server.password and not server.user:
            raise ValueError("SMTP_PASSWORD is set but SMTP_URL has no user: write smtps://user@host")
        self.sender()
        for text in self.email_digest_to:
            recipient(text, "EMAIL_DIGEST_TO")
        try:
            Cron(self.email_digest_cron, self.email_digest_tz or "UTC")
        except StreamsError as error:
            raise ValueError(f"EMAIL_DIGEST_CRON, EMAIL_DIGEST_TZ: {error}") from None
        link = urlsplit(self.app_url)
        if link.scheme not in ("http", "https") or not link.hostname or link.query or link.fragment:
            raise ValueError("APP_URL must look like https://app.example.com")
        if link.scheme == "http" and link.hostname not in _LOOPBACK:
            raise ValueError("APP_URL must be https: password reset links begin with it")
        return self

    def server(self) -> Server:
        """Reads `SMTP_URL`; raises `ValueError` when it is invalid."""
        parts = urlsplit(self.smtp_url.get_secret_value())
        if parts.scheme not in _SCHEMES:
            raise ValueError("SMTP_URL must begin with smtp://, smtp+starttls:// or smtps://")
        encryption, usual_port = _SCHEMES[parts.scheme]
        try:
            port = parts.port or usual_port
        except ValueError:
            raise ValueError("SMTP_URL: the port must be a number up to 65535") from None
        if not parts.hostname or parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ValueError("SMTP_URL must look like smtps://user:password@host:port (percent-encode / ? # @ in it)")
        password = self.smtp_password.get_secret_value() if self.smtp_password else unquote(parts.password or "")
        return Server(parts.hostname, port, encryption, unquote(parts.username or ""), password)

    def sender(self) -> Address:
        """Reads `EMAIL_FROM`; raises `ValueError` when it is not an address."""
        if any(character < " " or character == "\x7f" for character in self.email_from):
            raise ValueError("EMAIL_FROM holds a control character")
        name, address = parseaddr(self.email_from)
        try:
            ascii_address = validate_email(address, check_deliverability=False).ascii_email
        except EmailNotValidError as error:
            raise ValueError(f"EMAIL_FROM: {error}") from None
        if ascii_address is None:
            raise ValueError("EMAIL_FROM must be an ASCII address: it is used with every server")
        return Address(name, addr_spec=ascii_address)

    def link(self, path: str) -> str:
        """The address of a page of the application; `path` begins with `/` and is already percent-encoded."""
        return self.app_url.rstrip("/") + path

    def digest_recipients(self, business_id: int) -> tuple[str, ...]:
        """Who gets the digest of a business."""
        return recipients_of(business_id, self.email_digest_to, "EMAIL_DIGEST_TO")

    def may_receive(self, address: str) -> bool:
        """Says whether `EMAIL_ALLOWED_RECIPIENTS` lets this address be written to."""
        allowed = {domain.lower().lstrip("@") for domain in self.email_allowed_recipients}
        return not allowed or address.rpartition("@")[2].lower() in allowed
