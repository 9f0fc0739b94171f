"""Large entries that anybody can add: a process holds few of them at a time, and their dead letters hold no copy."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from streams import Streams
from streams.errors import NotFound
from tests.faults.conftest import ROOT
from tests.faults.soak.journal import read
from tests.support.child import Child, Spawn
from tests.support.programs.versioned import Labelled
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.newest_redis, pytest.mark.timeout(90)]

MIB: Final = 1024 * 1024
LARGE: Final = 20 * MIB
COUNT: Final = 12
GROWTH: Final = 120 * MIB
"""Half of what all of them have: one reply, its parts, and what the allocator keeps."""


def peak(child: Child) -> int:
    """The most memory that a process has had, in bytes."""
    status = Path(f"/proc/{child.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


async def test_large_entries_are_not_held_together_and_their_letters_are_references(
    streams: Streams, spawn: Spawn, tmp_path: Path
) -> None:
    """What is beside them is handled; a replay reads the data from its stream, or says that it has them no more."""
    log = tmp_path / "labels.jsonl"
    env = {"VERSION_LOG": str(log), "PYTHONPATH": str(ROOT)}
    child = spawn("tests.support.programs.versioned", env=env, name="small")
    await streams.publish(Labelled(n=0))
    await wait_until(lambda: log.exists() and len(read(log)) == 1, 30)
    before = peak(child)

    stream, data = streams.keys.stream("labels"), b'{"n": 7, "pad": "' + b"x" * LARGE + b'"}'
    for n in range(1, COUNT + 1):
        await streams.redis.xadd(stream, {"type": "Labelled", "dataversion": "2", "data": data})
        await streams.publish(Labelled(n=n))
    dead = streams.keys.dead("labels")
    await wait_until(lambda: streams.redis.xlen(dead), 60)
    await wait_until(lambda: len(read(log)) == COUNT + 1, 60)

    async def all_dead() -> bool:
        return bool(await streams.redis.xlen(dead) == COUNT)

    await wait_until(all_dead, 60)
    grown = peak(child) - before
    print(f"{COUNT} entries of {LARGE // MIB} MiB: the process grew by {grown / MIB:.0f} MiB")
    assert grown < GROWTH
    assert await streams.redis.memory_usage(dead) < MIB
    letters = [letter async for letter in streams.dead_letters("labels").ls()]
    assert {(letter.reason, letter.message.size) for letter in letters} == {("too_large", len(data))}
    child.terminate()

    # The first is kept in its stream, the second is not.
    kept, lost = sorted(letters, key=lambda letter: letter.entry_id)[:2]
    assert lost.carried is not None
    await streams.redis.xdel(stream, lost.carried.origin.rpartition(" ")[2])
    with pytest.raises(NotFound, match=r"its data were in .*, which has them no more"):
        await streams.dead_letters("labels").replay([lost.entry_id])
    assert await streams.redis.xlen(dead) == COUNT  # it is still a dead letter
    assert (await streams.dead_letters("labels").replay([kept.entry_id])).done == 1
    spawn("tests.support.programs.versioned", env=env | {"STREAMS_MAX_BYTES": str(2 * LARGE)}, name="large")
    await wait_until(lambda: read(log)[-1]["n"] == 7, 30)
