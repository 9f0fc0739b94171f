"""Five scheduler processes that are killed at random: 60 slots are 60 events."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from redis.exceptions import ConnectionError as RedisIsAway

from streams import Settings, Streams
from streams.scheduling.schedule import event_id
from tests.conftest import RedisFactory
from tests.faults.conftest import ROOT
from tests.support.child import Child, Spawn
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

pytestmark = pytest.mark.newest_redis

PROCESSES = 5


class Clocks:
    """Five processes of `tests.support.programs.clock`, and what they have published."""

    def __init__(self, spawn: Spawn, streams: Streams, env: Mapping[str, str]) -> None:
        self._spawn = spawn
        self._env = {**env, "PYTHONPATH": str(ROOT)}
        self._streams = streams
        self.children: list[Child] = []

    def start(self) -> None:
        """Starts one more."""
        self.children.append(self._spawn("tests.support.programs.clock", env=self._env))

    async def now(self) -> int:
        """Redis' clock in ms, 0 while it is away."""
        try:
            seconds, microseconds = await self._streams.redis.time()
        except (RedisIsAway, OSError):
            return 0
        return int(seconds) * 1000 + int(microseconds) // 1000

    async def after(self, moment: int) -> None:
        """Waits until Redis' clock is past a moment."""

        async def passed() -> bool:
            return await self.now() > moment

        await wait_until(passed, 90)

    async def struck(self) -> list[Any]:
        """The entries, in order."""
        found: list[Any] = await self._streams.redis.xrange(self._streams.keys.stream("clock"))
        return found


async def strike(
    clocks: Clocks, streams: Streams, *, seconds: int, kills: int, redis: RedisServer | None = None, restarts: int = 0
) -> None:
    """Kills for so many seconds, then counts: every slot once, in order, with its own id."""
    seed = random.getrandbits(32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    for _ in range(PROCESSES):
        clocks.start()
    await wait_until(lambda: all("consumer.started" in child.stderr() for child in clocks.children), 20)
    begin = (await clocks.now() // 1000 + 1) * 1000
    end = begin + seconds * 1000
    faults = [(dice.uniform(begin, end), "kill") for _ in range(kills)]
    faults += [(dice.uniform(begin, end), "restart") for _ in range(restarts)]
    for at, fault in sorted(faults):
        await clocks.after(int(at))
        if fault == "restart" and redis is not None:
            redis.kill()
            redis.start()
        else:
            clocks.children.pop(dice.randrange(len(clocks.children))).kill()
            clocks.start()
    await clocks.after(end)
    entries = await wait_until(lambda: _until(clocks, end))
    slots = [orjson.loads(fields[b"data"])["slot"] for _, fields in entries]
    counted = [slot for slot in slots if begin <= slot < end]
    assert counted == list(range(begin, end, 1000)), f"{seconds} slots, {len(counted)} events"
    assert slots == list(range(slots[0], slots[-1] + 1, 1000))
    ids = [fields[b"id"].decode() for _, fields in entries]
    assert ids == [event_id(streams.keys.app, "clock.strike", "slot", slot, 0) for slot in slots]
    assert all(int(entry_id.split(b"-")[0]) >= slot for (entry_id, _), slot in zip(entries, slots, strict=True))
    late = [int(entry_id.split(b"-")[0]) - slot for (entry_id, _), slot in zip(entries, slots, strict=True)]
    print(
        f"{len(counted)} slots, {kills} kills, {restarts} restarts of Redis; late by "
        f"{sorted(late)[len(late) // 2]} ms in the middle, {max(late)} ms at most"
    )


async def _until(clocks: Clocks, end: int) -> Any:
    """The entries once the first slot after the end is among them."""
    entries = await clocks.struck()
    return entries if entries and orjson.loads(entries[-1][1][b"data"])["slot"] >= end else None


@pytest.mark.timeout(90)
async def test_six_kills_in_twelve_seconds_cost_no_slot(
    streams: Streams, spawn: Spawn, streams_env: Mapping[str, str]
) -> None:
    """All five race for each slot: the script alone decides."""
    await strike(Clocks(spawn, streams, {"CLOCK_RACE": "1"}), streams, seconds=12, kills=6)


@pytest.mark.timeout(90)
async def test_a_redis_that_is_killed_as_well_costs_no_slot(
    redis_factory: RedisFactory, spawn: Spawn, app: str
) -> None:
    """Three kills and three restarts of Redis: what was acknowledged is on disk, the rest is fired again."""
    server = redis_factory(appendfsync="always")
    async with Streams(settings=Settings(redis_url=server.url, app=app)) as streams:
        clocks = Clocks(spawn, streams, {"REDIS_URL": server.url})
        await strike(clocks, streams, seconds=12, kills=3, redis=server, restarts=3)


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("race", ["", "1"], ids=["as it is", "all five at once"])
async def test_twenty_kills_in_sixty_seconds_cost_no_slot(
    streams: Streams, spawn: Spawn, streams_env: Mapping[str, str], race: str
) -> None:
    await strike(Clocks(spawn, streams, {"CLOCK_RACE": race}), streams, seconds=60, kills=20)
