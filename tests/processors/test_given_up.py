"""A report, an export or an import whose process is killed at each delivery: the requester gets a mail that says so.

Real processes, Redis, SQL, storage and SMTP. Nothing of it waits for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Table, select

from examples.fakes.mail_server import MailServer
from processors.file.uploading import store_upload
from processors.shared.database import Database
from processors.shared.database.tables import exports, imports, reports
from processors.shared.storage import Storages
from schemas import InventoryExportRequested, ReportRequested
from streams import Event, Streams
from tests.processors.report.conftest import (
    ADA,
    SHOP,
    business,
    database_url,
    environment,
    make_settings,
    postgres,
    postgres_url,
    shop,
    storages,
    streams,
    wanted,
)
from tests.support.child import Child, Spawn
from tests.support.waiting import wait_until

__all__ = [
    "business", "database_url", "environment", "make_settings", "postgres", "postgres_url", "shop", "storages",
    "streams",
]  # fmt: skip

pytestmark = pytest.mark.newest_redis

ROOT = str(Path(__file__).parents[2])
MOST = 14  # processes that may die: an import is begun ten times


async def report_request(_: Storages) -> ReportRequested:
    """For a PDF."""
    return wanted("inventory-summary", "pdf")


async def export_request(_: Storages) -> InventoryExportRequested:
    """For a workbook."""
    return InventoryExportRequested(business_id=SHOP, format="xlsx", user_email=ADA)


async def upload(storages: Storages) -> Event:
    """A file that is in order."""

    async def blocks() -> Any:
        yield b"sku,name,quantity\nA-1,Saw,3\n"

    return await store_upload(blocks(), SHOP, storages, user_email=ADA)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("processor", "request_of", "table", "subject", "words"),
    [
        pytest.param(
            "report", report_request, reports, "Your report could not be made", "each of 2 processes ended",
            marks=pytest.mark.timeout(60),
        ),
        pytest.param(
            "file", export_request, exports, "Your export could not be made", "each of 5 processes",
            marks=[pytest.mark.timeout(120), pytest.mark.slow],
        ),
        pytest.param(
            "file", upload, imports, "Not imported: ", "was begun 10 times",
            marks=[pytest.mark.timeout(180), pytest.mark.slow],
        ),
    ],
)  # fmt: skip
async def test_whoever_asked_hears_of_processes_that_are_killed(
    processor: str,
    request_of: Callable[[Storages], Any],
    table: Table,
    subject: str,
    words: str,
    shop: Database,
    storages: Storages,
    streams: Streams,
    spawn: Spawn,
    environment: Mapping[str, str],
    tmp_path: Path,
) -> None:
    """The row says failed and why, the dead letter is there, and one mail goes out."""
    with MailServer(tmp_path / "mails") as sink:
        env = {
            **environment, "LOG_FORMAT": "json", "OTEL_SDK_DISABLED": "true", "STREAMS_LEASE": "0.6",
            "PYTHONPATH": ROOT, "STREAMS_ACCEPT_RISK": "no-aof", "STREAMS_DELIVERIES": "2", "POLARS_MAX_THREADS": "1",
            "SMTP_URL": f"smtp://127.0.0.1:{sink.port}", "EMAIL_FROM": "no-reply@bord.example",
        }  # fmt: skip
        spawn("processors.email", env=env, name="email")
        await streams.publish(await request_of(storages))
        dead = 0
        child: Child | None = None

        def answered() -> bool:
            nonlocal child, dead
            if child is not None and not child.running:
                assert child.returncode == -9, child.output()
                child, dead = None, dead + 1
            if child is None and dead < MOST:
                child = spawn("tests.support.programs.dying_writer", processor, env=env, name=f"life-{dead}")
            return bool(sink.mails())

        await wait_until(answered, 150, lambda: child.output() if child else "no process")
        assert child is not None
        child.terminate()
        assert child.wait() == 0, child.output()
        (mail,) = sink.mails()
        body = mail.get_body(("plain",))
        assert body is not None
        assert str(mail["Subject"]).startswith(subject)
        assert mail["To"] == ADA
        assert words in " ".join(body.get_content().split())
        async with shop.engine.connect() as connection:
            (row,) = (await connection.execute(select(table))).all()
        assert row.status == "failed"
        assert words in row.error
        assert len([letter async for letter in streams.dead_letters(processor).ls()]) == 1
