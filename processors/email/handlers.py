"""The email processor's handlers: one for each event that a mail is sent about.

Mail is sent at least once. Each mail has a Message-ID made of the event's id, so a second copy can be recognised.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import structlog

from processors.email.business import open_business
from processors.email.digest_text import digest_text
from processors.email.digest_times import digests_due
from processors.email.file_links import FileLinks, link_to_errors, link_to_file, open_file_links
from processors.email.low_stock import Alert
from processors.email.mail_backoff import Ambiguous, MailBackoff
from processors.email.outgoing_mail import OutgoingMail, outgoing_mail
from processors.email.reset_mail import send_reset
from processors.email.settings import EmailSettings
from processors.email.smtp_replies import Held
from processors.email.stock_mails import gathered, send_list, send_one, throttle_of
from processors.shared.safe_text import file_shown, name_shown
from schemas import (
    DailyDigestDue,
    EmailRefused,
    InventoryExported,
    InventoryExportFailed,
    InventoryImported,
    InventoryImportFailed,
    InventorySyncFailed,
    PasswordResetRequested,
    ReportFailed,
    ReportGenerated,
    StockAlertsDue,
    StockBelowThreshold,
    UserRegistered,
)
from streams import DeadLetter, Depends, Event, Processor, Shared, Slot, Snooze

if TYPE_CHECKING:
    from processors.shared.database import Database

# More than the mailer may take for one mail (60 s, at most 80): its own verdict is the better one, because it knows
# whether the content had been sent.
_TIMEOUT: Final = 90.0

_FEW: Final = 5  # alerts that come together and still are a mail each

log = structlog.get_logger(__name__)

email = Processor("email", retry=MailBackoff())
"""The email processor: consumer group `email`. Run it with `python -m processors.email`."""


@email.on(UserRegistered, timeout=_TIMEOUT)
async def send_welcome(event: UserRegistered, outgoing: OutgoingMail = Depends(outgoing_mail)) -> list[EmailRefused]:
    """Welcomes a person who has signed up."""
    link = outgoing.settings.link("/")
    return await outgoing.send("welcome", (event.email,), name=name_shown(event.name), link=link)


@email.on(PasswordResetRequested, timeout=_TIMEOUT)
async def send_password_reset(
    event: PasswordResetRequested, outgoing: OutgoingMail = Depends(outgoing_mail)
) -> list[EmailRefused]:
    """Sends the link with which a person chooses a new password. The token in it is made here and now.

    A reset that has expired on the way (an outage, a replay) or was used is settled without a mail: its link would not
    work. One that was asked for under another address before is a dead letter.
    """
    return await send_reset(event, outgoing)


@email.on(StockBelowThreshold, timeout=_TIMEOUT)
async def send_stock_alert(
    event: StockBelowThreshold, outgoing: OutgoingMail = Depends(outgoing_mail)
) -> Sequence[Event]:
    """Mails `EMAIL_STOCK_ALERTS_TO` that an item runs low, at most once per business, SKU and `EMAIL_STOCK_WINDOW`.

    The alerts of one business are gathered for `EMAIL_STOCK_GATHER` seconds: the first asks for the mail about them.
    Without a recipient, the event is settled with a warning: not having set one is a choice, and thousands of dead
    letters would hide those that need an operator.
    """
    settings, event_id = outgoing.settings, outgoing.delivery.message.id
    if not settings.email_stock_alerts_to:
        log.warning("stock.no_recipient", event_id=event_id, set="EMAIL_STOCK_ALERTS_TO")
        return []
    throttle = throttle_of(outgoing, event.business_id, event.sku, event_id)
    if not await throttle.claim():
        log.info("stock.already_announced", event_id=event_id, business_id=event.business_id)
        return []
    alert = Alert(event_id, event.sku, event.quantity, event.threshold, event.name, event.business)
    if settings.email_stock_gather and not outgoing.delivery.replays:
        asks = await gathered(outgoing, event.business_id).add(alert)
        if asks is None:
            log.info("stock.already_announced", event_id=event_id, business_id=event.business_id)
        return [StockAlertsDue(business_id=event.business_id)] if asks else []
    try:
        return await send_one(outgoing, event.business_id, alert)
    except (Ambiguous, Held):
        raise  # it may have arrived: the window stays closed to others, and open to this event's next attempt
    except Exception:
        await throttle.release()  # nothing was sent; keeping the claim could suppress this alert for hours
        raise


@email.on(StockAlertsDue, timeout=_TIMEOUT)
async def send_stock_alerts(event: StockAlertsDue, outgoing: OutgoingMail = Depends(outgoing_mail)) -> Sequence[Event]:
    """Mails about the gathered alerts of a business: a few of them one by one, and more in one mail."""
    settings, event_id = outgoing.settings, outgoing.delivery.message.id
    if not settings.email_stock_alerts_to:
        log.warning("stock.no_recipient", event_id=event_id, set="EMAIL_STOCK_ALERTS_TO")
        return []
    alerts = await gathered(outgoing, event.business_id).take(event_id)
    if not isinstance(alerts, list):
        raise Snooze(alerts, "more alerts may come")
    refused: list[EmailRefused] = []
    try:
        if len(alerts) > _FEW:
            return await send_list(outgoing, event.business_id, alerts)
        for alert in alerts:
            refused += await send_one(outgoing, event.business_id, alert, subject_id=alert.event_id)
    except Held:
        raise
    except Exception as error:
        if refused:  # of mails that are not sent again: the next try cannot report them
            await outgoing.streams.publish_many(refused)
        if isinstance(error, DeadLetter):
            for alert in alerts:
                await throttle_of(outgoing, event.business_id, alert.sku, alert.event_id).release()
        raise
    return refused


@email.on(ReportGenerated, timeout=_TIMEOUT)
async def send_report_ready(
    event: ReportGenerated, outgoing: OutgoingMail = Depends(outgoing_mail), links: FileLinks = Shared(open_file_links)
) -> list[EmailRefused]:
    """Mails the requester of a report where to fetch it."""
    link = await link_to_file(links, outgoing, "reports", event.file, event.file_name, event.business_id, event.url)
    return await outgoing.send("report_ready", (event.user_email,), report=event.title or event.report_id, link=link)


@email.on(ReportFailed, timeout=_TIMEOUT)
async def send_report_failed(
    event: ReportFailed, outgoing: OutgoingMail = Depends(outgoing_mail)
) -> list[EmailRefused]:
    """Mails the requester of a report why there is none."""
    kind, link = event.report_type.replace("-", " "), outgoing.settings.link(f"/businesses/{event.business_id}/reports")
    values = {"kind": kind, "problem": event.problem or "no reason was given", "link": link}
    return await outgoing.send("report_failed", (event.user_email,), **values)


@email.on(InventoryImported, timeout=_TIMEOUT)
async def send_import_done(
    event: InventoryImported,
    outgoing: OutgoingMail = Depends(outgoing_mail),
    links: FileLinks = Shared(open_file_links),
) -> list[EmailRefused]:
    """Mails the sender of a file what was imported of it, and where the rest is named."""
    if event.user_email is None:
        return []
    report = await link_to_errors(links, outgoing, event)
    return await outgoing.send(
        "import_done",
        (event.user_email,),
        name=file_shown(event.name) or "Your file",
        nothing=not event.written and not event.repeated,
        written=f"{event.written:,}",
        refused=f"{event.refused:,}" if event.refused else "",
        new=_counted(event.products_new),
        changed=_counted(event.products_changed),
        unchanged=_counted(event.products_unchanged),
        repeated=event.repeated,
        is_report=bool(report),
        link=report or outgoing.settings.link(f"/businesses/{event.business_id}/stock"),
    )


@email.on(InventoryImportFailed, timeout=_TIMEOUT)
async def send_import_failed(
    event: InventoryImportFailed,
    outgoing: OutgoingMail = Depends(outgoing_mail),
    links: FileLinks = Shared(open_file_links),
) -> list[EmailRefused]:
    """Mails the sender of a file why nothing of it was imported."""
    if event.user_email is None:
        return []
    report = await link_to_errors(links, outgoing, event)
    return await outgoing.send(
        "import_failed",
        (event.user_email,),
        name=file_shown(event.name) or "Your file",
        problem=event.problem or "no reason was given",
        written=_counted(event.written),
        is_report=bool(report),
        link=report or outgoing.settings.link(f"/businesses/{event.business_id}/stock"),
    )


def _counted(number: int) -> str:
    return f"{number:,}" if number else ""


@email.on(InventoryExportFailed, timeout=_TIMEOUT)
async def send_export_failed(
    event: InventoryExportFailed, outgoing: OutgoingMail = Depends(outgoing_mail)
) -> list[EmailRefused]:
    """Sends the person who asked for an export the reason why there is none."""
    if event.user_email is None:
        return []
    link = outgoing.settings.link(f"/businesses/{event.business_id}/stock")
    values = {"kind": f"export of your stock as {event.format.upper()}", "what": "export", "link": link}
    return await outgoing.send("report_failed", (event.user_email,), problem=event.problem, **values)


@email.on(InventorySyncFailed, timeout=_TIMEOUT)
async def send_sync_failed(
    event: InventorySyncFailed, outgoing: OutgoingMail = Depends(outgoing_mail)
) -> list[EmailRefused]:
    """Sends the person who asked for a sync, else those who receive the business' digest, the reason why it stopped."""
    settings = outgoing.settings
    asked = event.user_email is not None
    recipients = (event.user_email,) if event.user_email else settings.digest_recipients(event.business_id)
    if not recipients:
        about = {"event_id": outgoing.delivery.message.id, "business_id": event.business_id}
        log.warning("sync.no_recipient", **about, set="EMAIL_DIGEST_TO")
        return []
    link = settings.link(f"/businesses/{event.business_id}/stock")
    values = {"system": event.external_system, "problem": event.problem or "no reason was given", "link": link}
    return await outgoing.send("sync_failed", recipients, asked=asked, **values)


