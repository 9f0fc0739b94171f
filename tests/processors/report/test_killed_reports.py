"""Reports whose processes are killed, as real processes; and the mail that follows, in the same trace."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from csv import reader
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import select, text

from examples.fakes.mail_server import MailServer
from observability.tracing import TracingMiddleware
from processors.email import email
from processors.report import report
from processors.report.__main__ import main
from processors.shared.database import Database
from processors.shared.database.tables import reports
from processors.shared.storage import Storages
from schemas import ReportGenerated
from streams import Streams
from tests.processors.report.conftest import published, wanted
from tests.streams.conftest import StartConsumer
from tests.support.child import Spawn
from tests.support.waiting import wait_until

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
        pytest.param("sqlite", 2, marks=pytest.mark.timeout(120)),
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
    stopped_at = []
    for number in range(kills):
        before = set(_places(environment))
        child = spawn("processors.report", env=env, name=f"killed-{number}")

        def works(before: set[str] = before) -> bool:
            return bool(set(_places(environment)) - before)  # those before have left theirs

        await wait_until(works, 60, child.output)
        # Not a wait for anything: how far it gets is to differ. The first one has just begun.
        await asyncio.sleep(random.choice([0, 0.1, 0.2, 0.4]) if number else 0)
        child.kill()
        stopped_at.append(await _status(shop))
        assert not [found async for found in storages.reports.ls()] or await _is_whole(storages)
        if await published(streams, ReportGenerated):
            break  # it was faster
    successor = spawn("processors.report", env=env, name="successor")

    async def answered() -> list[ReportGenerated]:
        return await published(streams, ReportGenerated)

    (answer,) = await wait_until(answered, 60, successor.output)
    await wait_until(lambda: "consumer.started" in successor.stderr(), 60, successor.output)
    successor.terminate()
    assert successor.wait() == 0
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
    assert stopped_at[0] == "running"
    print(f"{len(stopped_at)} kills, {stopped_at.count('done')} of them after it was stored")


def _moment(database: Database, year: int, month: int) -> object:
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
    return sum(int(row[at]) for row in reader(lines[1:]))


async def _is_whole(storages: Storages) -> bool:
    return (await _text(storages)).endswith("\r\n") and await _sold(storages) > SALES * 0.9


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_the_mail_follows_in_the_same_trace(
    shop: Database, streams: Streams, start: StartConsumer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request in, a mail with the link out; the spans of both processors are below the request's."""
    spans = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    middleware = (TracingMiddleware(provider),)
    with MailServer(tmp_path / "mails") as sink:
        monkeypatch.setenv("SMTP_URL", f"smtp://127.0.0.1:{sink.port}")
        monkeypatch.setenv("EMAIL_FROM", "no-reply@bord.example")
        await start(report, middleware=middleware)
        await start(email, middleware=middleware)
        async with Streams(settings=streams.settings, middleware=middleware) as publisher:
            receipt = await publisher.publish(wanted("stock-forecast", "pdf", days_ahead=14))
        await wait_until(sink.mails, 25, lambda: repr(sink.events()))
        (mail,) = sink.mails()
    (generated,) = await published(streams, ReportGenerated)
    body = mail.get_body(("plain",))
    assert body is not None
    assert mail["To"] == generated.user_email
    assert f"{generated.title} can be fetched now." in " ".join(body.get_content().split())
    assert f"/files/reports/{generated.file}?name=" in body.get_content()
    assert b"signature" not in b"".join(
        fields[b"data"] for _, fields in await streams.redis.xrange(streams.keys.stream("reports"))
    )
    requested, answer = [fields for _, fields in await streams.redis.xrange(streams.keys.stream("reports"))]
    assert (requested[b"id"].decode(), answer[b"causationid"]) == (receipt.id, requested[b"id"])

    def handled() -> set[str]:
        return {
            str((span.attributes or {}).get("messaging.consumer.group.name")) for span in spans.get_finished_spans()
        }

    await wait_until(lambda: {"report", "email"} <= handled(), 20)
    trace = requested[b"traceparent"].split(b"-")[1].decode()
    assert {format(span.context.trace_id, "032x") for span in spans.get_finished_spans() if span.context} == {trace}


@pytest.mark.parametrize(
    ("variables", "arguments", "told"),
    [
        ({"REPORT_MONTHLY_TO": "nobody"}, [], "error: REPORT_MONTHLY_TO: An email address must have an @-sign."),
        ({}, ["ask", "stock-forecast", "--business", "1", "--email", "ada"], "error: ReportRequested: user_email: "),
        (
            {},
            ["ask", "stock-forecast", "--business", "1", "--email", "a@b.cd", "--days", "1"],
            "error: ReportFilters: ",
        ),
        (
            {"DATABASE_URL": "mysql://x:hunter2@y/z"},
            [],
            "error: the database URL (DATABASE_URL, unless it was given) must begin with postgresql:// or sqlite:///",
        ),
    ],
)
def test_wrong_usage_is_one_line(
    variables: Mapping[str, str], arguments: list[str], told: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Which names what is wrong, and shows no secret."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.argv", ["report", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert (ended.value.code, said.count("\n")) == (2, 1)
    assert said.startswith(told)
    assert "hunter2" not in said
