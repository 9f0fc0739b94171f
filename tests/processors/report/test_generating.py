"""From a request to a file behind a link, through a running processor: once, whole, or refused with its reason."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError
from sqlalchemy import select, text, update
from sqlalchemy.pool import AsyncAdaptedQueuePool

from processors.report import report
from processors.report.cleanup import clean_up
from processors.report.extract import extract
from processors.report.generating import Generated, outcome_of
from processors.report.request import ReportRequest
from processors.report.schedules import DAILY_HOUR, MONTHLY_HOUR, after_month, each_morning
from processors.report.settings import ReportSettings
from processors.shared.database import Database
from processors.shared.database.tables import reports
from processors.shared.storage import Storages
from processors.shared.storage.download import download_app
from processors.shared.storage.file_writer import FileWriter
from schemas import ReportFailed, ReportGenerated, ReportRequested, ReportsCleanupDue
from schemas.reports import ReportFilters
from streams import Streams, Unavailable
from tests.processors.links import link_to
from tests.processors.report.conftest import ADA, EMPTY, NOW, OTHER, SHOP, published, read, wanted
from tests.streams.conftest import StartConsumer
from tests.support.waiting import wait_until

Ask = Callable[..., Awaitable[Any]]

OCTOBER = {"first_day": date(2026, 10, 1), "last_day": date(2026, 10, 31)}
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

pytestmark = pytest.mark.newest_redis


async def fetch(storages: Storages, url: Any) -> httpx.Response:
    """What somebody with the link gets."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=download_app(storages))) as client:
        return await client.get(str(url))


async def rows(database: Database) -> list[Any]:
    """The reports' rows, oldest first."""
    async with database.engine.connect() as connection:
        return list((await connection.execute(select(reports).order_by(reports.c.created_at))).all())


async def test_every_format_behind_its_link(ask: Ask, shop: Database, storages: Storages, tmp_path: Path) -> None:
    """With a name for people, a row, and nothing left in the temporary directory."""
    began = {"csv": b"\xef\xbb\xbfsku", "xlsx": b"PK", "html": b"<!doctype html>", "pdf": b"%PDF-"}
    for format, start in began.items():
        answer = await ask(wanted("sales-analysis", format, **OCTOBER), ReportGenerated)
        assert (answer.title, answer.user_email, answer.format) == ("Sales analysis, October 2026", ADA, format)
        assert timedelta(days=6) < answer.expires_at - datetime.now(UTC) < timedelta(days=8)
        fetched = await fetch(storages, await link_to(storages, answer))
        assert fetched.content.startswith(start)
        name = f'filename="sales-analysis-shop-sohne-2026-10-01-to-2026-10-31.{format}"'
        assert name in fetched.headers["content-disposition"]
        row = (await rows(shop))[-1]
        assert (row.id, row.status, row.bytes) == (answer.report_id, "done", len(fetched.content))
        assert row.created_at <= row.finished_at < row.expires_at
    assert list((tmp_path / "temporary").iterdir()) == []


@ON_SQLITE
async def test_the_same_event_again_is_the_same_report(
    ask: Ask, shop: Database, storages: Storages, streams: Streams, start: StartConsumer
) -> None:
    """Replayed by hand: nothing is made, and there is another link to the same file."""
    first = await ask(wanted("inventory-summary", "csv"), ReportGenerated)
    (found,) = [found async for found in storages.reports.ls()]
    await streams.replay("reports", group="report", types=["ReportRequested"])

    async def again() -> list[ReportGenerated]:
        return (await published(streams, ReportGenerated))[1:]

    (second,) = await wait_until(again, 20)
    assert second.report_id == first.report_id
    assert [found async for found in storages.reports.ls()] == [found]
    assert (await fetch(storages, await link_to(storages, second))).content == (
        await fetch(storages, await link_to(storages, first))
    ).content
    assert len(await rows(shop)) == 1


