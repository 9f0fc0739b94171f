"""One stock check that finds hundreds of products below their thresholds is one mail. Processes, SQL, SMTP are real."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from examples.fakes.mail_server import MailServer
from processors.shared.database import Database
from processors.shared.database.tables import businesses, products, stock_levels
from schemas import StockCheckDue
from streams import Streams
from tests.processors.report.conftest import (
    business,
    database_url,
    environment,
    make_settings,
    postgres,
    postgres_url,
    streams,
)
from tests.support.child import Spawn
from tests.support.waiting import wait_until

__all__ = ["business", "database_url", "environment", "make_settings", "postgres", "postgres_url", "streams"]

pytestmark = pytest.mark.newest_redis

ROOT = str(Path(__file__).parents[2])
MANY = 300
NOW = datetime(2026, 11, 10, tzinfo=UTC)


@pytest.mark.timeout(90)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_300_alerts_of_one_check_are_one_mail(
    business: Database, streams: Streams, spawn: Spawn, environment: Mapping[str, str], tmp_path: Path
) -> None:
    """With the names of shop and products, those that lack most first; a second check adds none."""
    async with business.engine.begin() as connection:
        await connection.execute(
            insert(businesses), [{"id": 7, "name": "Müller & Söhne", "currency": "EUR", "created_at": NOW}]
        )
        await connection.execute(
            insert(products),
            [
                {"id": n, "business_id": 7, "sku": f"S-{n:03}", "name": f"Säge No. {n}", "price": Decimal(1),
                 "threshold": 1000, "created_at": NOW, "updated_at": NOW}
                for n in range(1, MANY + 1)
            ],
        )  # fmt: skip
        await connection.execute(
            insert(stock_levels),
            [{"product_id": n, "quantity": MANY - n, "updated_at": NOW} for n in range(1, MANY + 1)],
        )
    with MailServer(tmp_path / "mails") as sink:
        env = {
            **environment, "LOG_FORMAT": "json", "OTEL_SDK_DISABLED": "true", "PYTHONPATH": ROOT,
            "STREAMS_ACCEPT_RISK": "no-aof", "SMTP_URL": f"smtp://127.0.0.1:{sink.port}",
            "EMAIL_FROM": "no-reply@bord.example", "EMAIL_STOCK_ALERTS_TO": "stock@example.com",
            "EMAIL_STOCK_GATHER": "3",
        }  # fmt: skip
        children = [spawn(f"processors.{name}", env=env, name=name) for name in ("inventory", "email")]
        await streams.publish(StockCheckDue(business_id=7))
        await wait_until(sink.mails, 60, lambda: "\n".join(child.output() for child in children))
        await streams.publish(StockCheckDue(business_id=7))

        async def all_done() -> bool:
            status = await streams.snapshot()
            groups = [group for group in status.groups if group.name in ("inventory", "email")]
            return len(groups) == 2 and all(not (group.lag or group.pending or group.waiting) for group in groups)

        await wait_until(all_done, 30, lambda: "\n".join(child.output() for child in children))
        found: Any = await streams.redis.xrange(streams.keys.stream("inventory", "high"))
        assert [fields[b"type"] for _, fields in found] == [b"StockBelowThreshold"] * MANY
        for child in children:
            child.terminate()
            assert child.wait() == 0, child.output()
        (mail,) = sink.mails()
    assert mail["Subject"] == "Low stock: 300 items of Müller & Söhne"
    body = mail.get_body(("plain",))
    assert body is not None
    text = " ".join(body.get_content().split())
    assert text.index("Säge No. 300 ") < text.index("Säge No. 299 ")
    assert "and 250 more" in text
