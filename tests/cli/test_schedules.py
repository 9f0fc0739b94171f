"""schedules: ls, pause, resume, run, forget."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from schemas import EmailRefused
from streams import Consumer, Processor, Settings, Streams
from tests.cli.conftest import Cli, Command
from tests.support.waiting import wait_until

pytestmark = pytest.mark.newest_redis

NAME = "report.morning"


def processor() -> Processor:
    report = Processor("report")

    @report.cron("0 7 * * mon-fri", tz="Europe/Berlin")
    def morning() -> EmailRefused:
        return EmailRefused(template="w", message_id="m", recipients=["x@example.com"], code=550, reply="no")

    @report.every(90, name="bad")
    def bad() -> None:
        raise RuntimeError("no")

    return report


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[None]:
    """A consumer of the report processor."""
    consumer = Consumer(processor(), Streams(settings=settings))
    await consumer.start()
    try:
        async with Streams(settings=settings) as client:
            await wait_until(lambda: client.redis.hexists(client.keys.schedules(), NAME))
            yield
    finally:
        await consumer.stop()


async def test_ls(cli: Cli, client: Streams, settings: Settings) -> None:
    result = await cli("schedules", "ls")
    assert (result.code, result.out) == (0, "")
    assert "no processor with schedules has started" in result.err
    assert (await cli("schedules", "ls", "--json")).json() == []
    async with running(settings):
        bad, morning = (await cli("schedules", "ls", "--json")).json()
        assert bad["timing"] == "every 90 s"
        assert (morning["name"], morning["words"], morning["tz"]) == (
            NAME, "At 07:00 on Monday through Friday", "Europe/Berlin",
        )  # fmt: skip
        assert (morning["last"], morning["missed"], morning["paused"], morning["alive"]) == (None, 0, False, True)
        following = datetime.fromisoformat(morning["next"]).astimezone(ZoneInfo("Europe/Berlin"))
        assert (following.hour, following.minute, following.weekday() < 5) == (7, 0, True)
        assert following > datetime.now(UTC)
        result = await cli("schedules", "ls")
        (line,) = [line for line in result.out.splitlines() if line.startswith(NAME)]
        assert "At 07:00 on Monday through Friday  Europe/Berlin" in line
        assert f"{following:%Y-%m-%d} 07:00:00" in line
        assert "no consumer" not in line
    await client.redis.delete(client.keys.consumers("report"))
    assert "no consumer: report" in (await cli("schedules", "ls")).out


async def test_pause_and_resume(cli: Cli, settings: Settings) -> None:
    async with running(settings):
        assert (await cli("schedules", "pause", NAME)).out == f"paused {NAME}\n"
        assert (await cli("schedules", "pause", NAME)).out == f"{NAME} was paused\n"
        assert "paused" in (await cli("schedules", "ls")).out
        shown = (await cli("schedules", "resume", NAME, "--json")).json()
        assert shown == {"name": NAME, "paused": False, "changed": True}
        assert (await cli("schedules", "resume", NAME)).out == f"{NAME} was not paused\n"


@pytest.mark.timeout(90)  # five processes one after the other
async def test_run(cli: Cli, client: Streams, settings: Settings) -> None:
    async with running(settings):
        result = await cli("schedules", "run", NAME, "--wait", "20")
        assert result.code == 0, result
        id = result.out.split()[-1]
        assert result.out == f"ran {NAME}: published {id}\n"
        assert (await client.event(id)).stream == "emails"
        shown = (await cli("schedules", "run", NAME, "--wait", "20", "--json")).json()
        assert (shown["answered"], shown["failed"], len(shown["ids"])) == (True, False, 1)
        (await cli("schedules", "run", "report.bad", "--wait", "20")).refused(1, "report.bad: its function failed")
    (await cli("schedules", "run", NAME, "--wait", "0.1")).refused(1, "no consumer of its processor answers")


async def test_forget(cli: Cli, settings: Settings) -> None:
    async with running(settings):
        pass
    assert (await cli("schedules", "forget", NAME)).out == f"forgot {NAME}\n"
    assert [state["name"] for state in (await cli("schedules", "ls", "--json")).json()] == ["report.bad"]


@pytest.mark.parametrize("verb", ["pause", "resume", "run", "forget"])
def test_a_schedule_that_is_not_there(command: Command, verb: str) -> None:
    command("schedules", verb, "report.\x1b[2Jx").refused(1, "no schedule report.\\x1b[2Jx", "there are: none yet")


async def test_doctor_says_that_nobody_runs_it(cli: Cli, client: Streams, settings: Settings) -> None:
    async with running(settings):
        findings = (await cli("doctor", "--json")).json()
        assert {found["check"]: found["status"] for found in findings}[f"schedule {NAME}"] == "ok"
    await client.redis.delete(client.keys.consumers("report"))
    result = await cli("doctor", "--json")
    assert result.code == 1
    (found,) = [found for found in result.json() if found["check"] == f"schedule {NAME}"]
    assert found["status"] == "fail"
    assert "At 07:00 on Monday through Friday" in found["text"]
    assert found["remedy"] == f"python -m processors.report, or streams schedules forget {NAME}"
    await client.schedules.pause(NAME)
    findings = (await cli("doctor", "--json")).json()
    assert {found["check"]: found["status"] for found in findings}[f"schedule {NAME}"] == "ok"
