"""SmtpSession: one SMTP connection to the fake mail server, answered by its rules."""

from __future__ import annotations

import asyncio
import hmac
from email import message_from_bytes, policy
from ssl import SSLContext
from typing import Literal, Protocol

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword
from aiosmtpd.smtp import Session as State

from .mail_rules import MailRules, Rule


class SessionServer(Protocol):
    """The mail server as its sessions see it. `MailServer` is one."""

    rules: MailRules
    tls: SSLContext | None
    login: tuple[str, str] | None
    sessions: set[SmtpSession]

    def note(
        self, event: str, code: int = 0, *, message_id: str = "", sender: str = "", recipients: tuple[str, ...] = ()
    ) -> None:
        """Writes one line to the log."""

    def keep(self, content: bytes) -> None:
        """Writes one mail."""

    def rule(self, recipient: str, at: Literal["mail", "rcpt", "data"]) -> Rule | None:
        """The rule that holds for this recipient at this point."""


class SmtpSession(SMTP):
    """One connection to the mail_server."""

    def __init__(self, mail_server: SessionServer) -> None:
        self._mail_server = mail_server
        super().__init__(
            _Answers(mail_server),
            hostname="sink.localhost",
            ident="scripted sink",
            enable_SMTPUTF8=True,
            tls_context=mail_server.tls,
            auth_require_tls=mail_server.tls is not None,
            authenticator=self._check_login,
            loop=asyncio.get_running_loop(),
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Takes the connection into the mail_server's list, by which it can be cut."""
        if self not in self._mail_server.sessions:  # STARTTLS comes here a second time
            self._mail_server.sessions.add(self)
            self._mail_server.note("connect")
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Takes it out again."""
        self._mail_server.sessions.discard(self)
        super().connection_lost(error)

    def cut(self) -> None:
        """Ends the connection without a word, as a crash or a broken line would."""
        transport = self._original_transport or self.transport
        if transport is not None:
            transport.abort()  # type: ignore[attr-defined]

    @property
    def task(self) -> asyncio.Task[None] | None:
        """The task that answers this connection; it ends when the connection has."""
        return self._handler_coroutine

    async def _handle_client(self) -> None:
        if self._mail_server.rules.refuse:
            self._mail_server.note("turned_away", 421)
            await self.push("421 4.3.2 sink.localhost is not taking mail, closing the channel")
            self._writer.close()
            return
        await super()._handle_client()

    def _check_login(
        self, _server: SMTP, _state: State, _envelope: Envelope, _mechanism: str, given: LoginPassword
    ) -> AuthResult:
        wanted = self._mail_server.login
        matches = wanted is not None and all(
            hmac.compare_digest(theirs, ours.encode()) for theirs, ours in zip(given, wanted, strict=True)
        )
        self._mail_server.note("login", 235 if matches else 535)
        return AuthResult(success=matches, handled=False)


class _Answers:
    """The replies to MAIL, RCPT and DATA, by the rules; the methods have the names aiosmtpd looks for."""

    def __init__(self, mail_server: SessionServer) -> None:
        self._mail_server = mail_server

    async def handle_MAIL(  # noqa: N802
        self, _server: SmtpSession, state: State, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self._mail_server.login is not None and not state.authenticated:
            self._mail_server.note("mail", 530, sender=address)
            return "530 5.7.0 Authentication required"
        if (rule := self._mail_server.rule("*", "mail")) is not None:
            self._mail_server.note("mail", rule.code, sender=address)
            return f"{rule.code} {rule.text}"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 OK"

    async def handle_RCPT(  # noqa: N802
        self, _server: SmtpSession, _state: State, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        rule = self._mail_server.rule(address, "rcpt")
        code, text = (rule.code, rule.text) if rule else (250, "OK")
        self._mail_server.note("rcpt", code, sender=envelope.mail_from or "", recipients=(address,))
        if code < 400:
            envelope.rcpt_tos.append(address)
        await _wait(rule.delay if rule else 0.0)
        return f"{code} {text}"

    async def handle_DATA(self, server: SmtpSession, _state: State, envelope: Envelope) -> str:  # noqa: N802
        content = envelope.original_content or b""
        rules = [rule for rule in (self._mail_server.rule(to, "data") for to in envelope.rcpt_tos) if rule is not None]
        rule = max(rules, key=lambda rule: (rule.drop, rule.code), default=Rule(text="taken"))
        kept = rule.code < 400
        if kept:
            self._mail_server.keep(content)
        self._mail_server.note(
            "dropped" if rule.drop else "accepted" if kept else "data",
            0 if rule.drop else rule.code,
            message_id=message_from_bytes(content, policy=policy.default)["Message-ID"] or "",
            sender=envelope.mail_from or "",
            recipients=tuple(envelope.rcpt_tos),
        )
        await _wait(max((rule.delay for rule in rules), default=0.0))
        if rule.drop:
            server.cut()
        return f"{rule.code} {rule.text}"


async def _wait(delay: float) -> None:
    if delay:  # without one there is nothing to wait for, not even an iteration of the loop
        await asyncio.sleep(delay)
