"""Run: one soak from its seed to its verdict."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
from pydantic import SecretStr
from redis.exceptions import RedisError
from sqlalchemy import select

from streams import Settings, Streams
from streams.redis.embedded import ServerBinary
from streams.sql import create_tables, make_engine
from tests.faults.soak.check import Rules, Verdict, check
from tests.faults.soak.journal import Journal, read
from tests.faults.soak.load import ATTEMPTS, DELIVERIES, GROUPS, PUBLISHED
from tests.faults.soak.nemesis import Fleet, Nemesis, Plan
from tests.sql.ledger import ledger, open_ledger
from tests.support.proxy import Proxy
from tests.support.redis_server import RedisServer

LEASE: Final = 2.0
APP: Final = "soak"
RULES: Final = Rules(
    readers={kind.__name__: [group for group, events in GROUPS.items() if kind in events] for kind in PUBLISHED},
    effects="ledger",
    attempts=ATTEMPTS,
    deliveries=DELIVERIES,
    lease=LEASE,
    drained_within=3 * LEASE + 10,
)
_KEPT_FOR_EVER: Final = re.compile(
    rb"\{soak:0\}:(stream:.+|inbox:.+|dead:.+|history:.+|groups|consumers:.+|books|slots|schedules|cancelled:.+|producer:.+)"
)


@dataclass(frozen=True)
class Soak:
    """What one run is: its seed, its load and its faults. `tree` is the source to run, for broken builds."""

    seed: int
    events: int
    plan: Plan
    consumers: int = 4
    exits: int = 4
    tree: Path = Path(__file__).parents[3]
    told: bool = True
    patience: float = 3 * LEASE + 60  # seconds to wait for the end, beyond which it is stuck

    async def run(self, binary: ServerBinary, directory: Path) -> Verdict:
        """Runs it in an empty directory, which keeps the journal, the logs and the data, and judges it."""
        await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True)
        server = RedisServer(binary, directory / "redis", appendfsync="always")
        await asyncio.to_thread(server.directory.mkdir)
        server.start()
        database = f"sqlite:///{directory}/ledger.db"
        engine = make_engine(database)
        await create_tables(engine)
        await open_ledger(engine)
        await engine.dispose()
        journal = Journal(directory / "journal.jsonl")
        try:
            async with Proxy("127.0.0.1", server.port) as proxy:
                zygote = _Zygote(self, directory, database)
                try:
                    await self._drive(zygote, journal, server, proxy, directory)
                finally:
                    zygote.end()
            await _take_stock(journal, server, database)
        finally:
            server.stop()
            journal.close()
        return check(read(journal.path), RULES)

    async def _drive(
        self, zygote: _Zygote, journal: Journal, server: RedisServer, proxy: Proxy, directory: Path
    ) -> None:
        started = 0

        async def start(what: str = "consume", via: str = "") -> int:
            nonlocal started
            started += 1
            via = via or ("proxy", "direct")[started % 2]
            url = proxy.url if via == "proxy" else server.url
            pid = await zygote.fork(what, f"{what}-{started}", url)
            journal.write("spawn", pid=pid, role=what, via=via)
            return pid

        publisher = await start("publish", "proxy")
        await asyncio.sleep(0.5)  # a group that is made now must have what was published before
        fleet = Fleet(start, [await start() for _ in range(self.consumers)])
        dice = random.Random(self.seed)
        nemesis = Nemesis(journal, dice, server=server, proxy=proxy, fleet=fleet, lease=LEASE)
        watching = asyncio.create_task(self._mind(fleet, journal, start))
        await nemesis.strike(self.plan)
        self._tell("the faults are over")
        zygote.ask_to_end(publisher)
        await _until_exit(journal, publisher, 60)
        healed = time.monotonic()
        if await _drained(server, self.patience):
            journal.write("drained", seconds=time.monotonic() - healed)
        watching.cancel()
        for pid in fleet.running:
            journal.write("term", pid=pid)
            zygote.ask_to_end(pid)
        for pid in fleet.running:
            code = await _until_exit(journal, pid, 40)
            if code != 0:
                journal.write("left", place=f"consumer {pid}", kind=f"exit code {code}", count=1)

    async def _mind(self, fleet: Fleet, journal: Journal, start: Any) -> None:
        """Starts anew what ended by itself, as a supervisor does."""
        seen = 0
        while True:
            await asyncio.sleep(0.2)
            lines = await asyncio.to_thread(read, journal.path)
            exits = [line for line in lines[seen:] if line["what"] == "exit"]
            seen = len(lines)
            for line in exits:
                if line["pid"] in fleet.running:
                    fleet.running.remove(line["pid"])
                    fleet.running.append(await start())

    def _tell(self, text: str) -> None:
        if self.told:
            sys.stderr.write(f"{text}\n")


class _Zygote:
    """The process that forks all others."""

    def __init__(self, soak: Soak, directory: Path, database: str) -> None:
        logs = directory / "logs"
        logs.mkdir()
        self._log = (logs / "zygote.log").open("wb")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("REDIS_", "STREAMS_"))}
        settings = {
            "SOAK_JOURNAL": str(directory / "journal.jsonl"), "SOAK_LOGS": str(logs), "SOAK_DATABASE": database,
            "SOAK_EVENTS": str(soak.events), "SOAK_SEED": str(soak.seed), "SOAK_EXITS": str(soak.exits),
            "STREAMS_APP": APP, "STREAMS_LEASE": str(LEASE), "STREAMS_BLOCK": "1", "STREAMS_GRACE": "10",
            "STREAMS_DELIVERIES": str(DELIVERIES), "STREAMS_EVENTS": "tests.faults.soak.load", "LOG_LEVEL": "INFO",
            "PYTHONPATH": str(soak.tree),
        }  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.soak.load"],
            cwd=directory, env=kept | settings, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log,
            start_new_session=True,
        )  # fmt: skip
        self._asking = asyncio.Lock()  # of two threads that read lines of one pipe, one may throw the other's away

    async def fork(self, what: str, name: str, url: str) -> int:
        """Starts one process, and returns its pid."""
        async with self._asking:
            return int(await asyncio.to_thread(self._ask, f"{what} {name} {url}\n".encode()))

    def _ask(self, line: bytes) -> bytes:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()
        return self._process.stdout.readline()

    def ask_to_end(self, pid: int) -> None:
        """SIGTERM."""
        try:
            os.kill(pid, 15)
        except ProcessLookupError:
            return

    def end(self) -> None:
        """Ends it, and all it started."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, 9)  # the leader of a session of its own
        self._process.wait(10)
        self._process.stdout.close()
        self._log.close()


