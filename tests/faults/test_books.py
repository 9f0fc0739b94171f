"""The books: whatever happens to events, and to the processes that handle them, at every moment every group adds up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from random import Random

import pytest

from streams import Consumer, NotFound, Processor, Streams, StreamsError
from streams.inspecting.ledger import GroupAccount
from streams.inspecting.reconciliation import Accounts, _Look
from tests.faults.conftest import ProbeLog, SpawnProbe
from tests.streams.inspecting.test_reconciliation import adds_up
from tests.support.programs.probe import Probed
from tests.support.waiting import wait_until

pytestmark = pytest.mark.newest_redis

ROUNDS = 60


class Mix:
    """Does one thing after the other, at random, with two groups: real processes, and a consumer of the test's own."""

    def __init__(self, streams: Streams, random: Random, spawn_probe: SpawnProbe) -> None:
        self.streams = streams
        self.random = random
        self.spawn = lambda: spawn_probe(STREAMS_LEASE="1")
        self.probe = self.spawn()
        self.ids: list[str] = []
        self.n = 0

    def event(self) -> Probed:
        """The next event, of some kind."""
        self.n += 1
        act = self.random.choices(["ok", "raise", "reject", "later", "sleep"], [10, 2, 2, 2, 3])[0]
        return Probed(n=self.n, act=act, seconds=self.random.uniform(0.05, 0.5))

    async def publish(self) -> None:
        """Now."""
        receipts = await self.streams.publish_many([self.event() for _ in range(self.random.randint(1, 20))])
        self.ids += [receipt.id for receipt in receipts]

    async def publish_otherwise(self) -> None:
        """Later, first, for a short while only, or under a name that is taken."""
        options = self.random.choice([
            {"delay": self.random.uniform(0.05, 20)}, {"priority": "high"}, {"priority": "low"}, {"once": "one"},
            {"expires": timedelta(milliseconds=self.random.choice([1, 30_000]))},
        ])  # fmt: skip
        self.ids.append((await self.streams.publish(self.event(), **options)).id)

    async def cancel(self) -> None:
        """One of the last."""
        if self.ids:
            await self.streams.cancel(self.random.choice(self.ids[-30:]))

    async def pause(self) -> None:
        """For a moment."""
        group = self.random.choice(["probe", "second"])
        await self.streams.pause(group)
        await asyncio.sleep(0.1)
        await self.streams.resume(group)

    async def dead(self) -> None:
        """Replays or discards some."""
        letters = self.streams.dead_letters(self.random.choice(["probe", "second"]))
        repair = self.random.choice([letters.replay, letters.discard])
        await repair(limit=self.random.randint(1, 5))

    async def trim(self) -> None:
        """What may go."""
        await self.streams.trim("probes", keep=self.random.choice([0, 5, 50]))

    async def replay(self) -> None:
        """Some history again."""
        await self.streams.replay("probes", group="second", ids=self.random.sample(self.ids, min(3, len(self.ids))))

    async def kill(self) -> None:
        """SIGKILL, and another."""
        self.probe.kill()
        self.probe = self.spawn()

    async def step(self) -> str:
        """One of these; returns which."""
        kinds: list[tuple[Callable[[], Awaitable[None]], int]] = [
            (self.publish, 10), (self.publish_otherwise, 8), (self.cancel, 5), (self.pause, 2), (self.dead, 3),
            (self.trim, 3), (self.replay, 2),
        ]  # fmt: skip
        (does,) = self.random.choices([kind for kind, _ in kinds], [weight for _, weight in kinds])
        try:
            await does()
        except (NotFound, StreamsError) as error:
            return f"{does.__name__}: {error}"
        return does.__name__


async def second(streams: Streams) -> Consumer:
    """A group that is asked for the same events, in this process."""
    processor = Processor("second", concurrency=3)

    @processor.on(Probed)
    async def handle(event: Probed) -> None:
        await asyncio.sleep(event.seconds / 20)
        if event.act == "raise" and event.n % 2:
            raise RuntimeError("odd")

    settings = streams.settings.model_copy(update={"lease": 1.0, "block": 0.2, "backoff": 50})
    consumer = Consumer(processor, Streams(settings=settings))
    await consumer.start()
    return consumer


async def balanced(streams: Streams) -> Accounts:
    """One look, at one moment, at which everything must add up."""
    accounts = await _Look(streams).take()
    assert list(accounts.gaps()) == []
    assert all(adds_up(group) for group in accounts.groups)
    return accounts


async def test_the_books_add_up_whatever_happens(
    streams: Streams, spawn_probe: SpawnProbe, probe_log: ProbeLog, request: pytest.FixtureRequest
) -> None:
    seed = request.config.getoption("randomly_seed", 0)
    mix = Mix(streams, Random(seed), spawn_probe)
    consumer = await second(streams)
    await wait_until(lambda: streams.redis.hexists(streams.keys.groups(), "probe"), 20)
    done = []
    for number in range(ROUNDS):
        done.append(await mix.step())
        if number % 20 == 19:
            await mix.kill()
        await balanced(streams)

    async def drained() -> bool:
        """Nothing is left but what waits for more than a moment."""
        accounts = await balanced(streams)
        return all(group.pending + group.unread == 0 for group in accounts.groups)

    for group in ("probe", "second"):
        await streams.resume(group)
    await wait_until(drained, 25, lambda: f"seed {seed}: {done}")
    accounts = await balanced(streams)
    found: dict[str, GroupAccount] = {group.group: group for group in accounts.groups}
    assert found["probe"].acked > 0, done
    await consumer.stop()
    mix.probe.terminate()
    mix.probe.wait()
    await balanced(streams)

    # And then a stranger removes one that is pending, and one that is unread.
    probes = streams.keys.stream("probes")
    receipts = await streams.publish_many([Probed(n=0), Probed(n=1), Probed(n=2)])
    entries = [(await streams.event(receipt.id)).entry_id for receipt in receipts]
    await streams.redis.xreadgroup("probe", "stranger", {probes: ">"}, count=1)
    await balanced(streams)
    await streams.redis.xdel(probes, entries[0])
    gaps = {gap.group: gap for gap in (await streams.accounts()).gaps()}
    assert (gaps["probe"].count, gaps["probe"].after, gaps["probe"].before) == (1, entries[0], entries[0])
    assert (gaps["second"].count, gaps["second"].before) == (1, entries[0])
    await streams.redis.xdel(probes, entries[1])
    gaps = {gap.group: gap for gap in (await streams.accounts()).gaps()}
    assert (gaps["probe"].count, gaps["second"].count) == (2, 2)
    assert gaps["probe"].before == entries[1]
