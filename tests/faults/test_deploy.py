"""A rolling deploy under load: each consumer in turn is followed by a new one; nothing is lost, handled twice, or kept
waiting (hazards C19 and C20).
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import orjson
import pytest

from streams import Streams
from tests.faults.conftest import ROOT
from tests.faults.soak.journal import Line, read
from tests.streams.consuming.test_consumer import settled
from tests.support.child import Child, Spawn
from tests.support.figures import percentile, told
from tests.support.programs.deployed import Shipped
from tests.support.waiting import wait_until

pytestmark = pytest.mark.newest_redis

RATE = 500  # events a second
TICK = 0.02  # seconds


@dataclass
class Publishing:
    """Publishes at a steady rate until it is told to stop; with `old`, every other event as old publishers do."""

    streams: Streams
    old: bool = False
    published: list[float] = field(default_factory=list)  # when, by event number
    stop: bool = False

    async def run(self) -> None:
        began = time.monotonic()
        while not self.stop:
            count = round((time.monotonic() - began) * RATE) - len(self.published)
            first = len(self.published)
            self.published += [time.monotonic()] * count
            numbers = range(first, first + count)
            new = [n for n in numbers if not self.old or n % 2]
            await self.streams.publish_many([Shipped(n=n, carrier="x") for n in new])
            async with self.streams.redis.pipeline(transaction=False) as pipe:
                for n in sorted(set(numbers) - set(new)):
                    fields = {"type": "Shipped", "dataversion": "1", "data": orjson.dumps({"n": n})}
                    pipe.xadd(self.streams.keys.stream("shipments"), fields)  # type: ignore[arg-type]
                await pipe.execute()
            await asyncio.sleep(TICK)


@dataclass
class Fleet:
    """The consumers, and when one was told to end."""

    spawn: Spawn
    log: Path
    running: list[Child] = field(default_factory=list)
    told: list[float] = field(default_factory=list)

    async def start(self, version: int = 2) -> None:
        env = {
            "DEPLOY_LOG": str(self.log), "PYTHONPATH": str(ROOT), "VERSION": str(version), "STREAMS_LEASE": "5",
            "STREAMS_UNSUPPORTED_EVERY": "0.5", "STREAMS_EVENTS": "tests.support.programs.deployed",
            "STREAMS_GRACE": "10",
        }  # fmt: skip
        child = self.spawn("tests.support.programs.deployed", env=env, name=f"shipping-{version}")
        self.running.append(child)
        await wait_until(lambda: "consumer.started" in child.stderr(), 40, child.output)

    async def replace(self) -> None:
        """The oldest is followed by a new one, as a deploy does it: first the new one is there."""
        await self.start()
        oldest = self.running.pop(0)
        self.told.append(time.monotonic())
        oldest.terminate()
        assert await asyncio.to_thread(oldest.wait, 30) == 0, oldest.output()

    def starts(self) -> list[Line]:
        """What was begun, in order."""
        return sorted((line for line in read(self.log) if line["what"] == "start"), key=lambda line: line["at"])

    def pauses(self, within: float = 2.0) -> list[float]:
        """After each end of a consumer: the longest time in which nobody began anything."""
        times = [line["at"] for line in self.starts()]
        return [max(b - a for a, b in pairwise(times) if b > at and a < at + within) for at in self.told]


async def deploy(streams: Streams, spawn: Spawn, log: Path, *, consumers: int, rounds: int, mixed: bool) -> Fleet:
    """Replaces every consumer so many times, and counts."""
    fleet, publishing = Fleet(spawn, log), Publishing(streams, old=mixed)
    for _ in range(consumers):
        await fleet.start(1 if mixed else 2)
    task = asyncio.create_task(publishing.run())
    await wait_until(lambda: len(publishing.published) > RATE)
    for _ in range(consumers * rounds):
        await fleet.replace()
    await asyncio.sleep(0.5)  # some load after the last one, so that a pause has an end
    publishing.stop = True
    await task
    await wait_until(lambda: settled(streams, "shipping"), 30)
    starts = fleet.starts()
    counted = Counter(line["n"] for line in starts)
    lost = set(range(len(publishing.published))) - set(counted)
    twice = [n for n, count in counted.items() if count > 1]
    waits = [line["at"] - publishing.published[line["n"]] for line in starts if not mixed or not line["n"] % 2]
    rate = len(publishing.published) / (publishing.published[-1] - publishing.published[0])
    print(
        f"{len(publishing.published)} events at {rate:.0f}/s over {len(fleet.told)} replaced consumers: lost "
        f"{len(lost)}, handled twice {len(twice)}; pause after an end {told(fleet.pauses())}; an event waited "
        f"{told(waits)}"
    )
    assert not lost
    assert not twice
    assert await streams.redis.xlen(streams.keys.dead("shipping")) == 0
    assert not list((await streams.accounts()).gaps())
    for child in fleet.running:
        child.terminate()
        assert child.wait() == 0
    return fleet


@pytest.mark.timeout(120)
async def test_a_rolling_deploy_of_new_code_loses_and_repeats_nothing(
    streams: Streams, spawn: Spawn, tmp_path: Path
) -> None:
    """The new code has a new version of the event, which publishers of both kinds publish from the start."""
    fleet = await deploy(streams, spawn, tmp_path / "deploy.jsonl", consumers=2, rounds=1, mixed=True)
    by_version = Counter((line["version"], line["n"] % 2) for line in fleet.starts())
    print(f"by (code, event is new): {dict(by_version)}")
    assert by_version[1, 1] == 0, "old code was given what it does not know"
    assert min(by_version[1, 0], by_version[2, 0], by_version[2, 1]) > 0


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_forty_replaced_consumers_are_no_pause(streams: Streams, spawn: Spawn, tmp_path: Path) -> None:
    """Four consumers, ten deploys."""
    fleet = await deploy(streams, spawn, tmp_path / "deploy.jsonl", consumers=4, rounds=10, mixed=False)
    assert percentile(fleet.pauses(), 99) <= 1.0