async def _until_exit(journal: Journal, pid: int, within: float) -> int | None:
    give_up = time.monotonic() + within
    while time.monotonic() < give_up:
        for line in await asyncio.to_thread(read, journal.path):
            if line["what"] == "exit" and line["pid"] == pid:
                return int(line["code"])
        await asyncio.sleep(0.2)
    return None


async def _drained(server: RedisServer, within: float) -> bool:
    """Whether every group came to have nothing unread, pending or waiting, before the time was over."""
    give_up = time.monotonic() + within
    async with Streams(settings=_settings(server)) as streams:
        while time.monotonic() < give_up:
            if not await _unfinished(streams):
                return True
            await asyncio.sleep(0.05)
    return False


async def _unfinished(streams: Streams) -> list[tuple[str, str, int]]:
    """What is left to do, by place."""
    found: list[tuple[str, str, int]] = []
    try:
        for group, events in GROUPS.items():
            lanes = [lane for event in events for lane in streams.keys.by_priority(event.stream)]
            for key in (streams.keys.inbox(group), *lanes):
                for info in await streams.redis.xinfo_groups(key) if await streams.redis.exists(key) else []:
                    if info["name"].decode() == group:
                        place = f"{group} in {streams.keys.short(key)}"
                        found += [(place, kind, info[kind]) for kind in ("pending", "lag") if info[kind] != 0]
        waiting = await streams.redis.zcard(streams.keys.due())
        found += [("due", "waiting", waiting)] if waiting else []
    except RedisError as error:
        found.append(("redis", str(error), 1))
    return found


async def _take_stock(journal: Journal, server: RedisServer, database: str) -> None:
    """Writes down what is in Redis and in the ledger at the end."""
    async with Streams(settings=_settings(server)) as streams:
        for place, kind, count in await _unfinished(streams):
            journal.write("left", place=place, kind=kind, count=count)
        for name in ("noted", "counted", "wide", "threaded", "followed", "ticks"):
            for lane in streams.keys.by_priority(name):
                for data in await _data(streams, lane):
                    journal.write("stored", stream=name, n=data["slot"] if name == "ticks" else data["n"])
        for group in GROUPS:
            for _, fields in await streams.redis.xrange(streams.keys.dead(group)):
                journal.write(
                    "dead", group=group, n=orjson.loads(fields[b"data"])["n"], reason=fields[b"reason"].decode(),
                    attempts=int(fields[b"attempts"]), deliveries=int(fields[b"deliveries"]),
                )  # fmt: skip
        async for key in streams.redis.scan_iter(count=1000):
            if not _KEPT_FOR_EVER.fullmatch(key):
                journal.write("left", place=key.decode(), kind="key", count=1)
        for gap in (await streams.accounts()).gaps():
            journal.write("left", place=gap.place, kind="unaccounted for", count=gap.count)
    engine = make_engine(database)
    async with engine.connect() as connection:
        for (n,) in await connection.execute(select(ledger.c.n)):
            journal.write("effect", n=n)
    await engine.dispose()


async def _data(streams: Streams, key: str) -> list[Mapping[str, Any]]:
    found, after = [], "-"
    while True:
        page = await streams.redis.xrange(key, after, count=5_000)
        found += [orjson.loads(fields[b"data"]) for _, fields in page]
        if len(page) < 5_000:
            return found
        after = f"({page[-1][0].decode()}"


def _settings(server: RedisServer) -> Settings:
    return Settings(redis_url=SecretStr(server.url), app=APP)
