"""Mailer: hands mails over to the mail server and says truthfully how that ended.

The transaction is MAIL, RCPT for each recipient, DATA. Up to the first byte of content nothing can have been sent, so
a server that is silent or gone is an outage (`Unavailable`, nothing counted). After it, silence is `Ambiguous`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, NamedTuple

import structlog
from aiosmtplib import SMTP, SMTPException, SMTPRecipientRefused, SMTPResponseException
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from processors.email.connections import Connections
from processors.email.mail import Mail
from processors.email.mail_backoff import Ambiguous
from processors.email.send_marker import SendMarker, Taken
from processors.email.settings import EmailSettings
from processors.email.smtp_replies import judge
from streams import DeadLetter, StreamsError, Unavailable

_CLOSING: Final = 421  # "service not available, closing the channel"
_FOR_GOOD: Final = 500  # and above: RFC 5321, 4.2.1
_RESET_TIMEOUT: Final = 5.0

_tracer = trace.get_tracer("planning-bord.email")
log = structlog.get_logger(__name__)


class Refused(NamedTuple):
    """Why the server would not take a mail for one recipient."""

    recipient: str
    code: int
    reply: str


class AllRefused(SMTPRecipientRefused):
    """The server refused every recipient of a mail; code and reply are those of one that may be tried again, if any."""

    def __init__(self, refused: tuple[Refused, ...]) -> None:
        worst = next((refusal for refusal in refused if refusal.code < _FOR_GOOD), refused[0])
        super().__init__(worst.code, worst.reply, worst.recipient)
        self.refused = refused


class Sent(NamedTuple):
    """A mail the server has taken for `accepted` recipients, the `reached` (0: none may be written to from here)."""

    accepted: int
    refused: tuple[Refused, ...] = ()
    reached: tuple[str, ...] = ()


@dataclass(slots=True)
class _Progress:
    """How far a transaction got: the last reply's code, and whether content was sent."""

    code: int = 0
    content_sent: bool = False


