"""Kill points: a process dies at a named point, another takes over: nothing is lost, and effects happen once (C1)."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import orjson
import pytest

from streams import Streams
from streams.sql import create_tables, make_engine
from tests.faults.conftest import ROOT
from tests.sql.ledger import entries, open_ledger
from tests.streams.inspecting.test_reconciliation import make_group
from tests.support.programs.points import AFTERWARDS, POINTS, Wanted
from tests.support.waiting import wait_until


class Lives:
    """The program that forks a child for each life."""

    def __init__(self, env: Mapping[str, str], directory: Path, module: str = "tests.support.programs.points") -> None:
        self._errors = (directory / "points.err").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            env=dict(env), cwd=directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
        )  # fmt: skip

    def ask(self, what: str) -> int:
        """One command: the pid of an successor, or how a child ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{what}\n".encode())
        self._process.stdin.flush()
        return int(self._process.stdout.readline() or b"1")

    def end(self) -> None:
        """Ends the program when its child has ended."""
        self._process.communicate(timeout=20)
        self._errors.close()


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/ledger.db"


@pytest.fixture
def lives(streams_env: Mapping[str, str], database: str, tmp_path: Path) -> Iterator[Lives]:
    settings = {
        "STREAMS_LEASE": "0.5", "DATABASE_URL": database, "PYTHONPATH": str(ROOT), "LOG_LEVEL": "ERROR",
        "STREAMS_EVENTS": "tests.support.programs.points",
    }  # fmt: skip
    made = Lives({**streams_env, **settings}, tmp_path)
    yield made
    made.end()


async def done(streams: Streams) -> bool:
    """Whether nothing is left to read, to settle or to wait for."""
    for key in (*streams.keys.by_priority("wanted"), streams.keys.inbox("wants")):
        for info in await streams.redis.xinfo_groups(key) if await streams.redis.exists(key) else []:
            if info["pending"] or info["lag"]:
                return False
    return not await streams.redis.zcard(streams.keys.due())


async def dead(streams: Streams) -> Counter[int]:
    letters = await streams.redis.xrange(streams.keys.dead("wants"))
    return Counter(orjson.loads(fields[b"data"])["n"] for _, fields in letters)


async def sweep(streams: Streams, lives: Lives, database: str, seed: int) -> None:
    """Every point, in an order and with events of the seed."""
    dice = random.Random(seed)
    engine = make_engine(database)
    await create_tables(engine)
    await open_ledger(engine)
    await make_group(streams, "wants", "wanted")
    good: list[int] = []
    poison: list[int] = []
    for number, point in enumerate(dice.sample(sorted(POINTS), len(POINTS))):
        events = []
        for n in range(number * 20, number * 20 + 10):
            failures = (0, 1, 9, 0, 9, 1, 0, 0, 0, 0)[n % 10]
            (poison if failures > 1 else good).append(n)
            events.append(Wanted(n=n, failures=failures))
        dice.shuffle(events)
        await streams.publish_many(events[:8])
        for event in events[8:]:
            await streams.publish(event, delay=0.05)
        late = point in AFTERWARDS
        if point == "after a take-over":
            await streams.redis.xreadgroup("wants", "long-dead", {streams.keys.stream("wanted"): ">"}, count=5)
        if not late:
            assert lives.ask(f"first {point}") == -9, point
        successor = lives.ask("successor")
        await wait_until(lambda: done(streams), 20, f"all is done after {point!r}")
        if late:
            assert lives.ask(f"first {point}") == -9, point
            assert lives.ask(f"again {point}") == 0, point
            good += [1000] * (point == "before the mark of the outbox")
            await wait_until(lambda: done(streams), 20, f"all is done after {point!r}")
        assert lives.ask(f"end {successor}") == 0, point
        assert await entries(engine) == sorted(good), point
        assert await dead(streams) == Counter(poison), point
    granted = [
        orjson.loads(fields[b"data"])["n"] for _, fields in await streams.redis.xrange(streams.keys.stream("granted"))
    ]
    assert sorted(granted) == sorted(good)
    assert not list((await streams.accounts()).gaps())
    await engine.dispose()
    print(f"seed {seed}: {len(POINTS)} points, {len(good)} effects once, {len(poison)} dead letters once")


@pytest.mark.newest_redis
@pytest.mark.timeout(240)
async def test_a_death_at_every_point(
    streams: Streams, lives: Lives, database: str, request: pytest.FixtureRequest
) -> None:
    """The seed of the run."""
    await sweep(streams, lives, database, request.config.getoption("randomly_seed", 0))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_a_death_at_every_point_three_times(streams: Streams, lives: Lives, database: str, seed: int) -> None:
    """On each Redis."""
    await sweep(streams, lives, database, seed)
