"""The email processor's handlers: one for each event that somebody is written to about.

Mail is sent at least once. Each mail has a Message-ID made of the event's id, so a second copy can be recognised.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC
from typing import Any, Final
from urllib.parse import quote

import structlog

from processors.email import reset_tokens
from processors.email.mail import compose
from processors.email.mailer import Mailer, Refused, open_mailer
from processors.email.rendering import TemplateName, render
from processors.email.replies import Ambiguous, quotable
from processors.email.stock_window import StockWindow
from schemas import EmailRefused, PasswordResetRequested, ReportGenerated, StockBelowThreshold, UserRegistered
from streams import CurrentDelivery, CurrentStreams, Delivery, Processor, Shared, Streams

# More than the mailer may take for one mail (60 s, at most 80): its own verdict is the better one, because it knows
# whether content had been handed over.
_TIMEOUT: Final = 90.0

log = structlog.get_logger(__name__)

email = Processor("email")
"""The email processor: consumer group `email`. Run it with `python -m processors.email`."""


@email.on(UserRegistered, timeout=_TIMEOUT)
async def send_welcome(
    event: UserRegistered,
    mailer: Mailer = Shared(open_mailer),
    delivery: Delivery = CurrentDelivery(),
) -> list[EmailRefused]:
    """Welcomes a person who has signed up."""
    link = mailer.settings.link("/")
    return await _send(mailer, delivery, "welcome", (event.email,), name=event.name, link=link)


@email.on(PasswordResetRequested, timeout=_TIMEOUT)
async def send_password_reset(
    event: PasswordResetRequested,
    mailer: Mailer = Shared(open_mailer),
    delivery: Delivery = CurrentDelivery(),
    streams: Streams = CurrentStreams(),
) -> list[EmailRefused]:
    """Sends the link with which a person chooses a new password. The token in it is made here and now.

    A reset that has expired on the way (an outage, a replay) is settled without a mail: its link would not work.
    """
    token = await reset_tokens.mint(streams.redis, streams.keys, event.reset_id, event.expires_at)
    if token is None:
        log.info("reset.expired", event_id=delivery.message.id, expires_at=event.expires_at.isoformat())
        return []
    until = event.expires_at.astimezone(UTC)
    return await _send(
        mailer,
        delivery,
        "password_reset",
        (event.email,),
        link=mailer.settings.link(f"/reset-password/{event.reset_id}?token={token}"),
        until=f"{until.day} {until:%B %Y, %H:%M} UTC",
    )


@email.on(StockBelowThreshold, timeout=_TIMEOUT)
async def send_stock_alert(
    event: StockBelowThreshold,
    mailer: Mailer = Shared(open_mailer),
    delivery: Delivery = CurrentDelivery(),
    streams: Streams = CurrentStreams(),
) -> list[EmailRefused]:
    """Tells `EMAIL_STOCK_ALERTS_TO` that an item runs low, at most once per business, SKU and `EMAIL_STOCK_WINDOW`.

    With nobody to tell, the event is settled with a warning: not having set a recipient is a choice, and thousands
    of dead letters would hide the ones that need somebody.
    """
    settings = mailer.settings
    if not settings.email_stock_alerts_to:
        log.warning("stock.nobody_to_tell", event_id=delivery.message.id, set="EMAIL_STOCK_ALERTS_TO")
        return []
    window = StockWindow(
        streams.redis,
        streams.keys,
        business_id=event.business_id,
        sku=event.sku,
        event_id=delivery.message.id,
        seconds=settings.email_stock_window,
    )
    if not await window.claim():
        log.info("stock.already_told", event_id=delivery.message.id, business_id=event.business_id)
        return []
    try:
        return await _send(
            mailer,
            delivery,
            "stock_alert",
            settings.email_stock_alerts_to,
            sku=event.sku,
            quantity=event.quantity,
            threshold=event.threshold,
            business_id=event.business_id,
            link=settings.link(f"/businesses/{event.business_id}/stock/{quote(event.sku, safe='')}"),
            window=_spoken(settings.email_stock_window),
        )
    except Ambiguous:
        raise  # it may have arrived: the window stays closed to others, and open to this event's next attempt
    except Exception:
        await window.release()  # nothing was sent; keeping the claim could keep everybody in the dark for hours
        raise


@email.on(ReportGenerated, timeout=_TIMEOUT)
async def send_report_ready(
    event: ReportGenerated,
    mailer: Mailer = Shared(open_mailer),
    delivery: Delivery = CurrentDelivery(),
) -> list[EmailRefused]:
    """Tells the person who asked for a report where to fetch it."""
    return await _send(
        mailer, delivery, "report_ready", (event.user_email,), report_id=event.report_id, link=str(event.url)
    )


async def _send(
    mailer: Mailer, delivery: Delivery, template: TemplateName, recipients: tuple[str, ...], **values: Any
) -> list[EmailRefused]:
    mail = compose(
        render(template, **values),
        event_id=delivery.message.id,
        template=template,
        sender=mailer.settings.sender(),
        recipients=recipients,
    )
    sent = await mailer.send(mail)
    return _refusals(template, mail.message_id, sent.refused)


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


def _spoken(seconds: int) -> str:
    for unit, length in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= length and seconds % length == 0:
            count = seconds // length
            return f"{count} {unit}s" if count > 1 else unit
    return f"{seconds} seconds"