class Mailer:
    """Sends mails through one SMTP server, over connections that are kept and used again."""

    def __init__(self, settings: EmailSettings) -> None:
        self.settings = settings
        self.connections = Connections(settings)

    async def send(
        self, mail: Mail, marker: SendMarker | None = None, *, event_id: str = "", reached: frozenset[str] = frozenset()
    ) -> Sent:
        """Sends a mail to its recipients; returns when the server has taken responsibility for it. A `marker` notes
        how far it got; `event_id` is for the log. Those it has `reached` in an earlier try are left out.

        Raises `Deferred` (a `Retry`) for a 4xx reply, `DeadLetter` for a 5xx reply, `Ambiguous` (a `Retry`) when the
        connection ended after the content and before the reply, and `Unavailable` when there is no server, no login or
        no answer.
        A refusal of some recipients only is not raised but returned, and one of all the rest when it has `reached`
        others. With a `marker` also `Taken`, when another
        process hands the same mail over.
        """
        recipients = tuple(address for address in mail.recipients if self.settings.may_receive(address))
        if len(recipients) < len(mail.recipients):
            log.info(
                "mail.held",
                event_id=event_id,
                message_id=mail.message_id,
                held=len(mail.recipients) - len(recipients),
                set="EMAIL_ALLOWED_RECIPIENTS",
            )
        recipients = tuple(address for address in recipients if address not in reached)
        if not recipients:
            return Sent(0)
        try:
            return await self._traced(mail, recipients, marker)
        except AllRefused as refusal:
            if reached:
                return Sent(0, refusal.refused)
            raise judge(refusal.code, refusal.message) from None

    async def _traced(self, mail: Mail, recipients: tuple[str, ...], marker: SendMarker | None) -> Sent:
        progress = _Progress()
        if not trace.get_current_span().is_recording():  # a span costs more than the look
            return await self._deliver(mail, recipients, progress, marker)
        server = self.connections.server
        with _tracer.start_as_current_span(
            "smtp send",
            kind=SpanKind.CLIENT,
            attributes={"server.address": server.host, "server.port": server.port},
            record_exception=False,  # its text quotes the server's reply; the code below says enough
            set_status_on_exception=False,
        ) as span:
            try:
                return await self._deliver(mail, recipients, progress, marker)
            except BaseException as error:
                span.set_attribute("error.type", str(progress.code) if progress.code >= 400 else type(error).__name__)
                span.set_status(StatusCode.ERROR)
                raise
            finally:
                if progress.code > 0:
                    span.set_attribute("smtp.reply.code", progress.code)

    async def close(self) -> None:
        """Closes the connections."""
        await self.connections.close()

    async def _deliver(
        self, mail: Mail, recipients: tuple[str, ...], progress: _Progress, marker: SendMarker | None
    ) -> Sent:
        try:
            async with asyncio.timeout(self.settings.email_smtp_timeout), self.connections.slots:
                client = await self._begin(mail, progress)
                try:
                    sent = await self._transmit(client, mail, recipients, progress, marker)
                except (SMTPResponseException, Taken):
                    await self._reset(client)
                    raise
                except BaseException:
                    client.close()  # cancelled or broken in the middle: the next mail must not continue this one
                    raise
                self.connections.give_back(client)
        except AllRefused as refusal:
            progress.code = refusal.code
            raise
        except SMTPResponseException as reply:
            progress.code = reply.code
            if progress.content_sent and marker is not None:
                await marker.undo()
            raise judge(reply.code, reply.message) from None
        except (SMTPException, OSError) as error:  # lost connections and timeouts are both
            progress.code = 0
            if progress.content_sent:
                raise Ambiguous(f"no reply after the content: {type(error).__name__}") from None
            raise Unavailable("smtp", f"the mail server went silent: {type(error).__name__}") from None
        log.info("mail.sent", message_id=mail.message_id, accepted=sent.accepted, refused=len(sent.refused))
        return sent

    async def _begin(self, mail: Mail, progress: _Progress) -> SMTP:
        """Finds a connection on which the server accepts MAIL FROM.

        Servers close idle connections, some with a 421 that is only seen now, some without a word. That is no
        failed attempt: the next connection is tried, at last a new one, and no attempt is lost.
        """
        while True:
            client, new = await self.connections.take()
            if mail.utf8 and not client.supports_extension("smtputf8"):
                self.connections.give_back(client)
                raise DeadLetter("the address needs SMTPUTF8 and the mail server does not offer it")
            try:
                # A half-open connection answers nothing at all, so this wait is the short one.
                reply = await client.mail(
                    mail.sender,
                    options=["SMTPUTF8"] if mail.utf8 else [],
                    timeout=self.settings.email_smtp_connect_timeout,
                )
            except SMTPResponseException as refusal:
                if refusal.code != _CLOSING:
                    await self._reset(client)
                    raise
                client.close()
                if new:
                    progress.code = refusal.code
                    raise Unavailable("smtp", "the mail server closes the connection (421)") from None
            except OSError:
                client.close()
                if new:
                    raise
            except BaseException:
                client.close()
                raise
            else:
                progress.code = reply.code
                return client

    async def _transmit(
        self,
        client: SMTP,
        mail: Mail,
        recipients: tuple[str, ...],
        progress: _Progress,
        marker: SendMarker | None,
    ) -> Sent:
        refused: list[Refused] = []
        for recipient in recipients:
            try:
                reply = await client.rcpt(recipient, encoding="utf-8" if mail.utf8 else "ascii", timeout=None)
                progress.code = reply.code
            except SMTPRecipientRefused as refusal:
                refused.append(Refused(recipient, refusal.code, refusal.message))
        if len(refused) == len(recipients):
            raise AllRefused(tuple(refused))
        if marker is not None:
            await marker.begin()
        # Set before the call: it sends DATA and the content in one, and a loss of either looks the same.
        progress.content_sent = True
        reply = await client.data(mail.content, timeout=None)
        progress.code = reply.code
        if marker is not None:
            await marker.end()
        without = {refusal.recipient for refusal in refused}
        taken = tuple(address for address in recipients if address not in without)
        return Sent(len(taken), tuple(refused), taken)

    async def _reset(self, client: SMTP) -> None:
        """Ends a refused transaction so that the connection can be used again; one that will not is closed."""
        try:
            await client.rset(timeout=_RESET_TIMEOUT)
        except (SMTPException, OSError):
            client.close()
        self.connections.give_back(client)


@asynccontextmanager
async def open_mailer() -> AsyncIterator[Mailer]:
    """The mailer of this process, set up from the environment; closed when the consumer stops.

    Raises `Unavailable` for settings that cannot work: they would otherwise dead-letter mail after mail.
    """
    try:
        mailer = Mailer(EmailSettings.load())
    except (StreamsError, OSError) as error:  # OSError: the CA file cannot be read
        raise Unavailable("smtp", f"wrong settings: {error}") from None
    try:
        yield mailer
    finally:
        await mailer.close()
