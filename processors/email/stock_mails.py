"""The mails about low stock: one item in a mail, or many."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from processors.email.alert_throttle import AlertThrottle
from processors.email.low_stock import Alert, LowStock
from processors.email.outgoing_mail import OutgoingMail
from processors.shared.safe_text import business_shown, name_shown
from schemas import EmailRefused

_SHOWN: Final = 50  # rows of a mail about many


def throttle_of(outgoing: OutgoingMail, business_id: int, sku: str, event_id: str) -> AlertThrottle:
    """The window of an item, as the event `event_id` may claim it."""
    return AlertThrottle(
        outgoing.streams.redis,
        outgoing.streams.keys,
        business_id=business_id,
        sku=sku,
        event_id=event_id,
        seconds=outgoing.settings.email_stock_window,
    )


def gathered(outgoing: OutgoingMail, business_id: int) -> LowStock:
    """The alerts of a business that wait."""
    return LowStock(
        outgoing.streams.redis, outgoing.streams.keys, business_id, seconds=outgoing.settings.email_stock_gather
    )


async def send_one(
    outgoing: OutgoingMail, business_id: int, alert: Alert, *, subject_id: str = ""
) -> list[EmailRefused]:
    """Mails about one alert; `subject_id` as `OutgoingMail.send` has it."""
    return await outgoing.send(
        "stock_alert",
        outgoing.settings.email_stock_alerts_to,
        subject_id=subject_id,
        sku=alert.sku,
        name=name_shown(alert.name),
        quantity=f"{alert.quantity:,}",
        threshold=f"{alert.threshold:,}",
        business=business_shown(alert.business, business_id),
        link=outgoing.settings.link(f"/businesses/{business_id}/stock/{quote(alert.sku, safe='')}"),
        window=_spoken(outgoing.settings.email_stock_window),
    )


async def send_list(outgoing: OutgoingMail, business_id: int, alerts: list[Alert]) -> list[EmailRefused]:
    """Mails about many alerts of one business at once."""
    more = len(alerts) - _SHOWN
    return await outgoing.send(
        "stock_alerts",
        outgoing.settings.email_stock_alerts_to,
        subject_id=outgoing.delivery.message.id,
        count=f"{len(alerts):,}",
        business=business_shown(next((alert.business for alert in alerts if alert.business), ""), business_id),
        items=[
            {
                "sku": alert.sku,
                "name": name_shown(alert.name),
                "quantity": f"{alert.quantity:,}",
                "threshold": f"{alert.threshold:,}",
            }
            for alert in alerts[:_SHOWN]
        ],
        more=f"and {more:,} more" if more > 0 else "",
        link=outgoing.settings.link(f"/businesses/{business_id}/stock"),
        window=_spoken(outgoing.settings.email_stock_window),
    )


def _spoken(seconds: int) -> str:
    for unit, length in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= length and seconds % length == 0:
            count = seconds // length
            return f"{count} {unit}s" if count > 1 else unit
    return f"{seconds} seconds"
