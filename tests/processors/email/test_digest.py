"""The daily digest: its figures are those of the tables, on both databases, and each is sent once."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import insert, update
from structlog.testing import capture_logs

from examples.fakes.mail_server import MailServer
from processors.email import email
from processors.email.apply_settings import apply_settings
from processors.email.digest import Digest
from processors.email.digest_text import digest_text
from processors.email.handlers import daily_digest, send_daily_digest
from processors.email.mailer import Mailer
from processors.email.outgoing_mail import OutgoingMail
from processors.email.settings import EmailSettings
from processors.shared.database import Database
from processors.shared.database.tables import businesses, exports, imports, products, sales, stock_levels, sync_states
from schemas import DailyDigestDue
from streams import DeadLetter, Slot
from streams.client.client import Streams
from tests.processors.email.conftest import Deliver, OpenMailer
from tests.processors.shared.database.conftest import business
from tests.sql.conftest import database_url, postgres, postgres_url

__all__ = ["business", "database_url", "postgres", "postgres_url"]

BERLIN = ZoneInfo("Europe/Berlin")
SUNDAY = date(2026, 10, 25)  # of 25 hours in Berlin
ADA = "ada@example.com"


def at(hour: float, day: date = SUNDAY) -> datetime:
    """A moment of a day in Berlin, counted from its first midnight."""
    return datetime.combine(day, datetime.min.time(), BERLIN).astimezone(UTC) + timedelta(hours=hour)


@pytest.fixture
async def shop(business: Database) -> Database:
    """Two businesses, and the days around a Sunday on which the clocks change."""
    now = datetime(2026, 1, 1, tzinfo=UTC)

    async def add(table: Any, *rows: dict[str, Any]) -> None:
        async with business.engine.begin() as connection:
            for row in rows:
                await connection.execute(insert(table).values(**row))

    await add(businesses, *(
        {"id": id, "name": name, "currency": "EUR", "created_at": now, "time_zone": "Europe/Berlin"}
        for id, name in ((1, "Söhne & Co"), (2, "Other"))
    ))  # fmt: skip
    await add(products, *(
        {"id": id, "business_id": owner, "sku": sku, "name": f"the {sku}", "price": Decimal("9.99"),
         "threshold": threshold, "created_at": now, "updated_at": now}
        for id, owner, sku, threshold in ((1, 1, "OAK", 10), (2, 1, "ELM", 0), (3, 2, "ASH", 5), (4, 1, "FIR", 100))
    ))  # fmt: skip
    await add(stock_levels, *(
        {"product_id": id, "quantity": quantity, "updated_at": now}
        for id, quantity in ((1, 9), (2, 0), (3, 0), (4, 1))
    ))  # fmt: skip
    await add(sales, *(
        {"business_id": owner, "product_id": product, "quantity": pieces, "unit_price": Decimal(price), "sold_at": when}
        for owner, product, pieces, price, when in (
            (1, 1, 2, "1.10", at(0)),  # the first moment
            (1, 1, 1, "1.20", at(24.99)),  # the last hour
            (1, 2, 3, "9.99", at(12)),
            (1, 1, 50, "1.00", at(25)),  # the next day's first moment
            (1, 1, 70, "1.00", at(-0.01)),
            (2, 3, 11, "1.00", at(12)),  # another business
            (1, 1, 4, "10.00", at(5, SUNDAY - timedelta(7))),
        )
    ))  # fmt: skip
    await add(imports, *(
        {"id": id, "business_id": owner, "file": "f", "sha256": id, "status": status, "rows_done": done,
         "rows_refused": refused, "error": error, "event_id": id, "started_at": now, "updated_at": now,
         "finished_at": when}
        for id, owner, status, done, refused, error, when in (
            ("a", 1, "done", 100, 3, None, at(3)),
            ("b", 1, "done", 20, 0, None, at(4)),
            ("c", 1, "aborted", 0, 40, "40 of 50 rows cannot be imported", at(5)),
            ("d", 1, "done", 999, 0, None, at(26)),
            ("e", 2, "failed", 0, 0, "not ours", at(5)),
            ("f", 1, "running", 7, 0, None, None),
        )
    ))  # fmt: skip
    await add(exports, *(
        {"id": id, "business_id": 1, "format": "csv", "status": status, "event_id": id, "created_at": at(1),
         "finished_at": when}
        for id, status, when in (("x", "done", at(2)), ("y", "removed", at(3)), ("z", "failed", None))
    ))  # fmt: skip
    await add(sync_states, {"business_id": 1, "system": "acme", "error": "503, eight times", "updated_at": at(7)})
    return business


async def test_a_digest_is_what_is_in_the_tables(shop: Database) -> None:
    digest = await Digest.read(shop.engine, 1, SUNDAY)
    assert digest is not None
    assert (digest.sold.sales, digest.sold.pieces, digest.sold.revenue) == (3, 6, Decimal("33.37"))
    assert (digest.week_before.sales, digest.week_before.revenue) == (1, Decimal("40.00"))
    assert digest.best == (("ELM", "the ELM", 3, Decimal("29.97")), ("OAK", "the OAK", 3, Decimal("3.40")))
    assert digest.below == (("FIR", "the FIR", 1, 100), ("OAK", "the OAK", 9, 10))
    assert digest.below_count == 2
    assert (digest.imports, digest.rows_imported, digest.rows_refused, digest.exports) == (2, 120, 3, 2)
    assert digest.failed == (
        ("Import", "40 of 50 rows cannot be imported"), ("Export", "as csv"), ("Sync", "acme: 503, eight times"),
    )  # fmt: skip
    words = digest_text(digest)
    assert words["change"] == "17 % less than the Sunday before"
    assert words["sold"] == "6 pieces in 3 sales"
    assert words["imports"] == "2 imports of 120 rows, 3 rows refused"
    assert await Digest.read(shop.engine, 3, SUNDAY) is None


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_digest_is_sent_once_whoever_asks(
    shop: Database, sink: MailServer, open_mailer: OpenMailer, streams: Streams, deliver: Deliver
) -> None:
    """One event for all businesses becomes one for each that has somebody to tell; a second one is not sent."""
    async with open_mailer(email_digest_to=f"1={ADA}") as mailer:
        everybody = DailyDigestDue(day=SUNDAY)
        with capture_logs() as logs:
            for _ in range(2):
                made = await send_daily_digest(everybody, OutgoingMail(mailer, deliver(everybody), streams), shop)
                assert made == [DailyDigestDue(day=SUNDAY, business_id=1)]
                for event in made:
                    assert isinstance(event, DailyDigestDue)
                    assert await send_daily_digest(event, OutgoingMail(mailer, deliver(event), streams), shop) == []
            other = DailyDigestDue(day=SUNDAY, business_id=2)
            assert await send_daily_digest(other, OutgoingMail(mailer, deliver(other), streams), shop) == []
    (mail,) = sink.mails()
    assert mail["Subject"] == "Söhne & Co: 33.37 EUR on Sunday, 25 October 2026"
    assert mail["Message-ID"] == "<1-2026-10-25.daily_digest@bord.example>"
    assert [entry["event"] for entry in logs if entry["event"] != "mail.sent"] == [
        "mail.already_sent", "digest.no_recipient",
    ]  # fmt: skip


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_business_that_is_not_there_is_a_dead_letter(
    shop: Database, open_mailer: OpenMailer, streams: Streams, deliver: Deliver
) -> None:
    event = DailyDigestDue(day=SUNDAY, business_id=99)
    async with open_mailer(email_digest_to=ADA) as mailer:
        with pytest.raises(DeadLetter, match="there is no business 99"):
            await send_daily_digest(event, OutgoingMail(mailer, deliver(event), streams), shop)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_the_schedule_tells_of_the_day_that_has_ended_where_the_business_is(
    shop: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At seven there, or at seven of one zone; a zone that is none stops the digest of its business only."""
    async with shop.engine.begin() as connection:
        for id, zone in ((2, "America/Los_Angeles"), (4, "Asia/Kathmandu"), (5, "Mars/Olympus")):
            values = {"name": f"shop {id}", "currency": "EUR", "created_at": at(0), "time_zone": zone}
            if id == 2:
                await connection.execute(update(businesses).where(businesses.c.id == 2).values(time_zone=zone))
            else:
                await connection.execute(insert(businesses).values(id=id, **values))

    async def told(hour: int, minute: int = 0, second: int = 0) -> list[tuple[int | None, int]]:
        slot = Slot("email.daily_digest", datetime(2026, 10, 26, hour, minute, second, tzinfo=UTC), timedelta(0))
        return [(event.business_id, event.day.day) for event in await daily_digest(slot, shop)]

    monkeypatch.setenv("EMAIL_DIGEST_TO", ADA)
    assert await told(6) == [(1, 25)]  # of 25 October, which had 25 hours
    assert await told(14) == [(2, 25)]
    assert await told(1, 15) == [(4, 25)]  # 07:00 in Kathmandu
    assert await told(7) == await told(0) == []
    assert await told(3, 0, 7) == [(1, 25), (2, 24), (4, 25)]  # by hand: of the day that has ended
    monkeypatch.setenv("EMAIL_DIGEST_TZ", "Europe/Berlin")
    assert await told(6) == [(1, 25), (2, 24), (4, 25)]
    monkeypatch.setenv("EMAIL_DIGEST_TO", f"2={ADA}")
    assert await told(6) == [(2, 24)]