@ON_SQLITE
async def test_what_has_become_of_a_request(
    streams: Streams, start: StartConsumer, shop: Database, storages: Storages
) -> None:
    """Nothing is known before it has ended; then the report, or why there is none."""
    good, bad = wanted("inventory-summary", "csv"), wanted("inventory-summary", categories=["Forks"])
    made, refused = [await streams.publish(event) for event in (good, bad)]
    assert await outcome_of(good, made.id, shop, storages) is None
    await start(report)
    found = await wait_until(lambda: outcome_of(good, made.id, shop, storages), 20)
    (answer,) = await wait_until(lambda: published(streams, ReportGenerated), 20)
    assert isinstance(found, Generated)
    assert (found.id, found.file, found.file_name) == (answer.report_id, answer.file, answer.file_name)
    reason = await wait_until(lambda: outcome_of(bad, refused.id, shop, storages), 20)
    assert isinstance(reason, str)
    assert "has no products of Forks" in reason
    for status, known in (("failed", "it failed"), ("running", None), ("removed", None)):
        async with shop.engine.begin() as connection:
            await connection.execute(update(reports).values(status=status, error=None))
        assert await outcome_of(good, made.id, shop, storages) == known


@ON_SQLITE
async def test_a_try_after_midnight_makes_the_report_of_the_first_one(
    ask: Ask, shop: Database, storages: Storages, streams: Streams
) -> None:
    """Whose process was killed before it was done: the days are those of then."""
    first = await ask(wanted("inventory-summary"), ReportGenerated)
    then = datetime.now(UTC) - timedelta(days=3)
    async with shop.engine.begin() as connection:
        await connection.execute(update(reports).values(status="running", created_at=then, file=None))
    await streams.replay("reports", group="report", types=["ReportRequested"])

    async def again() -> list[ReportGenerated]:
        return (await published(streams, ReportGenerated))[1:]

    (second,) = await wait_until(again, 20)
    assert (second.report_id, second.title) == (first.report_id, f"Inventory summary, {then.day} {then:%B %Y}")
    assert (
        f"Made on {then.day} {then:%B %Y, %H:%M} UTC." in (await fetch(storages, await link_to(storages, second))).text
    )
    assert len([found async for found in storages.reports.ls()]) == 1


@ON_SQLITE
async def test_what_cannot_be_made_fails_with_its_reason(ask: Ask, shop: Database, storages: Storages) -> None:
    """Whoever asked is told; nothing is stored, and the processor goes on."""
    cases = [
        (wanted("sales-analysis", first_day=date(2026, 10, 2), last_day=date(2026, 10, 1)), "2026-10-02, is after"),
        (wanted("sales-analysis", first_day=date(2020, 10, 2), last_day=date(2020, 10, 3)), "sold nothing in 2 to 3"),
        (wanted("inventory-summary", categories=["Forks"]), "has no products of Forks"),
        (wanted("stock-forecast", "pdf", business_id=EMPTY), "Empty sold nothing in the last 12 weeks"),
        (wanted("inventory-summary", business_id=99), "there is no business 99"),
    ]
    for event, problem in cases:
        failed = await ask(event, ReportFailed)
        assert problem in failed.problem
        assert (failed.business_id, failed.report_type, failed.format) == (
            event.business_id, event.report_type, event.format,
        )  # fmt: skip
    assert [row.status for row in await rows(shop)] == ["failed"] * 4
    assert [found async for found in storages.reports.ls()] == []
    await ask(wanted("inventory-summary"), ReportGenerated)


@ON_SQLITE
async def test_what_there_is_not_is_no_event(streams: Streams, start: StartConsumer, shop: Database) -> None:
    """An error where it is made, a dead letter where another program has written it."""
    for wrong in ({"report_type": "horoscope"}, {"format": "docx"}, {"filters": {"days_ahead": 0}}):
        given = {"business_id": SHOP, "report_type": "sales-analysis", "user_email": ADA} | wrong
        with pytest.raises(ValidationError):
            ReportRequested.model_validate(given)
    await start(report)
    data = '{"business_id": 1, "report_type": "horoscope", "user_email": "ada@example.com"}'
    await streams.redis.xadd(streams.keys.stream("reports"), {"type": "ReportRequested", "data": data})

    async def dead() -> list[Any]:
        return [letter async for letter in streams.dead_letters("report").ls()]

    (letter,) = await wait_until(dead, 20)
    assert letter.reason == "invalid"
    assert "report_type" in letter.error


