"""Reports whose processes are killed, as real processes; and the mail that follows, in the same trace."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from datetime import date
from pathlib import Path

import pytest
from sqlalchemy import select, text

from processors.database import Database
from processors.database.tables import reports
from processors.demo.sink import Sink
from processors.storage import Storages
from schemas import ReportGenerated
from streams import Streams
from tests.child import Child, Spawn
from tests.processors.report.conftest import SHOP, published, wanted
from tests.waiting import wait_until

ROOT = str(Path(__file__).parents[3])
SALES = 400_000

pytestmark = pytest.mark.newest_redis

# Enough for a report to take its time.
FILL = {
    "sqlite": "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < :count) "
    "INSERT INTO sales (business_id, product_id, quantity, unit_price, sold_at) SELECT 1, n % 40 + 1, n % 5 + 1, "
    "(n % 900) / 100.0 + 1, datetime('2026-01-01', (n * 67) || ' seconds') || '.000000' FROM n",
    "postgresql": "INSERT INTO sales (business_id, product_id, quantity, unit_price, sold_at) SELECT 1, n % 40 + 1, "
    "n % 5 + 1, (n % 900) / 100.0 + 1, TIMESTAMPTZ '2026-01-01 00:00Z' + n * INTERVAL '67 seconds' "
    "FROM generate_series(1, :count) AS n",
}


@pytest.mark.parametrize(
    ("database_url", "kills"),
    [
        pytest.param("sqlite", 3, marks=pytest.mark.timeout(120)),
        pytest.param("sqlite", 20, marks=[pytest.mark.slow, pytest.mark.timeout(400)]),
        pytest.param("postgresql", 20, marks=[pytest.mark.slow, pytest.mark.timeout(400)]),
    ],
    indirect=["database_url"],
)
async def test_a_report_whose_processes_are_killed(
    kills: int, shop: Database, storages: Storages, streams: Streams, spawn: Spawn, environment: Mapping[str, str]
) -> None:
    """Killed again and again while it is made: one report, one answer, the same file; never half of one."""
    async with shop.engine.begin() as connection:
        await connection.execute(text(FILL[connection.dialect.name]), {"count": SALES})
    env = {
        **environment, "LOG_FORMAT": "json", "OTEL_SDK_DISABLED": "true", "STREAMS_LEASE": "0.6", "PYTHONPATH": ROOT,
        "STREAMS_ACCEPT_RISK": "no-aof", "STREAMS_DELIVERIES": "1000", "POLARS_MAX_THREADS": "1",
    }  # fmt: skip
    event = wanted("sales-analysis", "csv", first_day=date(2026, 1, 1), last_day=date(2026, 10, 31))
    await streams.publish(event)
    children: list[Child] = [spawn("processors.report", env=env, name="first")]
    stopped_at = []
    for number in range(kills):
        children.append(spawn("processors.report", env=env, name=f"heir-{number}"))
        before = set(_places(environment))

        async def works(before: set[str] = before) -> bool:
            # A directory that the one before has not left: this one has begun.
            return bool(set(_places(environment)) - before) or bool(await published(streams, ReportGenerated))

        await wait_until(works, 60, children[-2].output)
        # Not a wait for anything: how far it gets is to differ.
        await asyncio.sleep(random.choice([0, 0.05, 0.2, 0.4]))
        children[-2].kill()
        stopped_at.append(await _status(shop))
        assert [found.bytes for found in [found async for found in storages.reports.ls()]] == [] or await _is_whole(
            storages
        )

    async def answered() -> list[ReportGenerated]:
        return await published(streams, ReportGenerated)

    (answer,) = await wait_until(answered, 60, children[-1].output)
    children[-1].terminate()
    assert children[-1].wait() == 0
    async with shop.engine.connect() as connection:
        (row,) = (await connection.execute(select(reports))).all()
        expected = await connection.scalar(
            text("SELECT COUNT(*) FROM sales WHERE business_id = 1 AND sold_at >= :a AND sold_at < :b"),
            {"a": _moment(shop, 2026, 1), "b": _moment(shop, 2026, 11)},
        )
    assert (row.id, row.status) == (answer.report_id, "done")
    (found,) = [found async for found in storages.reports.ls()]
    assert (found.key, found.bytes) == (row.file, row.bytes)
    assert await _sold(storages) == expected > SALES * 0.9
    assert len(await published(streams, ReportGenerated)) == 1
    print(f"{kills} kills, {stopped_at.count('done')} of them after it was stored")


def _moment(database: Database, year: int, month: int) -> object:
    from datetime import UTC, datetime

    day = datetime(year, month, 1, tzinfo=UTC)
    return f"{day:%Y-%m-%d} 00:00:00.000000" if database.engine.dialect.name == "sqlite" else day


def _places(environment: Mapping[str, str]) -> list[str]:
    return [path.name for path in Path(environment["TMPDIR"]).glob("planning-bord-report-*")]


async def _status(database: Database) -> str | None:
    async with database.engine.connect() as connection:
        found: str | None = await connection.scalar(select(reports.c.status))
    return found


async def _text(storages: Storages) -> str:
    (found,) = [found async for found in storages.reports.ls()]
    return b"".join([block async for block in storages.reports.read(found.key)]).decode("utf-8-sig")


async def _sold(storages: Storages) -> int:
    lines = (await _text(storages)).splitlines()
    at = lines[0].split(",").index("sales")
    from csv import reader

    return sum(int(row[at]) for row in reader(lines[1:]))


async def _is_whole(storages: Storages) -> bool:
    return (await _text(storages)).endswith("\r\n") and await _sold(storages) > SALES * 0.9


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_the_mail_follows_in_the_same_trace(
    shop: Database, streams: Streams, spawn: Spawn, environment: Mapping[str, str], tmp_path: Path
) -> None:
    """`python -m processors report email`: a request in, a mail with the link out, all of it below one publish."""
    with Sink(tmp_path / "mails") as sink:
        env = {
            **environment, "SMTP_URL": f"smtp://127.0.0.1:{sink.port}", "EMAIL_FROM": "no-reply@bord.example",
            "PYTHONPATH": ROOT, "STREAMS_ACCEPT_RISK": "no-aof", "LOG_FORMAT": "json",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",  # nobody listens: contexts travel all the same
        }  # fmt: skip
        spawn("processors", "report", "email", env=env)
        asking = spawn(
            "processors.report", "ask", "stock-forecast", "--business", str(SHOP), "--email", "ada@example.com",
            "--format", "pdf", "--days", "14", env=env,
        )  # fmt: skip
        assert asking.wait() == 0, asking.output()
        await wait_until(sink.mails, 40, lambda: repr(sink.events()))
        (mail,) = sink.mails()
        (generated,) = await published(streams, ReportGenerated)
        assert mail["To"] == "ada@example.com"
        body = mail.get_body(("plain",))
        assert body is not None
        words = " ".join(body.get_content().split())
        assert f"{generated.title} can be fetched now." in words
        assert str(generated.url) in words
    entries = [fields for _, fields in await streams.redis.xrange(streams.keys.stream("reports"))]
    requested, answer = entries
    assert requested[b"id"].decode() == asking.stdout().strip()
    assert (requested[b"type"], answer[b"type"]) == (b"ReportRequested", b"ReportGenerated")
    assert answer[b"causationid"] == requested[b"id"]


async def test_wrong_usage_is_one_line(spawn: Spawn, tmp_path: Path) -> None:
    """And names what is wrong."""
    child = spawn("processors.report", env={"PYTHONPATH": ROOT, "REPORT_MONTHLY_TO": "nobody"})
    other = spawn("processors.report", "ask", "horoscope", "--business", "1", "--email", "a@b.cd",
                  env={"PYTHONPATH": ROOT})  # fmt: skip
    third = spawn("processors.report", "ask", "stock-forecast", "--business", "1", "--email", "ada",
                  env={"PYTHONPATH": ROOT})  # fmt: skip
    assert (child.wait(), other.wait(), third.wait()) == (2, 2, 2)
    assert child.stderr().startswith("error: REPORT_MONTHLY_TO: value is not a valid email address")
    assert child.stderr().count("\n") == third.stderr().count("\n") == 1
    assert "invalid choice: 'horoscope'" in other.stderr()
    assert third.stderr().startswith("error: ReportRequested: user_email: value is not a valid email address")
