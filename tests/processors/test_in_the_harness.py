"""The processors of this repository in the harness: a whole story of the business as a unit test, without a Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import insert

from examples.fakes.mail_server import MailServer
from processors.email import email
from processors.email.mailer import Mailer, open_mailer
from processors.email.settings import EmailSettings
from processors.file import file, store_upload
from processors.inventory import inventory
from processors.report import report
from processors.shared.database import Database, open_database
from processors.shared.database.migration import upgrade
from processors.shared.database.tables import businesses
from processors.shared.storage import Storages, StorageSettings, open_storages
from schemas import (
    InventoryExported,
    InventoryExportRequested,
    InventoryImported,
    PasswordResetRequested,
    ReportGenerated,
    ReportRequested,
    StockBelowThreshold,
    StockCheckDue,
    UserRegistered,
)
from streams.testing import Harness
from tests.processors.file.conservation import assert_conserved
from tests.processors.inventory.conftest import SHOP, levels

ADA = "ada@example.com"
NOW = datetime.now(UTC)


@pytest.fixture
async def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    """A database with business 1 and a product that has been sold. No row of an import is unaccounted for."""
    monkeypatch.setenv("STREAMS_HOME", str(tmp_path / "home"))
    database = Database(f"sqlite:///{tmp_path}/business.db")
    await upgrade(database.engine)
    async with database.engine.begin() as connection:
        await connection.execute(insert(businesses).values(id=SHOP, name="Shop", currency="EUR", created_at=NOW))
    yield database
    await assert_conserved(database, Storages(StorageSettings.load()))
    await database.aclose()


async def test_a_file_becomes_stock_an_alert_an_export_and_a_report(
    shop: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMS_HOME", str(tmp_path / "home"))
    storages = Storages(StorageSettings.load())
    with MailServer(tmp_path / "mails") as sink:
        settings = EmailSettings(
            smtp_url=SecretStr(f"smtp://127.0.0.1:{sink.port}"), email_ambiguous="hold", email_stock_alerts_to=(ADA,)
        )

        @asynccontextmanager
        async def mailer() -> AsyncIterator[Mailer]:
            mailer = Mailer(settings)
            try:
                yield mailer
            finally:
                await mailer.close()

        overrides = {open_mailer: mailer, open_database: lambda: shop, open_storages: lambda: storages}
        async with Harness(email, inventory, file, report, overrides=overrides) as streams:
            await streams.publish(UserRegistered(user_id=1, email=ADA, name="Ada"))
            expires = datetime.now(UTC) + timedelta(hours=1)
            reset = PasswordResetRequested(user_id=1, email=ADA, reset_id="reset-12345", expires_at=expires)
            await streams.publish(reset)

            async def blocks() -> AsyncIterator[bytes]:
                yield b"sku,quantity,name,price,min. stock\nOAK-1,3,Oak,12.50,10\nELM-1,9,Elm,8,1\n"

            upload = await store_upload(blocks(), SHOP, storages, name="stock.csv", user_email=ADA)
            receipt = await streams.publish(upload, key=str(SHOP))
            await streams.run()
            (imported,) = streams.published(InventoryImported)
            assert (imported.written, imported.refused) == (2, 0)
            assert await levels(shop) == {"ELM-1": 9, "OAK-1": 3}
            groups = {group.group: group for group in (await streams.event(receipt.id)).groups}
            progress = groups["file"].progress
            assert progress is not None
            assert progress.done == progress.total
            assert StockCheckDue(business_id=SHOP) in streams.published(StockCheckDue)
            assert [low.sku for low in streams.published(StockBelowThreshold)] == ["OAK-1"]

            await streams.publish(InventoryExportRequested(business_id=SHOP, format="csv", user_email=ADA))
            await streams.publish(
                ReportRequested(business_id=SHOP, report_type="inventory-summary", format="csv", user_email=ADA)
            )
            await streams.run()
            (exported,) = streams.published(InventoryExported)
            assert exported.rows == 2
            (made,) = streams.published(ReportGenerated)
            assert made.report_type == "inventory-summary"

            assert await streams.advance(hours=1) > 0  # the checks of every quarter of an hour
            assert [low.sku for low in streams.published(StockBelowThreshold)] == ["OAK-1"]
            for processor in (email, inventory, file, report):
                assert list(streams.dead_letters(processor.name)) == []
            assert not list((await streams.accounts()).gaps())
        subjects = sorted(str(mail["Subject"]) for mail in sink.mails())
    assert len(subjects) == 6
