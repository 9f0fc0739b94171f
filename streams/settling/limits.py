"""Limits: the typed door to the scripts that ask for a permit, release what waits, and repair a limit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal, NamedTuple

from streams.redis.keys import LIMITED_MS, Keys
from streams.redis.script import Call, Script, Value, run
from streams.redis.untrusted import text

ADMIT: Final = Script.load("settling/admit")
SERVE_LIMITS: Final = Script.load("settling/release_limited")
MEND_LIMIT: Final = Script.load("settling/repair_limit")

GOOD_FOR: Final = 1.0  # seconds: having been let in is worth nothing after that, if there is a rate
_LOOKED_AT: Final = 100  # limits in one call

Answer = Literal[1, 0, -1, -2] | str
"""It may start; it stands in line; it is not this consumer's; its entry was deleted; or why that cannot be said."""


class LimitSpec(NamedTuple):
    """One limit that is asked: its name, what it is, ms between two starts, burst, and how many at once."""

    name: str
    what: str
    interval: float
    burst: int
    most: int


class PermitRequest(NamedTuple):
    """A delivery that asks: its source, its entry, its delivery count, its limit, its key, the hand-overs so far."""

    source: str
    entry_id: bytes
    held: int
    limit: str
    key: bytes
    deliveries: int


async def admit(
    call: Call, keys: Keys, *, group: str, consumer: str, limits: Iterable[LimitSpec], asks: Sequence[PermitRequest]
) -> tuple[int, list[Answer]]:
    """Asks for a batch; returns the ms until somebody in line may be let in (-1: nobody waits for that), and an answer
    to each.
    """
    sources = {source: number for number, source in enumerate(dict.fromkeys(ask.source for ask in asks), 1)}
    asked = {limit.name: (number, limit) for number, limit in enumerate(dict.fromkeys(limits), 1)}
    arguments: list[Value] = [group, consumer, round(GOOD_FOR * 1000), LIMITED_MS, len(asked)]
    for _, limit in asked.values():
        arguments += (limit.name, limit.what, repr(limit.interval), limit.burst, limit.most)
    for ask in asks:
        arguments += (
            sources[ask.source], ask.entry_id, ask.held, asked[ask.limit][0], ask.key, ask.deliveries,
        )  # fmt: skip
    names = (
        keys.due(), keys.waiting(), keys.groups(), keys.inbox(group), keys.limits(group), *sources, keys.ledger()
    )  # fmt: skip
    wait, *answers = await run(call, ADMIT, names, arguments)
    return wait, [text(answer) if isinstance(answer, bytes) else answer for answer in answers]


async def serve(call: Call, keys: Keys, *, group: str) -> tuple[int, str]:
    """Lets in who stands in line, where time has passed; returns the ms until the next may be, or -1, and why some
    limit cannot be served.
    """
    names = (keys.due(), keys.waiting(), keys.groups(), keys.limits(group), keys.paused(), keys.ledger())
    wait, damaged = await run(call, SERVE_LIMITS, names, (group, _LOOKED_AT))
    return wait, text(damaged)


async def repair(redis: Any, keys: Keys, *, group: str, release_all: bool = False) -> tuple[int, int]:
    """Takes what is nowhere any more out of every limit of a group; with `disband` lets everybody in line go, for a
    processor without limits. Returns how many of each.
    """
    names = await redis.zrange(keys.limits(group), 0, -1)
    if not names:
        return 0, 0
    reads = keys.registry({group.encode(): await redis.hget(keys.groups(), group) or b""}).get(group, [])
    every = (
        keys.due(), keys.waiting(), keys.groups(), keys.inbox(group), keys.limits(group), *reads, keys.ledger()
    )  # fmt: skip
    lost = freed = 0
    for name in names:
        one = await run(redis.execute_command, MEND_LIMIT, every, (group, name, int(release_all)))
        lost, freed = lost + one[0], freed + one[1]
    return lost, freed
