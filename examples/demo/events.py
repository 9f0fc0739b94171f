"""The events of the demo, and how the mail server behaves to each recipient."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from pydantic import HttpUrl

from schemas import PasswordResetRequested, ReportGenerated, StockBelowThreshold, UserRegistered
from streams import Event

from ..fakes.mail_rules import MailRules, Rule

ADA: Final = "ada@example.com"
GRACE: Final = "grace@example.com"
ALAN: Final = "alan@example.com"
BUSY: Final = "busy@example.com"
"""Its mail server says 451 twice, then takes the mail."""
GONE: Final = "gone@example.com"
"""Its mailbox does not exist (550), until the mail server is repaired."""
CROWD: Final = "crowd.example"
"""Each recipient here is served slowly, so that work is in flight when a consumer is killed."""
PEOPLE: Final = 200
SLOW: Final = 0.4  # seconds


def misbehaving() -> MailRules:
    """The mail server with all its moods."""
    return MailRules(
        recipients={
            BUSY: Rule(code=451, times=2, text="4.3.2 too busy, come back later"),
            GONE: Rule(code=550, text="5.1.1 no such mailbox"),
            f"@{CROWD}": Rule(at="data", delay=SLOW),
        }
    )


def repaired() -> MailRules:
    """The mail server when every mailbox exists."""
    rules = misbehaving()
    return MailRules(recipients={name: rule for name, rule in rules.recipients.items() if name != GONE})


def events() -> dict[str, Event]:
    """The single events, by the name the demo has for each."""
    stock = StockBelowThreshold(business_id=7, sku="OAK-TABLE-180", quantity=3, threshold=10)
    return {
        "welcome": UserRegistered(user_id=1, email=ADA, name="Ada"),
        "reset": PasswordResetRequested(
            user_id=2, email=GRACE, reset_id="reset-of-grace", expires_at=datetime.now(UTC) + timedelta(hours=1)
        ),
        "stock": stock,
        "stock again": stock.model_copy(update={"quantity": 2}),
        "report": ReportGenerated(
            report_id="2026-q1", url=HttpUrl("http://localhost:8000/reports/2026-q1"), user_email=ALAN
        ),
        "busy": UserRegistered(user_id=3, email=BUSY, name="Barbara"),
        "gone": UserRegistered(user_id=4, email=GONE, name="Gordon"),
    }


def crowd() -> list[Event]:
    """Many people who sign up at once."""
    return [
        UserRegistered(user_id=1000 + number, email=f"person-{number}@{CROWD}", name=f"Person {number}")
        for number in range(1, PEOPLE + 1)
    ]
