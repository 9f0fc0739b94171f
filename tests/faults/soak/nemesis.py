"""Nemesis: which fault comes when, drawn from one seed, and the doing of it."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from tests.faults.soak.journal import Journal
from tests.support.proxy import Mode, Proxy
from tests.support.redis_server import RedisServer

Kind = Literal["kill", "redis", "network", "stop", "deploy"]
CUTS: Final[tuple[Mode, ...]] = ("refuse", "cut_reply", "cut_request", "blackhole", "stall", "drip")


@dataclass(frozen=True)
class Plan:
    """How many faults of each kind, over how many seconds."""

    seconds: float
    kill: int
    redis: int
    network: int
    stop: int
    deploy: int

    def draw(self, dice: random.Random) -> list[tuple[float, Kind]]:
        """When each comes, in order: spread evenly, each somewhere in its share of the time."""
        faults: list[tuple[float, Kind]] = []
        for kind in get_args(Kind):
            count = getattr(self, kind)
            share = self.seconds / max(1, count)
            faults += [((number + dice.random()) * share, kind) for number in range(count)]
        return sorted(faults)


@dataclass
class Fleet:
    """The consumers that run: how to start one, which there are, and how to send one a signal."""

    start: Callable[[], Awaitable[int]]
    running: list[int]
    send: Callable[[int, signal.Signals], None] = field(default_factory=lambda: _send)


class Nemesis:
    """Breaks what it is given, and writes down what it did."""

    def __init__(
        self, journal: Journal, dice: random.Random, *, server: RedisServer, proxy: Proxy, fleet: Fleet, lease: float
    ) -> None:
        self._journal = journal
        self._dice = dice
        self._server = server
        self._proxy = proxy
        self._fleet = fleet
        self._lease = lease
        self._stopped: set[int] = set()
        self._redis_free, self._network_free, self._deploying = asyncio.Lock(), asyncio.Lock(), asyncio.Lock()

    async def strike(self, plan: Plan) -> None:
        """Does everything in the plan, and returns when all of it is healed. A fault may fall into another."""
        loop = asyncio.get_running_loop()
        began, striking = loop.time(), []
        for at, kind in plan.draw(self._dice):
            await asyncio.sleep(began + at - loop.time())
            striking.append(asyncio.create_task(getattr(self, f"_{kind}")()))
        await asyncio.gather(*striking)

    def _victim(self) -> int | None:
        standing = [pid for pid in self._fleet.running if pid not in self._stopped]
        return self._dice.choice(standing) if standing else None

    async def _kill(self) -> None:
        pid = self._victim()
        if pid is None:
            return
        self._fleet.running.remove(pid)
        self._journal.write("kill", pid=pid)
        self._fleet.send(pid, signal.SIGKILL)
        self._fleet.running.append(await self._fleet.start())

    async def _redis(self) -> None:
        async with self._redis_free:
            self._journal.write("redis_kill")
            await asyncio.to_thread(self._server.kill)
            await asyncio.sleep(self._dice.uniform(0.05, 0.6))
            await asyncio.to_thread(self._server.start)
            self._journal.write("redis_up")

    async def _network(self) -> None:
        async with self._network_free:
            mode = self._dice.choice(CUTS)
            self._journal.write("network", mode=mode)
            if mode in ("cut_reply", "cut_request"):
                self._proxy.cut(mode, self._dice.randint(1, 20))
            else:
                self._proxy.mode = mode
            await asyncio.sleep(self._dice.uniform(0.5, 3.0))
            self._proxy.mode = "pass"
            self._journal.write("heal")

    async def _stop(self) -> None:
        pid = self._victim()
        if pid is None:
            return
        self._stopped.add(pid)
        self._journal.write("stop", pid=pid)
        self._fleet.send(pid, signal.SIGSTOP)
        await asyncio.sleep(3 * self._lease)
        self._fleet.send(pid, signal.SIGCONT)
        self._journal.write("cont", pid=pid)
        self._stopped.discard(pid)

    async def _deploy(self) -> None:
        """Every consumer is asked to end, one after the other, and another takes its place."""
        async with self._deploying:
            for pid in list(self._fleet.running):
                if pid in self._stopped or pid not in self._fleet.running:
                    continue
                self._fleet.running.remove(pid)
                self._journal.write("term", pid=pid)
                self._fleet.send(pid, signal.SIGTERM)
                self._fleet.running.append(await self._fleet.start())
                await asyncio.sleep(0.3)


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return  # it died by itself: a message that kills its process was faster
