"""Order per key over processes that are killed: first successes in publish order, one message of a key at a time."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import pytest

from streams import Streams
from tests.faults.conftest import ROOT
from tests.faults.soak.journal import read
from tests.support.child import Child, Spawn
from tests.support.programs.stepping import Stepped
from tests.support.waiting import wait_until

pytestmark = pytest.mark.newest_redis


async def steps_in_order(streams: Streams, spawn: Spawn, log: Path, *, keys: int, each: int, kills: int) -> None:
    """Publishes, kills, waits for the last one, and counts what was out of order."""
    env: Mapping[str, str] = {"STEP_LOG": str(log), "PYTHONPATH": str(ROOT), "STREAMS_LEASE": "1", "LOG_LEVEL": "ERROR"}
    children: list[Child] = [spawn("tests.support.programs.stepping", env=env) for _ in range(3)]

    async def publish() -> None:
        for n in range(each):
            await asyncio.gather(*(streams.publish(Stepped(of=key, n=n), key=str(key)) for key in range(keys)))

    publishing = asyncio.create_task(publish())
    total = keys * each

    def done() -> int:
        return len({(line["of"], line["n"]) for line in read(log) if line["what"] == "end"}) if log.exists() else 0

    for kill in range(kills):
        await wait_until(lambda kill=kill: done() >= total * kill // (kills + 1), timeout=60)  # type: ignore[misc]
        children.pop(0).kill()  # the oldest: it is at work
        children.append(spawn("tests.support.programs.stepping", env=env, name=f"again-{kill}"))
    await wait_until(lambda: done() == total, timeout=90, message=lambda: f"{done()} of {total}")
    await publishing
    lines = read(log)
    first: dict[int, list[int]] = defaultdict(list)
    for line in lines:
        if line["what"] == "end" and line["n"] not in first[line["of"]]:
            first[line["of"]].append(line["n"])
    violations = sum(one > other for done_of in first.values() for one, other in pairwise(done_of))
    starts = [(line["of"], line["n"], line["attempt"]) for line in lines if line["what"] == "start"]
    repeated = len(starts) - len(set(starts))
    print(f"{total} events of {keys} keys, {kills} kills: {violations} order violations, {repeated} repeated")
    assert violations == 0
    for child in children:
        child.end()


@pytest.mark.timeout(120)
async def test_order_holds_over_five_kills(streams: Streams, spawn: Spawn, tmp_path: Path) -> None:
    await steps_in_order(streams, spawn, tmp_path / "steps.jsonl", keys=40, each=40, kills=5)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_order_of_200_keys_with_200_events_holds_over_20_kills(
    streams: Streams, spawn: Spawn, tmp_path: Path
) -> None:
    await steps_in_order(streams, spawn, tmp_path / "steps.jsonl", keys=200, each=200, kills=20)
