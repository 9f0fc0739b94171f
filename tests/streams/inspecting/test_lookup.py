"""Looks for an id: bounded in steps and bytes wherever it is not, and each says how far it went."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from streams import NotFound, Streams
from streams.messages.event_ids import new_id
from streams.redis.entries import Entries, find_entries
from streams.redis.partition import known_streams
from tests.support.events import Noted

_FILL = """
for i = ARGV[1], ARGV[2] do
  for _, key in ipairs(KEYS) do
    redis.call('XADD', key, '*', 'id', 'filled-' .. i, 'type', 'Noted', 'source', 's', 'time', '2026-01-01T00:00:00Z',
      'reason', 'failed', 'error', 'e', 'traceback', string.rep('x', 300), 'data', '{"n":1}')
  end
end
"""
NOWHERE = ("nope", "1-1", new_id(), "93c53821-a871-4314-9201-a71c6e0171db", "id\udcff", "x" * 5_000)


async def fill(streams: Streams, count: int) -> None:
    """Puts so many entries into a stream, and into the inbox and the dead letters of a group that reads it."""
    keys = streams.keys
    await streams.publish(Noted(n=0))
    await streams.redis.hset(keys.groups(), "probe", keys.stream("notes"))
    for at in range(1, count, 2_000):
        places = keys.stream("notes"), keys.inbox("probe"), keys.dead("probe")
        await streams.redis.eval(_FILL, 3, *places, at, min(at + 1_999, count))


async def steps(streams: Streams) -> tuple[int, float]:
    """The script calls since the last `resetstat`, and the ms of one."""
    found: Any = (await streams.redis.info("commandstats")).get("cmdstat_evalsha", {"calls": 0, "usec_per_call": 0.0})
    return found["calls"], found["usec_per_call"] / 1000


@pytest.mark.parametrize("id", NOWHERE, ids=range(len(NOWHERE)))
async def test_an_id_that_is_nowhere(streams: Streams, monkeypatch: pytest.MonkeyPatch, id: str) -> None:
    """The look ends at its bounds, in a number of steps that they set, and says that there is more; cancelling too."""
    for module in ("inspecting.event_status._SCAN", "inspecting.event_status._NEAR", "inspecting.group_status._MOST"):
        monkeypatch.setattr(f"streams.{module}", 1_000)
    monkeypatch.setattr("streams.dead_letters.search._MOST", 1_000)
    await fill(streams, 6_000)
    await streams.redis.config_resetstat()
    for look in (streams.event, streams.cancel):
        with pytest.raises(NotFound, match="looked through") as caught:
            await look(id)
        # Each look reads some pages of each known stream: how many depends on the events that other tests define.
        # An entry id is looked up, and a time in the id leads to the few entries that are younger than it.
        assert caught.value.whole is ("There is more" not in str(caught.value))
        print("STEPS", (await steps(streams))[0], len(known_streams(streams.keys, {})))
        await streams.redis.config_resetstat()
    with pytest.raises(NotFound, match="no dead letter") as caught:
        await streams.dead_letters("probe").show(id)
    assert caught.value.whole is ("among the 1,000" not in str(caught.value))
    assert (await steps(streams))[0] < 12


async def test_what_is_beyond_a_bound_is_not_called_gone(streams: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last one within the bound is found, the next one is not, and the answer says that there is more."""
    monkeypatch.setattr("streams.inspecting.event_status._SCAN", 1_000)
    monkeypatch.setattr("streams.inspecting.group_status._MOST", 500)
    monkeypatch.setattr("streams.dead_letters.search._MOST", 1_000)
    await fill(streams, 3_000)
    letters = streams.dead_letters("probe")
    assert (await streams.event("filled-2001")).stream == "notes"
    assert (await letters.show("filled-2001")).event_id == "filled-2001"
    with pytest.raises(NotFound, match="There is more"):
        await streams.event("filled-2000")
    with pytest.raises(NotFound, match="among the 1,000"):
        await letters.show("filled-2000")
    oldest, _ = next(iter([entry async for entry in Entries(streams).forward(streams.keys.dead("probe"), most=1)]))
    assert (await letters.show(oldest.decode())).event_id == "filled-1"  # by its own id, wherever it is


async def test_large_entries_are_looked_through_few_at_a_time(streams: Streams) -> None:
    """Entries of a quarter of a megabyte: one call takes a few, not hundreds, and all are looked through."""
    key = streams.keys.stream("notes")
    for n in range(60):
        await streams.redis.xadd(key, {"id": f"large-{n}", "data": b"x" * 256 * 1024})
    call = streams.redis.execute_command
    seen, _, ended, _ = await find_entries(call, key, start="-", end="+", most=250, field=b"id", values=[b"large-59"])
    assert 4 <= seen <= 16
    assert not ended
    found = [entry async for entry in Entries(streams).search(key, b"id", b"large-59", b"large-3") if entry]
    assert [dict(zip(fields[::2], fields[1::2], strict=True))[b"id"] for _, fields in found] == [
        b"large-3",
        b"large-59",
    ]


@pytest.mark.parametrize("backward", [False, True])
async def test_every_entry_is_looked_at_once(streams: Streams, request: pytest.FixtureRequest, backward: bool) -> None:
    """Against a walk in Python: fields in any order, missing or twice, any bound, any page."""
    dice = random.Random(f"{request.config.getoption('randomly_seed', 0)} {backward}")
    key, written = streams.keys.stream("notes"), []
    for n in range(dice.randrange(200, 700)):
        fields = {"id": f"{dice.randrange(40)}", "type": "T", "data": "x" * dice.choice((1, 1, 1, 20_000))}
        names = dice.sample(list(fields), dice.randrange(1, 4))
        entry_id = await streams.redis.xadd(key, {name: fields[name] for name in names}, id=f"{n + 1}-1")
        written.append((entry_id, fields["id"] if "id" in names else ""))
    for _ in range(20):
        wanted = {str(dice.randrange(45)) for _ in range(dice.randrange(1, 4))}
        most = dice.choice((None, 1, 2, 3, 63, 250, 251, 400, 10_000))
        order = written[::-1] if backward else written
        expected = [entry_id for entry_id, value in order[:most] if value in wanted]
        search = Entries(streams).search(key, b"id", *(w.encode() for w in wanted), most=most, backward=backward)
        found = [entry async for entry in search]
        assert [entry[0] for entry in found if entry is not None] == expected, (most, wanted)
        if most is None or most > len(written):
            assert None not in found
        elif most < len(written):
            assert found[-1] is None


@pytest.mark.slow
async def test_three_hundred_thousand_entries(streams: Streams) -> None:
    """The real bounds: no look takes seconds, and no step of it is long for the others."""
    await fill(streams, 300_000)
    for id in (*NOWHERE, new_id(1)):
        for look in (streams.event, streams.cancel, streams.dead_letters("probe").show):
            await streams.redis.config_resetstat()
            began = time.monotonic()
            with pytest.raises(NotFound):
                await look(id)
            took, (calls, each) = time.monotonic() - began, await steps(streams)
            print(f"{id[:12]!r} {look.__name__}: {took:.2f} s, {calls} calls of {each:.2f} ms")
            assert took < 10
            assert each < 5
