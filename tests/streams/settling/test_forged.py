"""Entries in a public stream that claim what only the engine may write: order per key holds, and no key is held."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streams import Streams
from tests.streams.conftest import StartConsumer
from tests.streams.settling.test_ordering import Steps
from tests.support.events import Noted
from tests.support.waiting import wait_until


async def raw(streams: Streams, *fields: Any) -> bytes:
    """Adds an entry as another program would, with fields in any number and order."""
    return bytes(await streams.redis.execute_command("XADD", streams.keys.stream("notes"), "*", *fields))


def body(number: int) -> tuple[str, ...]:
    """Type and data of a good event."""
    return ("type", "Noted", "data", f'{{"n": {number}}}')


async def through(streams: Streams, dead: int = 0) -> None:
    """Waits until nothing is unread, pending, waiting or in a line any more: no key is held."""
    keys = streams.keys

    async def done() -> bool:
        (group,) = (await streams.snapshot()).groups
        lines = [key async for key in streams.redis.scan_iter(match=f"{keys.turns('probe')}*")]
        return (group.lag, group.pending, group.waiting, group.dead, lines) == (0, 0, 0, dead, [])

    await wait_until(done, 20)


async def test_a_forged_origin_passes_no_turn_on(streams: Streams, start: StartConsumer) -> None:
    """An entry that says it is the one in hand, or the next, begins in its own turn, and ends its own turn."""
    steps = Steps()
    steps.gates["k"] = asyncio.Event()
    await start(steps.processor)
    stream = streams.keys.stream("notes")
    first = await raw(streams, *body(1), "partitionkey", "k")
    await raw(
        streams, *body(2), "partitionkey", "k", "origin", f"{stream} {first.decode()}", "failures", "3", "deliveries",
        "99", "replays", "7", "firstfailed", "nonsense", "lastfailed", "nonsense", "errors", "[{}]", "limitedby", "x",
    )  # fmt: skip
    last = await raw(streams, *body(3), "partitionkey", "k")
    await raw(streams, *body(4), "partitionkey", "k", "origin", f"{stream} {last.decode()}")
    await raw(streams, *body(5), "partitionkey", "other", "origin", f"{stream} {first.decode()}#1")
    await wait_until(lambda: steps.done["other"] == [5])
    steps.gates.pop("k").set()
    await wait_until(lambda: len(steps.done["k"]) == 4)
    assert steps.done["k"] == [1, 2, 3, 4]
    assert steps.together == []
    await through(streams)


DOUBLED = (
    ("partitionkey", "v", *body(1), "partitionkey", "w"),
    (*body(1), "partitionkey", "v", "partitionkey", "v"),
    ("partitionkey", "", *body(1), "partitionkey", "v"),
    ("partitionkey", "v", *body(1), "id", "a", "id", "b"),
    ("partitionkey", "v", *body(1), *(part for n in range(4_100) for part in (f"f{n}", "x"))),
    ("partitionkey", "v" * 2_000, *body(1)),
)


@pytest.mark.parametrize("fields", DOUBLED, ids=range(6))
async def test_an_entry_that_is_no_message_holds_no_key(
    streams: Streams, start: StartConsumer, fields: tuple[str, ...]
) -> None:
    """It is a dead letter also where it had to wait for its key first, and those after it get their turn."""
    steps = Steps()
    for n in (1, 2):
        await streams.publish(Noted(n=n), key="v")
        await raw(streams, *fields)
        await streams.publish(Noted(n=n), key="w")
    await start(steps.processor)
    await wait_until(lambda: len(steps.done["v"] + steps.done["w"]) == 4, 20, lambda: str(steps.done))
    assert [steps.done[key] for key in "vw"] == [[1, 2], [1, 2]]
    assert steps.together == []
    await through(streams, dead=2)
    letters = [letter async for letter in streams.dead_letters("probe").ls()]
    assert {letter.reason for letter in letters} == {"invalid"}
