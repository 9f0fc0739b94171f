"""A replay from history whose process is killed: resumed, it has delivered each event once, and to nobody else."""

from __future__ import annotations

import signal
from collections import Counter

import pytest

from streams import Streams
from streams.messages.message import decode
from streams.redis.entries import Entries
from tests.streams.inspecting.test_reconciliation import account, adds_up, make_group
from tests.support.child import Spawn
from tests.support.programs.probe import Probed
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(90)


async def in_inbox(streams: Streams, group: str) -> int:
    """How many are there."""
    return int(await streams.redis.xlen(streams.keys.inbox(group)))


async def test_a_killed_replay_is_resumed_and_delivers_each_event_once(streams: Streams, spawn: Spawn) -> None:
    """500 events, killed with SIGKILL at about 137, 237 and 337, and resumed each time."""
    for group in ("probe", "other"):
        await make_group(streams, group, "probes")
    receipts = await streams.publish_many([Probed(n=n) for n in range(500)])
    events = {"STREAMS_EVENTS": "tests.support.programs.probe", "PYTHONPATH": _root()}
    replay = spawn("streams", "replay", "probes", "--group", "probe", "--yes", "--rate", "400", env=events)
    reached: list[int] = []
    for wanted in (137, 237, 337):
        await wait_until(lambda wanted=wanted: _at_least(streams, wanted), 30)  # type: ignore[misc]
        replay.kill()
        assert replay.returncode == -signal.SIGKILL
        reached.append(await in_inbox(streams, "probe"))
        (job,) = await streams.replays.ls()
        assert (job.state, job.matched) == ("running", 500)
        assert job.replayed == reached[-1] < 500, "the cursor and what it has passed are one step"
        replay = spawn("streams", "replays", "resume", job.id, "--rate", "400", env=events)
    assert replay.wait(30) == 0
    assert replay.stdout() == "replayed 500 of probes to probe\n"
    entries = [decode(entry, came_back=True) async for entry in Entries(streams).forward(streams.keys.inbox("probe"))]
    assert Counter(message.id for message in entries) == Counter(receipt.id for receipt in receipts)
    assert await in_inbox(streams, "other") == 0
    assert await streams.redis.xlen(streams.keys.stream("probes")) == 500
    for group, replayed in (("probe", 500), ("other", 0)):
        found = await account(streams, group)
        assert adds_up(found)
        assert (found.published, found.replayed, found.gap) == (500, replayed, 0)
    print(f"killed at {reached} of 500")


async def test_ctrl_c_says_how_to_go_on(streams: Streams, spawn: Spawn) -> None:
    await make_group(streams, "probe", "probes")
    await streams.publish_many([Probed(n=n) for n in range(500)])
    replay = spawn("streams", "replay", "probes", "--group", "probe", "--yes", "--rate", "200")
    await wait_until(lambda: _at_least(streams, 40), 30)
    replay.signal(signal.SIGINT)
    assert replay.wait(10) == 130
    (job,) = await streams.replays.ls()
    assert job.state == "running"
    assert f"streams replays resume {job.id}" in replay.stderr()
    assert f"streams replays cancel {job.id}" in replay.stderr()
    cancel = spawn("streams", "replays", "cancel", job.id)
    assert cancel.wait(20) == 0
    assert cancel.stdout() == f"cancelled {job.id} at {job.replayed:,} of 500\n"
    assert await in_inbox(streams, "probe") == job.replayed


async def _at_least(streams: Streams, count: int) -> bool:
    return await in_inbox(streams, "probe") >= count


def _root() -> str:
    from tests.faults.conftest import ROOT

    return str(ROOT)
