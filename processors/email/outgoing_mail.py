"""OutgoingMail: one mail about one event, from its template to what the mail server said of each recipient."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final, Literal

import structlog

from processors.email.accepted_recipients import AcceptedRecipients
from processors.email.mail import Mail, compose
from processors.email.mail_backoff import Ambiguous, Deferred
from processors.email.mailer import Mailer, Refused, Sent, open_mailer
from processors.email.rendering import TemplateName, render
from processors.email.send_marker import SendMarker, Taken
from processors.email.smtp_replies import Held, quotable
from schemas import EmailRefused
from streams import CurrentDelivery, CurrentStreams, Delivery, Shared, Streams

_FOR_GOOD: Final = 500  # and above: RFC 5321, 4.2.1

MailOutcome = Literal["not sent", "unknown", "sent"]

log = structlog.get_logger(__name__)


class OutgoingMail:
    """Sends the mails of one delivery. `fate` is what is known of the last of them, whatever `send` came to."""

    def __init__(self, mailer: Mailer, delivery: Delivery, streams: Streams) -> None:
        self.settings = mailer.settings
        self.delivery = delivery
        self.streams = streams
        self.outcome: MailOutcome = "not sent"
        self._mailer = mailer

    async def send(
        self, template: TemplateName, recipients: tuple[str, ...], *, subject_id: str = "", **values: Any
    ) -> list[EmailRefused]:
        """Sends the mail that `template` makes of the event, and returns who was refused while others have it.

        With a `subject_id` the mail is about that rather than about the event, and is sent once whatever events ask for
        it. Raises what `Mailer.send` does; `Held` where it would be sent again and `EMAIL_AMBIGUOUS` is `hold`.
        """
        mail = compose(
            render(template, **values),
            event_id=subject_id or self.delivery.message.id,
            template=template,
            sender=self.settings.sender(),
            recipients=recipients,
        )
        try:
            return await self._send(mail, once=bool(subject_id))
        except Ambiguous as unknown:
            carried = self.delivery.message.carried
            before = carried.errors if carried else []
            unknown.tries = 1 + sum(str(each.get("error", "")).startswith(Ambiguous.__name__) for each in before)
            raise

    async def _send(self, mail: Mail, *, once: bool) -> list[EmailRefused]:
        template, event_id = mail.template, self.delivery.message.id
        holds = self.settings.email_ambiguous == "hold"
        have = AcceptedRecipients(self.streams.redis, self.streams.keys, mail.message_id, replays=self.delivery.replays)
        # At a first try there is nothing to know, but of a mail that other events may have begun.
        reached = await have.of(mail.recipients) if once or self.delivery.failures else frozenset()
        if not holds and not once:  # a second copy is allowed: nothing to ask, nothing to remember
            sent = await self._transmit(mail, None, reached)
            if later := self._later(mail, sent):
                await have.add(sent.reached)
                raise later
            return _refusals(template, mail.message_id, sent.refused)
        marker = SendMarker(self.streams.redis, self.streams.keys, mail.message_id, replays=self.delivery.replays)
        known = await marker.known()
        if known == "sent":
            log.info("mail.already_sent", event_id=event_id, message_id=mail.message_id)
            return []
        if known == "begun" and holds:
            raise Held(mail.message_id, "its process ended before the server's reply, or another one is at it")
        try:
            sent = await self._transmit(mail, marker, reached)
        except (Ambiguous, Taken) as unknown:
            why = str(unknown)
            raise (Held(mail.message_id, why) if holds else Ambiguous(why)) from None
        if later := self._later(mail, sent):
            await have.add(sent.reached)
            await marker.undo()  # it is not sent, but to those who are noted
            raise later
        return _refusals(template, mail.message_id, sent.refused)

    async def _transmit(self, mail: Mail, marker: SendMarker | None, reached: frozenset[str]) -> Sent:
        self.outcome = "unknown"
        try:
            sent = await self._mailer.send(mail, marker, event_id=self.delivery.message.id, reached=reached)
        except Ambiguous:
            raise
        except Exception:
            self.outcome = "not sent"
            raise
        self.outcome = "sent" if sent.accepted else "not sent"
        return sent

    def _later(self, mail: Mail, sent: Sent) -> Deferred | None:
        """The refusal to try again by, when some recipients were refused for now; None at the last try."""
        refused = [refusal for refusal in sent.refused if refusal.code < _FOR_GOOD]
        route = self.delivery.route
        if not refused or route is None:
            return None
        reply = f"{refused[0].code} {quotable(refused[0].reply)}"
        later = Deferred(
            f"the mail server refused for now {len(refused)} of {len(mail.recipients)} recipients, the others have it "
            f"or are refused for good: {reply}"
        )
        return None if route.retry.next_delay(self.delivery.attempt, later) is None else later


def outgoing_mail(
    mailer: Mailer = Shared(open_mailer),
    delivery: Delivery = CurrentDelivery(),
    streams: Streams = CurrentStreams(),
) -> OutgoingMail:
    """The mail of the delivery that is being handled, for `Depends(outgoing_mail)`."""
    return OutgoingMail(mailer, delivery, streams)


def _refusals(template: str, message_id: str, refused: tuple[Refused, ...]) -> list[EmailRefused]:
    """Reports the recipients a mail did not reach while others have it: sending again would reach those twice."""
    by_code: dict[int, list[Refused]] = defaultdict(list)
    for refusal in refused:
        by_code[refusal.code].append(refusal)
    for code, those in by_code.items():
        log.warning("mail.refused", message_id=message_id, code=code, recipients=len(those))
    return [
        EmailRefused(
            template=template,
            message_id=message_id,
            recipients=[refusal.recipient for refusal in those],
            code=code,
            reply=quotable(those[0].reply),
        )
        for code, those in by_code.items()
    ]
