"""Run: one bout, that is one system under one plan of faults, from its seed to its score."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from streams.redis.embedded import ServerBinary
from tests.faults.peers import judge, venv
from tests.faults.peers.peer import LEASE, Peer
from tests.faults.peers.remains import Remains
from tests.faults.soak.journal import Journal, Line, read
from tests.faults.soak.nemesis import Fleet, Nemesis, Plan
from tests.support.proxy import Proxy
from tests.support.redis_server import RedisServer

_READY_WITHIN: Final = 60.0
_ANSWERED_WITHIN: Final = 20.0  # longer than a publisher waits: after that it was killed
_POLL: Final = 0.1


@dataclass(frozen=True)
class Bout:
    """What is done to each system alike. `patience` is how many seconds it has after the faults."""

    seed: int
    events: int
    plan: Plan
    workers: int = 4
    patience: float = 75.0

    async def run(self, peer: Peer, settings: str, binary: ServerBinary, directory: Path) -> judge.Score:
        """Runs it in an empty directory, which keeps the journal, the logs and the data, and scores it."""
        await asyncio.to_thread((directory / "redis").mkdir, parents=True)
        server = RedisServer(binary, directory / "redis", appendfsync="always")
        await asyncio.to_thread(server.start)
        journal = Journal(directory / "journal.jsonl")
        try:
            async with Proxy("127.0.0.1", server.port) as proxy:
                crew = _Crew(self, peer, settings, directory, journal, (server, proxy))
                try:
                    await self._drive(crew, journal, server, proxy)
                    await _take_stock(server, journal, crew)
                finally:
                    crew.end()
        finally:
            server.stop()
            journal.close()
        return judge.judge(read(journal.path), self.events)

    async def _drive(self, crew: _Crew, journal: Journal, server: RedisServer, proxy: Proxy) -> None:
        fleet = Fleet(crew.start_worker, [await crew.start_worker() for _ in range(self.workers)], crew.send)
        await crew.until("ready", self.workers)
        await crew.start_publisher()
        await crew.until("publishing", 1)
        supervising = asyncio.create_task(crew.supervise(fleet))
        nemesis = Nemesis(journal, random.Random(self.seed), server=server, proxy=proxy, fleet=fleet, lease=LEASE)
        await nemesis.strike(self.plan)
        healed = time.monotonic()
        journal.write("healed")
        while time.monotonic() < healed + self.patience:
            if await self._all_done(crew, server):
                journal.write("drained", seconds=time.monotonic() - healed)
                break
            await asyncio.sleep(0.5)
        supervising.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await supervising

    async def _all_done(self, crew: _Crew, server: RedisServer) -> bool:
        """Whether each event's publisher has its answer, or will have none, and the system holds none of them."""
        asked, answered = {}, set()
        for line in await crew.lines():
            if line["what"] == "publish":
                asked[line["n"]] = line["at"]
            elif line["what"] in ("publish_ok", "publish_failed"):
                answered.add(line["n"])
        if not asked.keys() >= set(range(self.events)):
            return False
        waited_until = time.monotonic() - _ANSWERED_WITHIN
        if any(n not in answered and at > waited_until for n, at in asked.items() if n < self.events):
            return False
        return not await crew.held(server)


class _Crew:
    """The processes of a bout: workers and a publisher, started again when they end."""

    def __init__(
        self, bout: Bout, peer: Peer, settings: str, directory: Path, journal: Journal, ways: tuple[RedisServer, Proxy]
    ) -> None:
        self._bout, self._peer, self._settings, self._journal = bout, peer, settings, journal
        self._directory = directory
        self._server, self._proxy = ways
        self._binaries = venv.binaries(peer.name)
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._publisher = 0
        self._started = 0

    async def start_worker(self) -> int:
        """Starts one, by turns through the proxy and straight to Redis."""
        via = ("proxy", "direct")[self._started % 2]
        url = self._proxy.url if via == "proxy" else self._server.url
        return self._start("work", via, url, self._peer.worker(self._settings, self._binaries, url))

    async def start_publisher(self) -> None:
        """Starts it behind the proxy."""
        python = str(self._binaries / "python")
        command = [python, "-m", "tests.faults.peers.publish", self._peer.name]
        self._publisher = self._start("publish", "proxy", self._proxy.url, command)

    def _start(self, role: str, via: str, url: str, command: list[str]) -> int:
        self._started += 1
        bout = self._bout
        told = {
            "PEER_ROLE": role, "PEER_JOURNAL": str(self._journal.path),
            "PEER_EVENTS": str(bout.events), "PEER_SECONDS": str(bout.plan.seconds),
        }  # fmt: skip
        environment = self._peer.process_environment(self._settings, url) | told
        with (self._directory / f"{self._started}-{role}.log").open("wb") as log:
            # Not in a thread: who is cancelled there would leave a process that nobody knows of.
            process = subprocess.Popen(
                command, cwd=self._directory, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self._processes[process.pid] = process
        self._journal.write("spawn", pid=process.pid, role=role, via=via)
        return process.pid

    def send(self, pid: int, number: signal.Signals) -> None:
        """To a worker and all that it started: some are managers of the process that handles."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, number)  # each was started as the leader of a session of its own

    async def supervise(self, fleet: Fleet) -> None:
        """Starts anew what ended by itself, as any supervisor does."""
        while True:
            await asyncio.sleep(_POLL)
            for pid, process in list(self._processes.items()):
                code = process.poll()
                if code is None:
                    continue
                del self._processes[pid]
                self._journal.write("exit", pid=pid, code=code)
                self.send(pid, signal.SIGKILL)  # what it left behind
                if pid in fleet.running:
                    fleet.running.remove(pid)
                    fleet.running.append(await self.start_worker())
                elif pid == self._publisher:
                    await self.start_publisher()

    async def until(self, what: str, count: int) -> None:
        """Waits until so many have said so."""
        give_up = time.monotonic() + _READY_WITHIN
        while sum(line["what"] == what for line in await self.lines()) < count:
            gone = [pid for pid, process in self._processes.items() if process.poll() is not None]
            if gone or time.monotonic() > give_up:
                raise RuntimeError(f"{self._peer.name} does not start: see the logs in {self._directory}")
            await asyncio.sleep(_POLL)

    async def lines(self) -> list[Line]:
        """The journal so far."""
        return await asyncio.to_thread(read, self._journal.path)

    async def held(self, server: RedisServer) -> set[int]:
        """The numbered events that the system still has."""
        return {n for n in (await self.look(server)).held if n < self._bout.events}

    async def look(self, server: RedisServer) -> Remains:
        """What the system still has."""

        def ask() -> Remains:
            with server.client() as client:
                return self._peer.remains(client)

        return await asyncio.to_thread(ask)

    def end(self) -> None:
        """Ends all that runs."""
        for pid, process in self._processes.items():
            self.send(pid, signal.SIGKILL)
            process.wait(10)


async def _take_stock(server: RedisServer, journal: Journal, crew: _Crew) -> None:
    """Writes down what is held and what was given up, before the processes end."""
    remains = await crew.look(server)
    for n in sorted(remains.held):
        journal.write("held", n=n)
    for identity in sorted(remains.given_up):
        journal.write("given_up", id=identity)
