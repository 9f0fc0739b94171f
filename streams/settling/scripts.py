"""Scripts: the typed door to those that settle, move what is due, and keep the order per key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from streams.messages.message import FIELDS_MOST, NAME_MOST
from streams.redis.keys import HISTORY_LENGTH, NEVER_MS
from streams.redis.script import Call, Script, Value, _by_position, run
from streams.redis.untrusted import text

if TYPE_CHECKING:
    from streams.redis.keys import Keys
    from streams.redis.script import Refusals

MEND_TURN: Final = Script.load("settling/repair_order")
DROP_WAITING: Final = Script.load("settling/drop_waiting")


async def repair_order(
    call: Call,
    keys: Keys,
    *,
    source: str,
    group: str,
    key: bytes,
    whose: bytes,
    entry_id: str,
    release_all: bool,
    waiting_id: str,
    seen: bytes,
) -> bool:
    """Passes on the turn of a message that is nowhere any more (with `disband`, of any); False if it has none. It would
    wait under `waiting_id`, and is not in the inbox up to the entry `seen`.
    """
    names = (
        keys.due(), keys.waiting(), keys.groups(), keys.turns(group), keys.inbox(group), source, keys.ledger(),
    )  # fmt: skip
    return bool(await run(call, MEND_TURN, names, (group, key, whose, entry_id, int(release_all), waiting_id, seen)))


async def drop_waiting(call: Call, keys: Keys, *, group: str, ids: Sequence[Value]) -> int:
    """Drops what waits under `ids` for a group that is not registered any more; returns how many."""
    names = (keys.due(), keys.waiting(), keys.groups(), keys.ledger())
    dropped: int = await run(call, DROP_WAITING, names, (group, keys.inbox(group), *ids))
    return dropped


UNCUT: Final = 2**40
"""Bytes of an entry that no entry has: it is handed over as it is."""
SETTLE: Final = Script.load("settling/settle")
RELEASE_DUE: Final = Script.load("settling/release_due")
READ_IN_TURN: Final = Script.load("settling/read_ordered")
PEEK_WAITING: Final = Script.load("settling/peek_waiting")
BRING_FORWARD: Final = Script.load("settling/bring_forward")


async def settle(
    call: Call,
    keys: Keys,
    *,
    streams: Sequence[str],
    group: str,
    consumer: str,
    turns: str,
    limits: str,
    operations: Sequence[Value],
) -> tuple[list[int], Refusals]:
    """Settles a batch (of an ordered group when `turns` is its key, of one with limits when `limits` is); returns the
    positions (from 1) that were not this consumer's any more, and those that Redis refused: they are as they were.
    """
    names = (
        keys.due(), keys.waiting(), keys.dead(group), keys.history(group), keys.groups(), *streams, keys.ledger(),
    )  # fmt: skip
    lost, refused = await run(call, SETTLE, names, (group, consumer, HISTORY_LENGTH, turns, limits, *operations))
    return lost, _by_position(refused, 0)


async def read_in_turn(
    call: Call, keys: Keys, *, streams: Sequence[str], group: str, consumer: str, most: int, cut: int = UNCUT
) -> tuple[int, list[Any], list[bytes]]:
    """Reads for an ordered group; returns how many were read, those whose turn it is in the form of XREADGROUP, and,
    when nothing was read, the last delivered id of each stream.
    """
    names = (keys.due(), keys.waiting(), keys.turns(group), keys.inbox(group), *streams, keys.ledger())
    arguments = (group, consumer, most, NEVER_MS, cut, 2 * FIELDS_MOST, NAME_MOST)
    number, found, last = await run(call, READ_IN_TURN, names, arguments)
    return number, found, last


async def release_due(call: Call, keys: Keys, *, most: int) -> tuple[int, int, int, list[bytes], dict[str, str]]:
    """Moves what is due; returns (moved, ms until the next or -1, members that cannot be moved, the next member and its
    score, why some of them cannot be).
    """
    names = (keys.due(), keys.waiting(), keys.groups(), keys.ledger())
    moved, wait, broken, head, shown = await run(call, RELEASE_DUE, names, (most,))
    return moved, wait, broken, head, {text(shown[at]): text(shown[at + 1]) for at in range(0, len(shown), 2)}


async def peek_waiting(
    call: Call, keys: Keys, ids: Sequence[Value], *, event_id: str = ""
) -> list[tuple[bytes, int, bytes, list[bytes]]]:
    """Reads what waits under `ids`; returns (waiting id, due in ms since 1970, key it waits for, fields) of those that
    still wait and, when `event_id` is given, carry it. Without one, what cannot be read has an empty key.
    """
    found = await run(call, PEEK_WAITING, (keys.due(), keys.waiting()), (event_id, *ids))
    return [(waiting_id, due_ms, key, fields) for waiting_id, due_ms, key, fields in found]


async def bring_forward(call: Call, keys: Keys, *, ids: Sequence[Value]) -> int:
    """Makes due at once what waits under `ids`; returns how many of them waited for later."""
    count: int = await run(call, BRING_FORWARD, (keys.due(),), ids)
    return count
