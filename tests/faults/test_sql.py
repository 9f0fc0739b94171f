"""SIGKILL between every two steps of a transaction: effects, follow-ups and events are there once, or not at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from streams import Streams
from streams.sql.tables import outbox
from tests.faults.conftest import ROOT
from tests.sql.conftest import database_url, engine, postgres, postgres_url
from tests.sql.ledger import entries, open_ledger
from tests.support.child import Child, Spawn
from tests.support.programs.sql_killed import Ordered
from tests.support.waiting import wait_until

__all__ = ["database_url", "engine", "postgres", "postgres_url"]

pytestmark = [pytest.mark.newest_redis, pytest.mark.timeout(120)]

KILLS = 200


@pytest.fixture
def killed_log(tmp_path: Path) -> Path:
    """One line per death."""
    return tmp_path / "killed.jsonl"


@pytest.fixture
def kill_env(killed_log: Path, database_url: str) -> Mapping[str, str]:
    """What the processes need to know; a lease that they do not wait for long, and no limit that the kills reach."""
    return {
        "KILLED_LOG": str(killed_log), "DATABASE_URL": database_url, "PYTHONPATH": str(ROOT), "STREAMS_LEASE": "0.5",
        "STREAMS_PREFETCH": "1", "STREAMS_DELIVERIES": "100", "STREAMS_EVENTS": "tests.support.programs.sql_killed",
    }  # fmt: skip


def deaths(log: Path) -> list[dict[str, Any]]:
    """How the children ended."""
    return [orjson.loads(line) for line in log.read_bytes().splitlines()] if log.exists() else []


async def settled(streams: Streams) -> bool:
    """Whether the group has nothing left."""
    for key in (*streams.keys.by_priority("orders"), streams.keys.inbox("books")):
        if await streams.redis.exists(key):
            for info in await streams.redis.xinfo_groups(key):
                if info["pending"] or info["lag"]:
                    return False
    return not await streams.redis.zcard(streams.keys.due())


async def test_200_kills_between_effect_and_ack_give_200_effects(
    streams: Streams, engine: AsyncEngine, spawn: Spawn, kill_env: Mapping[str, str], killed_log: Path
) -> None:
    """Every event's process dies after the commit, before the ack. Effects and follow-ups are there once each."""
    await open_ledger(engine)
    children: list[Child] = [spawn("tests.support.programs.sql_killed", "consumer", env=kill_env) for _ in range(4)]
    await streams.publish_many([Ordered(n=n) for n in range(KILLS)])

    def killed() -> int:
        return [death["signal"] for death in deaths(killed_log)].count(9)

    await wait_until(lambda: killed() >= KILLS, timeout=90, message=lambda: f"{killed()} kills")
    await wait_until(lambda: settled(streams), timeout=20, message="all is settled")
    for child in children:
        child.terminate()
        assert child.wait() == 0

    assert killed() == KILLS
    assert await entries(engine) == list(range(KILLS))
    follow_ups = await streams.redis.xrange(streams.keys.stream("bookings"))
    assert sorted(orjson.loads(fields[b"data"])["n"] for _, fields in follow_ups) == list(range(KILLS))
    assert await streams.redis.xlen(streams.keys.dead("books")) == 0


async def test_4_kill_points_of_the_outbox_50_times_each(
    streams: Streams, engine: AsyncEngine, spawn: Spawn, kill_env: Mapping[str, str], killed_log: Path
) -> None:
    """Writers die before and after their commit, relays before and after they mark what they have published:
    what was committed is published once and in order, what was not is not.
    """
    await open_ledger(engine)
    child = spawn("tests.support.programs.sql_killed", "outbox", "50", env=kill_env)
    assert child.wait(timeout=100) == 0, child.output()

    ends = Counter((death["role"], death["signal"]) for death in deaths(killed_log))
    assert ends == {(role, 9): 50 for role in ("before commit", "after commit", "before mark", "after mark")}
    published = await streams.redis.xrange(streams.keys.stream("orders"))
    assert [orjson.loads(fields[b"data"])["n"] for _, fields in published] == list(range(50))
    assert await entries(engine) == list(range(50))
    async with engine.connect() as connection:
        assert await connection.scalar(select(func.count()).select_from(outbox)) == 0
