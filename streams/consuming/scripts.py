"""Scripts: the typed door to those of a consumer: join, renew, reclaim, count a delivery, report, leave."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Final

from streams.messages.message import FIELDS_MOST, NAME_MOST
from streams.redis.keys import NEVER_MS, REPORT_TTL_MS
from streams.redis.script import Script, run
from streams.redis.untrusted import text
from streams.settling.scripts import UNCUT

if TYPE_CHECKING:
    from streams.redis.keys import Keys
    from streams.redis.script import Call, Value

Taken = tuple[bytes, int, int, list[bytes]]
"""A reclaimed entry: its id, its delivery count, 1 if this take-over is in the count, its fields."""
RENEW: Final = Script.load("consuming/renew")
RECLAIM: Final = Script.load("consuming/reclaim")
BEGIN: Final = Script.load("consuming/count_delivery")
ENSURE_GROUPS: Final = Script.load("consuming/ensure_groups")
RETIRE_CONSUMER: Final = Script.load("consuming/retire_consumer")
REPORT: Final = Script.load("consuming/write_report")


def renew_arguments(
    consumers: str, group: str, consumer: str, held: dict[str, list[tuple[bytes, int]]]
) -> tuple[list[str], list[Value]]:
    """Packs KEYS and ARGV of `renew`; it is called from the lease thread, over a connection of its own."""
    arguments: list[Value] = [group, consumer]
    for deliveries in held.values():
        arguments.append(len(deliveries))
        arguments += chain.from_iterable(deliveries)
    return [consumers, *held], arguments


async def reclaim(
    call: Call,
    source: str,
    *,
    group: str,
    consumer: str,
    lease_ms: int,
    cursor: bytes,
    most: int,
    suspect: int,
    cut: int = UNCUT,
    order: Sequence[str] = (),
) -> tuple[bytes, list[bytes], list[Taken]]:
    """Takes over a page; returns (next cursor, ids that vanished while pending, what was taken). `order` are the keys
    that the turns of an ordered group need, after the script's first.
    """
    arguments = (group, consumer, lease_ms, cursor, most, suspect, cut, NEVER_MS, 2 * FIELDS_MOST, NAME_MOST)
    following, vanished, taken = await run(call, RECLAIM, (source, *order), arguments)
    return following, vanished, taken


async def begin(call: Call, source: str, *, group: str, consumer: str, entry_id: bytes, count: int) -> bool:
    """Counts the delivery of a suspect that is about to start; False when it is not ours any more."""
    return bool(await run(call, BEGIN, (source,), (group, consumer, entry_id, count)))


async def ensure_groups(call: Call, keys: Keys, *, group: str, streams: Sequence[str]) -> tuple[int, dict[str, str]]:
    """Makes the group at 0 wherever it is missing; returns how many were, and the keys that refuse, with why."""
    made, *refused = await run(call, ENSURE_GROUPS, (keys.groups(), *streams, keys.ledger()), (group,))
    return made, {text(refused[at]): text(refused[at + 1]) for at in range(0, len(refused), 2)}


async def retire_consumer(
    call: Call, keys: Keys, *, group: str, consumer: str | bytes, streams: Sequence[str], silent_ms: int
) -> bool:
    """Removes a consumer that holds nothing and has been silent for `silent_ms` (0: do not ask)."""
    names = (keys.consumers(group), *streams, keys.ledger())
    return bool(await run(call, RETIRE_CONSUMER, names, (group, consumer, silent_ms)))


async def report(call: Call, keys: Keys, *, group: str, consumer: str, report: bytes) -> None:
    """Writes down what a consumer says of itself; it is kept for a minute."""
    await run(call, REPORT, (keys.reports(group),), (consumer, report, REPORT_TTL_MS))