@email.on(InventoryExported, timeout=_TIMEOUT)
async def send_export_ready(
    event: InventoryExported,
    outgoing: OutgoingMail = Depends(outgoing_mail),
    links: FileLinks = Shared(open_file_links),
) -> list[EmailRefused]:
    """Mails the requester of an export where to fetch it."""
    if event.user_email is None:
        return []
    return await outgoing.send(
        "export_ready",
        (event.user_email,),
        format=event.format.upper(),
        rows=f"{event.rows:,}",
        size=_size(event.bytes),
        link=await link_to_file(links, outgoing, "exports", event.file, event.file_name, event.business_id, event.url),
    )


@email.on(DailyDigestDue, timeout=_TIMEOUT)
async def send_daily_digest(
    event: DailyDigestDue,
    outgoing: OutgoingMail = Depends(outgoing_mail),
    database: Database = Shared(open_business),
) -> list[Event]:
    """Mails a business' recipients (`EMAIL_DIGEST_TO`) the figures of a day: once, however many events ask for it.

    An event that names no business becomes one for each that has recipients.
    """
    from processors.email.digest import Digest, zones_of_businesses

    settings = outgoing.settings
    if event.business_id is None:
        numbers = await zones_of_businesses(database.engine)
        with_recipients = [number for number in numbers if settings.digest_recipients(number)]
        return [DailyDigestDue(day=event.day, business_id=number) for number in with_recipients]
    recipients = settings.digest_recipients(event.business_id)
    if not recipients:
        event_id = outgoing.delivery.message.id
        log.warning("digest.no_recipient", event_id=event_id, business_id=event.business_id, set="EMAIL_DIGEST_TO")
        return []
    digest = await Digest.read(database.engine, event.business_id, event.day)
    if digest is None:
        raise DeadLetter(f"there is no business {event.business_id}")
    return [
        *await outgoing.send(
            "daily_digest",
            recipients,
            subject_id=f"{event.business_id}-{event.day:%Y-%m-%d}",
            link=settings.link(f"/businesses/{event.business_id}"),
            **digest_text(digest),
        )
    ]


async def daily_digest(slot: Slot, database: Database = Shared(open_business)) -> list[DailyDigestDue]:
    """The digests of yesterday, of each business. It is a schedule, whose time is a setting: see `configured`."""
    return await digests_due(slot.at, database, EmailSettings.load())


def _size(count: int) -> str:
    for unit, length in (("MB", 1_000_000), ("kB", 1_000)):
        if count >= length:
            return f"{count / length:,.1f} {unit}"
    return f"{count} bytes"
