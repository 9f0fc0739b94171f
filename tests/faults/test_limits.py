"""Limits over processes: a rate that several keep together, and places that no kill adds to or loses."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from time import monotonic

import pytest

from streams import Streams
from tests.faults.conftest import ROOT
from tests.faults.soak.journal import Line, read
from tests.streams.consuming.test_consumer import settled
from tests.support.child import Child, Spawn
from tests.support.programs.limited import AT_ONCE, RATE, Called, Held
from tests.support.waiting import wait_until

pytestmark = pytest.mark.newest_redis


def environment(log: Path) -> Mapping[str, str]:
    """Of a process that writes its journal there."""
    return {"STEP_LOG": str(log), "PYTHONPATH": str(ROOT), "STREAMS_LEASE": "1", "LOG_LEVEL": "ERROR"}


def lines_of(log: Path, what: str) -> list[Line]:
    """What the processes wrote."""
    return [line for line in read(log) if line["what"] == what] if log.exists() else []


async def keeps_the_rate(streams: Streams, spawn: Spawn, log: Path, count: int) -> None:
    """Measures how long `count` events take, by Redis' clock."""
    children = [spawn("tests.support.programs.limited", env=environment(log), name=f"limited-{at}") for at in range(2)]
    await streams.publish_many([Called(n=n) for n in range(count)])
    await wait_until(lambda: len(lines_of(log, "called")) >= count, timeout=count / RATE * 2 + 15)
    lines = lines_of(log, "called")
    times = sorted(line["redis"] for line in lines)
    lasted, expected = times[-1] - times[0], count / RATE
    densest = max(sum(at <= other < at + 1 for other in times) for at in times)
    print(f"{count} events at {RATE}/s: {lasted:.2f} s, at most {densest} in a second")
    assert len(lines) == count
    assert 0.9 * expected <= lasted <= 1.1 * expected
    assert densest <= 2 * RATE + RATE / 10
    for child in children:
        child.end()


@pytest.mark.timeout(60)
async def test_two_processes_keep_a_rate_together(streams: Streams, spawn: Spawn, tmp_path: Path) -> None:
    await keeps_the_rate(streams, spawn, tmp_path / "calls.jsonl", 150)


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_1000_events_at_50_a_second_take_20_seconds(streams: Streams, spawn: Spawn, tmp_path: Path) -> None:
    await keeps_the_rate(streams, spawn, tmp_path / "calls.jsonl", 1000)


def most_at_once(lines: list[Line], killed: dict[int, float]) -> dict[str, int]:
    """The most that ran at once for each tenant; what ran in a process that was killed ended with it."""
    changes: dict[str, list[tuple[float, int]]] = defaultdict(list)
    running: dict[tuple[int, int], Line] = {}
    for line in lines:
        if line["what"] == "start":
            changes[line["tenant"]].append((line["at"], 1))
            running[line["pid"], line["n"]] = line
        elif line["what"] == "end":
            changes[line["tenant"]].append((line["at"], -1))
            del running[line["pid"], line["n"]]
    for (pid, _), line in running.items():
        changes[line["tenant"]].append((killed[pid], -1))
    most = {}
    for tenant, deltas in changes.items():
        now = most[tenant] = 0
        for _, delta in sorted(deltas):
            now += delta
            most[tenant] = max(most[tenant], now)
    return most


@pytest.mark.timeout(90)
async def test_never_more_at_once_over_kills(streams: Streams, spawn: Spawn, tmp_path: Path) -> None:
    """A killed process' places stay taken until its messages run again; none is lost for good."""
    log, each, kills = tmp_path / "held.jsonl", 150, 5
    env = environment(log)
    children: list[Child] = [spawn("tests.support.programs.limited", env=env, name=f"limited-{at}") for at in range(3)]
    await streams.publish_many([Held(n=n, tenant=f"t{n % 3}") for n in range(3 * each)])

    def done() -> int:
        return len({line["n"] for line in lines_of(log, "done")})

    killed: dict[int, float] = {}
    for kill in range(kills):
        await wait_until(lambda kill=kill: done() >= 3 * each * kill // (kills + 1) + 5, timeout=40)  # type: ignore[misc]
        child = children.pop(0)
        child.kill()
        killed[child.pid] = monotonic()
        children.append(spawn("tests.support.programs.limited", env=env, name=f"again-{kill}"))
    await wait_until(lambda: done() == 3 * each, timeout=60, message=lambda: f"{done()} of {3 * each}")
    await wait_until(lambda: settled(streams, "limited"), timeout=20)
    lines = read(log)
    most = most_at_once(lines, killed)
    repeated = Counter(line["n"] for line in lines if line["what"] == "done")
    again = sum(repeated.values()) - len(repeated)
    print(f"{3 * each} events, {kills} kills: at most {most} at once, {again} repeated")
    assert max(most.values()) == AT_ONCE
    for child in children:
        child.end()
    assert not [gap for gap in (await streams.accounts()).gaps() if gap.count]
    held = [key for key in await streams.redis.keys(f"{streams.keys.limits('limited')}*") if key.endswith(b":held")]
    assert held == [], "places that nobody gave back"