@ON_SQLITE
async def test_a_full_disk_leaves_nothing_and_the_next_try_makes_it(
    ask: Ask, shop: Database, storages: Storages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No half file, no row that says done."""
    seen: list[tuple[list[str], list[str]]] = []
    original = FileWriter.write

    async def full(self: FileWriter, data: bytes) -> None:
        await original(self, data[: len(data) // 2])
        if len(seen) < 2:
            files = [found.key async for found in storages.reports.ls()]
            seen.append((files, [row.status for row in await rows(shop)]))
            raise OSError(28, "No space left on device")
        await original(self, data[len(data) // 2 :])

    monkeypatch.setattr(FileWriter, "write", full)
    answer = await ask(wanted("inventory-summary"), ReportGenerated)
    assert seen == [([], ["running"])] * 2
    assert (await fetch(storages, await link_to(storages, answer))).text.rstrip().endswith("</html>")
    assert storages.reports.leftovers(datetime.now(UTC) + timedelta(days=1)) == []
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_database_that_goes_away_is_waited_for(shop: Database, tmp_path: Path) -> None:
    """It is said as what the breaker knows, and not as a report that cannot be made."""

    async def told(days: int, of: int) -> None:
        if days:
            async with shop.engine.begin() as other:
                await other.execute(
                    text(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
                        "AND datname = current_database() AND state = 'idle in transaction'"
                    )
                )

    (tmp_path / "x").mkdir()
    with pytest.raises(Unavailable, match="database"):
        await extract(
            shop.engine, SHOP, ReportRequest.of(wanted("sales-analysis", **OCTOBER), NOW), tmp_path / "x", told
        )


@ON_SQLITE
async def test_reports_are_removed_by_age_and_number(
    ask: Ask, shop: Database, storages: Storages, streams: Streams, tmp_path: Path
) -> None:
    """With their asker's address; drafts and directories of dead processes go too, the newest reports stay."""
    for _ in range(4):
        await ask(wanted("inventory-summary", "csv"), ReportGenerated)
    made = await rows(shop)
    old = datetime.now(UTC) - timedelta(days=91)
    async with shop.engine.begin() as connection:
        await connection.execute(update(reports).where(reports.c.id == made[0].id).values(created_at=old))
    for name, age in (("planning-bord-report-dead", 2), ("planning-bord-report-alive", 0), ("report-others", 9)):
        (tmp_path / "temporary" / name / "sales").mkdir(parents=True)
        os.utime(tmp_path / "temporary" / name, times=(time.time() - age * 86_400,) * 2)
    await clean_up(shop, storages.reports, ReportSettings())
    assert {path.name for path in (tmp_path / "temporary").iterdir()} == {"planning-bord-report-alive", "report-others"}
    assert {found.key async for found in storages.reports.ls()} == {row.file for row in made[1:]}
    await clean_up(shop, storages.reports, ReportSettings(report_most=1))
    assert [found.key async for found in storages.reports.ls()] == [made[3].file]
    left = {row.id: row for row in await rows(shop)}
    assert [(left[row.id].status, left[row.id].user_email) for row in made[:3]] == [("removed", None)] * 3
    assert left[made[3].id].user_email == ADA
    await streams.publish(ReportsCleanupDue(), priority="low")

    async def settled() -> bool:
        (group,) = await streams.redis.xinfo_groups(streams.keys.stream("reports", "low"))
        return not group["pending"] and not group["lag"]

    await wait_until(settled, 20)
    assert [found.key async for found in storages.reports.ls()] == [made[3].file]


async def test_reports_that_nobody_asks_for(shop: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """To those who are named, of the businesses that have sold something; to nobody at first."""
    assert await after_month(NOW, shop, ReportSettings.load()) == []
    assert await each_morning(NOW, shop, ReportSettings.load()) == []
    monkeypatch.setenv("REPORT_MONTHLY_TO", "ada@example.com, bob@example.com")
    monkeypatch.setenv("REPORT_DAILY_TO", "eve@example.com")
    at = datetime(2026, 11, 1, MONTHLY_HOUR, tzinfo=UTC)
    assert await after_month(at + timedelta(hours=1), shop, ReportSettings.load()) == []
    monthly = await after_month(at, shop, ReportSettings.load())
    assert await after_month(NOW, shop, ReportSettings.load()) == monthly  # by hand: no full hour
    assert [(event.business_id, event.user_email) for event in monthly] == [
        (SHOP, ADA), (SHOP, "bob@example.com"), (OTHER, ADA), (OTHER, "bob@example.com"),
    ]  # fmt: skip
    assert [event.filters for event in monthly] == [ReportFilters(**OCTOBER)] * 4
    daily = await each_morning(NOW.replace(hour=DAILY_HOUR, minute=0), shop, ReportSettings.load())
    assert [(event.business_id, event.report_type) for event in daily] == [
        (SHOP, "stock-forecast"), (OTHER, "stock-forecast"),
    ]  # fmt: skip
    assert set(report.schedules) == {"report.reports_cleanup", "report.monthly_reports", "report.daily_forecasts"}


async def test_a_report_that_is_called_off_gives_its_connection_back(shop: Database, tmp_path: Path) -> None:
    """In the middle of reading; it leaves no cursor to the garbage collector."""
    begun = asyncio.Event()

    async def told(days: int, of: int) -> None:
        if days:
            begun.set()
            await asyncio.Event().wait()

    (tmp_path / "x").mkdir()
    request = ReportRequest.of(wanted("sales-analysis", **OCTOBER), NOW)
    task = asyncio.create_task(extract(shop.engine, SHOP, request, tmp_path / "x", told))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    pool = shop.engine.pool
    assert isinstance(pool, AsyncAdaptedQueuePool)
    assert pool.checkedout() == 0
    gc.collect()


@ON_SQLITE
async def test_memory_holds_a_week_and_not_the_sales(shop: Database, tmp_path: Path) -> None:
    """What is read comes in small frames, whatever the period is."""
    found, request = await read(shop, wanted("sales-analysis", first_day=date(2025, 7, 1)), tmp_path / "x")
    assert request.sales_read.days > 900
    files = await asyncio.to_thread(lambda: sorted((tmp_path / "x" / "sales").iterdir()))
    assert len(files) == 1
    assert found.sales.collect()["sales"].sum() > 2_500


@ON_SQLITE
async def test_whoever_asked_hears_of_what_no_try_has_made(
    ask: Ask, shop: Database, storages: Storages, streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of our own, at the last try: an event with a mail, a row with the reason, a dead letter; no data."""
    tried: list[str] = []

    async def broken(self: FileWriter, data: bytes) -> None:
        tried.append("a secret of the shop")
        raise RuntimeError(tried[-1])

    with monkeypatch.context() as patch:
        patch.setattr(FileWriter, "write", broken)
        failed = await ask(wanted("inventory-summary", "csv"), ReportFailed)
    assert len(tried) == 3
    assert failed.problem.startswith(
        "something went wrong at our side (RuntimeError), and was tried 3 times; the operator"
    )
    assert (failed.user_email, "secret" in failed.problem) == (ADA, False)
    (row,) = await rows(shop)
    assert (row.status, row.error) == ("failed", failed.problem)

    async def dead() -> list[Any]:
        return [letter async for letter in streams.dead_letters("report").ls()]

    (letter,) = await wait_until(dead, 20)
    assert letter.message.id in failed.problem
    assert len(await published(streams, ReportFailed)) == 1
    await streams.dead_letters("report").replay([letter.id])  # when it has been put right

    async def made() -> list[ReportGenerated]:
        return await published(streams, ReportGenerated)

    (again,) = await wait_until(made, 20)
    assert again.report_id == failed.report_id
    (row,) = await rows(shop)
    assert (row.status, row.error) == ("done", None)
