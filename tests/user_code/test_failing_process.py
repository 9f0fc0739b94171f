"""No failure of a handler is the death of its process, nor a repetition for the events beside it."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import orjson
import pytest

from streams import Streams
from tests.streams import conftest
from tests.support.child import Spawn
from tests.support.programs.failing_handlers import Tried
from tests.support.waiting import wait_until

make_settings, streams = conftest.make_settings, conftest.streams

FAULTS = {
    "panic": "PanicException: ",
    "surrogate": "ValueError: no such file: caf\\udce9.csv",
    "mute": "_Mute: (its text cannot be read: RuntimeError)",
    "own": "_Own: mine",
    "exit": "SystemExit: 3",
    "generator": "GeneratorExit",
    "reject": "DeadLetter: caf\\udce9",
    "group": "_Own: inside (in BaseExceptionGroup: unhandled errors in a TaskGroup)",
}


@pytest.mark.newest_redis
async def test_one_process_outlives_them_all(streams: Streams, spawn: Spawn, tmp_path: Path) -> None:
    log = tmp_path / "trials"
    child = spawn("tests.support.programs.failing_handlers", env={"TRIALS_LOG": str(log)})
    events = [Tried(n=n, fault=fault) for n, fault in enumerate([*FAULTS, "returns"])]
    events += [Tried(n=n) for n in range(len(events), 30)]
    await streams.publish_many(events)

    def lines() -> list[dict[str, int]]:
        return [orjson.loads(line) for line in log.read_bytes().splitlines()] if log.exists() else []

    await wait_until(lambda: len(lines()) >= 30 + len(FAULTS) - 1, timeout=25)
    await wait_until(lambda: streams.redis.xlen(streams.keys.dead("failing")), timeout=5)
    letters: dict[str, str] = {}

    async def all_dead() -> bool:
        async for letter in streams.dead_letters("failing").ls():
            letters[orjson.loads(letter.data)["fault"]] = letter.error
        return len(letters) == len(FAULTS)

    await wait_until(all_dead, timeout=10)
    assert [fault for fault, expected in FAULTS.items() if not letters[fault].startswith(expected)] == []
    tries = Counter(line["n"] for line in lines())
    assert {n: count for n, count in tries.items() if count > 1} == {
        n: 2 for n, fault in enumerate(FAULTS) if fault != "reject"
    }
    assert {line["pid"] for line in lines()} == {child.pid}
    child.signal(signal.SIGTERM)
    assert child.wait(timeout=15) == 0
