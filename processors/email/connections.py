"""Connections: the open, greeted, encrypted and logged-in connections of one process to the mail server.

Opening one costs several round trips and a TLS handshake, so they are kept and used again. Whatever goes wrong while
opening concerns the server or our settings and never the mail at hand: it is `Unavailable`, nothing is dead-lettered.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Final

from aiosmtplib import SMTP, SMTPAuthenticationError, SMTPException, SMTPHeloError, SMTPResponseException

from processors.email.settings import EmailSettings
from processors.email.smtp_replies import quotable
from streams import Unavailable

_QUIT_TIMEOUT: Final = 2.0
_UNKNOWN_COMMAND: Final = frozenset({500, 502, 504})


class Connections:
    """At most `EMAIL_SMTP_CONNECTIONS` connections; hold one of `slots` while using one.

    `opened` counts the connections made since the start.
    """

    def __init__(self, settings: EmailSettings) -> None:
        self.server = settings.server()
        self.slots = asyncio.Semaphore(settings.email_smtp_connections)
        self.opened = 0
        self._timeout = settings.email_smtp_connect_timeout
        # Servers of a relay service want a greeting with the customer's domain; asking DNS for ours can take seconds.
        self._greeting = settings.sender().domain
        self._tls: ssl.SSLContext | None = None
        if self.server.encryption != "none":
            self._tls = ssl.create_default_context(cafile=settings.email_smtp_ca)
        self._free: list[SMTP] = []

    async def take(self) -> tuple[SMTP, bool]:
        """Gives the free connection used last, else a new one; the flag says that it is new.

        Raises `Unavailable` when no connection can be had.
        """
        while self._free:
            client = self._free.pop()
            if client.is_connected:
                return client, False
        return await self._open(), True

    def give_back(self, client: SMTP) -> None:
        """Keeps a connection for the next mail. Only one with no transaction open on it may come back."""
        if client.is_connected:
            self._free.append(client)

    async def close(self) -> None:
        """Says goodbye on the free connections; the server's answer is not waited for longer than 2 s."""
        free, self._free = self._free, []
        await asyncio.gather(*(_leave(client) for client in free))

    async def _open(self) -> SMTP:
        server = self.server
        # start_tls=True makes aiosmtplib fail when the server does not offer STARTTLS: a machine in between may have
        # cut the offer out of the greeting, and a password or a reset link would travel in clear text.
        client = SMTP(
            hostname=server.host,
            port=server.port,
            local_hostname=self._greeting,
            timeout=self._timeout,
            use_tls=server.encryption == "tls",
            start_tls=server.encryption == "starttls",
            tls_context=self._tls,
        )
        try:
            async with asyncio.timeout(self._timeout):
                await client.connect()
                if client.is_ehlo_or_helo_needed:
                    await _greet(client)
                if server.user:
                    await client.login(server.user, server.password)
        except (SMTPException, OSError) as error:
            client.close()
            raise Unavailable("smtp", f"{server.host}:{server.port}: {_why(error)}") from None
        except BaseException:
            client.close()
            raise
        self.opened += 1
        return client


async def _greet(client: SMTP) -> None:
    """Says EHLO, and HELO to a server that does not know it (RFC 5321, 3.2)."""
    try:
        await client.ehlo()
    except SMTPHeloError as refusal:
        if refusal.code not in _UNKNOWN_COMMAND:
            raise
        await client.helo()


async def _leave(client: SMTP) -> None:
    with contextlib.suppress(SMTPException, OSError):
        await client.quit(timeout=_QUIT_TIMEOUT)
    client.close()


def _why(error: Exception) -> str:
    """Says what to look at, without the server's words where they could repeat our login."""
    match error:
        case SMTPAuthenticationError():
            return f"the login was refused ({error.code}): check user and password in SMTP_URL"
        case SMTPResponseException():
            return f"the server turned us away: {error.code} {quotable(error.message)}"
        case ssl.SSLCertVerificationError():
            return f"the certificate is not trusted ({error.verify_message}): set EMAIL_SMTP_CA or fix the server"
        case TimeoutError():
            return "no answer in time"
        case _:
            return quotable(str(error)) or error.__class__.__name__