def test_what_the_settings_add_to_the_processor() -> None:
    """The one that is imported stays as it is."""
    plain = apply_settings(email, EmailSettings())
    assert (plain.schedules, plain.limited) == ({}, False)
    made = apply_settings(email, EmailSettings(email_rate=5, email_digest_to=(ADA,), email_digest_tz="Europe/Berlin"))
    assert made.schedules["email.daily_digest"].timing.tz == "Europe/Berlin"
    local = apply_settings(email, EmailSettings(email_digest_to=(ADA,))).schedules["email.daily_digest"]
    assert (local.timing.text, local.misfire) == ("*/15 * * * *", "all")
    limits = {subscription.limit for subscription in made.subscriptions.values()}
    assert [(limit.rate, limit.name) for limit in limits if limit] == [(5, "mails")]
    assert len(limits) == 1
    assert (email.schedules, email.limited) == ({}, False)


@pytest.mark.parametrize("sold", [0, 1])
async def test_a_day_without_anything_is_told_too(mailer: Mailer, sold: int) -> None:
    from processors.email.digest import Sold
    from processors.email.rendering import render

    nothing = Sold(sold, sold, Decimal(sold))
    digest = Digest("Shop", "EUR", SUNDAY, nothing, Sold(0, 0, Decimal(0)), (), (), 0, 0, 0, 0, 0, ())
    text = render("daily_digest", link="https://app.example.com/businesses/1", **digest_text(digest)).text
    assert ("Nothing was sold." if not sold else "1 piece in 1 sale.") in text
    for absent in ("threshold", "Files", "failed", "before."):
        assert absent not in text.replace("how the day before was.", "")
