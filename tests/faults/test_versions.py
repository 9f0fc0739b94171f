"""A rolling deploy: processes of the old and of the new version of an event side by side."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams import Streams
from streams.cli.commands.doctor import _examine
from streams.inspecting.doctor import Finding
from streams.settling.unsupported import newer_than_code
from tests.faults.conftest import ROOT
from tests.faults.soak.journal import read
from tests.support.child import Spawn
from tests.support.programs.versioned import Labelled
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.newest_redis, pytest.mark.timeout(90)]

EVENTS = 200


async def test_what_is_newer_than_a_process_is_handled_by_the_next(
    streams: Streams, spawn: Spawn, tmp_path: Path
) -> None:
    """While only old code runs, new messages wait and can be seen to; once new code runs beside it each is handled by
    it, once. Nothing is a dead letter, and the old process does not turn in circles.
    """
    log = tmp_path / "labels.jsonl"
    env = {
        "VERSION_LOG": str(log), "PYTHONPATH": str(ROOT), "STREAMS_UNSUPPORTED_EVERY": "0.5",
        "STREAMS_EVENTS": "tests.support.programs.versioned",
    }  # fmt: skip
    old = spawn("tests.support.programs.versioned", env=env | {"VERSION": "1"}, name="old")
    receipts = await streams.publish_many([Labelled(n=n) for n in range(EVENTS)])

    async def waits() -> bool:
        return bool(await streams.redis.zcard(streams.keys.due()) == EVENTS)

    await wait_until(waits, 20)
    (reason,) = await streams.why(receipts[0].id)
    assert reason.cause == "unsupported"
    assert "version 2 is newer than this code, which knows 1" in reason.why
    assert "deploy the code of labels that knows version 2" in reason.remedy
    assert not log.exists() or not read(log)

    async def told() -> Finding | None:
        found = [finding for finding in await _examine(streams) if finding.check == "newer labels"]
        return (
            found[0] if found and found[0].text.startswith(f"{EVENTS} messages of Labelled version 2 newer") else None
        )

    finding = await wait_until(told, 20)  # not all of them wait while some are looked at
    assert finding.status == "warn"
    assert finding.remedy.startswith("deploy the code of labels that knows version 2; after 24 h")
    assert old.stderr().count("delivery.newer_than_code") == 1

    new = spawn("tests.support.programs.versioned", env=env | {"VERSION": "2"}, name="new")
    await wait_until(lambda: len(read(log)) >= EVENTS, 40)
    lines = read(log)
    assert sorted(line["n"] for line in lines) == list(range(EVENTS)), "one was handled twice"
    assert {line["version"] for line in lines} == {2}
    assert await streams.redis.xlen(streams.keys.dead("labels")) == 0
    history = await streams.redis.xrange(streams.keys.history("labels"))
    looks = max(
        sum(fields[b"id"] == receipt.id.encode() for _, fields in history) for receipt in (receipts[0], receipts[-1])
    )
    print(f"{EVENTS} events, {len(history)} times put off, the first and the last at most {looks} times")
    assert looks < 60, "it is looked at twice a second, not all the time"
    assert await newer_than_code(streams) == []
    for child in (old, new):
        child.terminate()
        assert child.wait() == 0


async def test_the_code_that_knows_it_does_not_wait_for_the_next_look(
    streams: Streams, spawn: Spawn, tmp_path: Path
) -> None:
    """Also if that is an hour away: a consumer that starts brings forward what it knows, and nothing else."""
    log = tmp_path / "labels.jsonl"
    env = {"VERSION_LOG": str(log), "PYTHONPATH": str(ROOT), "STREAMS_UNSUPPORTED_EVERY": "3600"}
    old = spawn("tests.support.programs.versioned", env=env | {"VERSION": "1"}, name="old")
    await streams.publish_many([Labelled(n=n) for n in range(EVENTS)])
    far = {"type": "Labelled", "dataversion": "999", "data": '{"n": 1}'}
    await streams.redis.xadd(streams.keys.stream("labels"), far)
    await streams.publish(Labelled(n=EVENTS), delay=1800)

    async def waiting() -> int:
        return int(await streams.redis.zcard(streams.keys.due()))

    async def all_wait() -> bool:
        return await waiting() == EVENTS + 2

    await wait_until(all_wait, 20)
    old.terminate()
    spawn("tests.support.programs.versioned", env=env | {"VERSION": "2"}, name="new")
    await wait_until(lambda: log.exists() and len(read(log)) >= EVENTS, 20)
    assert sorted(line["n"] for line in read(log)) == list(range(EVENTS))
    assert await waiting() == 2
