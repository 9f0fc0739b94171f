"""Chores: the typed door to the scripts of those who look after what is there: trim, retire, replay, edit, cancel,
account.

What `streams/scripts.py` is to the way of an event; a module of its own so that the hot path imports none of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from streams import clock
from streams.keys import CALLS_KEPT, HISTORY_LENGTH
from streams.scripts import Call, Script, Value, run
from streams.tolerant import moment, pairs, text, texts

REPLAY: Final = Script.load("replay")
DISCARD: Final = Script.load("discard")
TRIM: Final = Script.load("trim")
RETIRE_GROUP: Final = Script.load("retire_group")
MEND_TURN: Final = Script.load("mend_turn")
DROP_WAITING: Final = Script.load("drop_waiting")
REPLAY_STEP: Final = Script.load("replay_step")
EDIT: Final = Script.load("edit")
ACCOUNTS: Final = Script.load("accounts")
AGREE_PARTITIONS: Final = Script.load("agree_partitions")
ACCEPT_GAP: Final = Script.load("accept_gap")
FIND_ENTRIES: Final = Script.load("find_entries")
CANCEL: Final = Script.load("cancel")
CANCEL_WAITING: Final = Script.load("cancel_waiting")

_AHEAD_MS: Final = 86_400_000  # as in lua/trim.lua
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}")


class Trimmed(NamedTuple):
    """What one call of `trim` did, and what bounds it: see `lua/trim.lua`."""

    removed: int
    more: bool
    holder: str
    floor: str
    cutoff: str
    told: list[Any]
    age_ms: int = 0
    since: str = ""

    def is_too_old(self, entry: tuple[bytes, list[bytes]]) -> bool:
        """Whether age lets an entry go, by the rule of the script: of an id ahead of the clock its own time counts."""
        if not self.cutoff:
            return False
        entry_id, fields = entry
        milliseconds, cutoff = int(entry_id.partition(b"-")[0]), int(self.cutoff.partition("-")[0])
        if milliseconds < cutoff + self.age_ms + _AHEAD_MS:
            return milliseconds < cutoff
        made = text(pairs(fields).get(b"time", b""))
        return not (_TIME.match(made) and made[:19] >= self.since)


class Holds(NamedTuple):
    """One stream at one moment; `groups` is flat: name, pending, last delivered id, lag (empty when unknown)."""

    length: int
    added: int
    first: str
    last: str
    deleted: str
    groups: list[Any]


async def trim(
    call: Call,
    stream: str,
    *,
    groups: str,
    books: str,
    most: int,
    keep: int | None,
    age_ms: int | None,
    dry_run: bool,
    tell: bytes = b"",
) -> Trimmed:
    """Removes at most `most` entries that every group is through with; with `dry_run` only says what bounds it. Those
    whose data begins with `tell` are told.
    """
    age = "" if age_ms is None else age_ms
    since = "" if age_ms is None else moment(clock.now().timestamp() * 1000 - age_ms).isoformat()[:19]
    arguments = (most, "" if keep is None else keep, age, int(dry_run), tell, since)
    removed, more, holder, floor, cutoff, told = await run(call, TRIM, (stream, groups, books), arguments)
    return Trimmed(removed, bool(more), text(holder), floor.decode(), cutoff.decode(), told, age_ms or 0, since)


async def retire_group(
    call: Call,
    *,
    groups: str,
    consumers: str,
    inbox: str,
    paused: str,
    cancelled: str,
    turns: str,
    limits: str,
    streams: Sequence[str],
    books: str,
    group: str,
    alive_ms: int,
    apply: bool,
) -> tuple[int, int, int, int]:
    """Gives a group up; returns (-1 unknown, 0 unchanged, 1 done; consumers alive; pending; entries in the inbox)."""
    keys = (groups, consumers, inbox, paused, cancelled, turns, limits, *streams, books)
    done, alive, pending, held = await run(call, RETIRE_GROUP, keys, (group, alive_ms, int(apply)))
    return done, alive, pending, held


async def mend_turn(
    call: Call,
    *,
    due: str,
    waiting: str,
    groups: str,
    turns: str,
    inbox: str,
    source: str,
    books: str,
    group: str,
    key: bytes,
    whose: bytes,
    entry_id: str,
    disband: bool,
    waiting_id: str,
    seen: bytes,
) -> bool:
    """Passes on the turn of a message that is nowhere any more (with `disband`, of any); False if it has none. It would
    wait under `waiting_id`, and is not in the inbox up to the entry `seen`.
    """
    keys = (due, waiting, groups, turns, inbox, source, books)
    return bool(await run(call, MEND_TURN, keys, (group, key, whose, entry_id, int(disband), waiting_id, seen)))


async def drop_waiting(
    call: Call, *, due: str, waiting: str, groups: str, books: str, group: str, inbox: str, ids: Sequence[Value]
) -> int:
    """Drops what waits under `ids` for a group that is not registered any more; returns how many."""
    dropped: int = await run(call, DROP_WAITING, (due, waiting, groups, books), (group, inbox, *ids))
    return dropped


async def replay(
    call: Call,
    *,
    dead: str,
    inbox: str,
    groups: str,
    history: str,
    books: str,
    letters: Iterable[tuple[str, list[bytes], list[bytes]]],
) -> int:
    """Sends (entry id, message fields, history record) of dead letters back to their group; returns how many."""
    arguments: list[Value] = [HISTORY_LENGTH]
    for entry_id, fields, record in letters:
        arguments += (entry_id, len(fields), *fields, len(record), *record)
    replayed: int = await run(call, REPLAY, (dead, inbox, groups, history, books), arguments)
    return replayed


async def discard(
    call: Call, *, dead: str, history: str, books: str, letters: Iterable[tuple[str, list[bytes]]]
) -> int:
    """Drops (entry id, history record) of dead letters; returns how many were there."""
    arguments: list[Value] = [HISTORY_LENGTH]
    for entry_id, record in letters:
        arguments += (entry_id, len(record), *record)
    dropped: int = await run(call, DISCARD, (dead, history, books), arguments)
    return dropped


async def replay_step(
    call: Call,
    *,
    replays: str,
    inbox: str,
    groups: str,
    books: str,
    id: str,
    before: bytes,
    after: bytes,
    group: str,
    messages: Iterable[list[bytes]] = (),
) -> int:
    """Takes a replay from one state to the next; 1 when that was done, 0 when it is in another state, -1: no group."""
    arguments: list[Value] = [id, before, after, group]
    for fields in messages:
        arguments += (len(fields), *fields)
    done: int = await run(call, REPLAY_STEP, (replays, inbox, groups, books), arguments)
    return done


async def edit(
    call: Call, *, dead: str, history: str, books: str, entry_id: str, letter: list[bytes], record: list[bytes]
) -> str:
    """Puts a corrected dead letter in the place of one; returns its id, empty when the dead letter is gone."""
    arguments: list[Value] = [HISTORY_LENGTH, entry_id, len(letter), *letter, len(record), *record]
    made: bytes = await run(call, EDIT, (dead, history, books), arguments)
    return made.decode()


async def accounts(
    call: Call, *, books: str, due: str, keys: Sequence[str]
) -> tuple[dict[str, str], int, list[Holds | None]]:
    """Reads the books, the length of `due`, and what each of `keys` holds (None: it is not there), at one moment."""
    flat, waiting, rows = await run(call, ACCOUNTS, (books, due, *keys), ())
    noted = texts(dict(zip(flat[::2], flat[1::2], strict=True)))
    held = [
        Holds(row[0], row[1], row[2].decode(), row[3].decode(), row[4].decode(), row[5]) if row else None
        for row in rows
    ]
    return noted, waiting, held


async def accept_gap(call: Call, *, books: str, gaps: Sequence[tuple[str, int]]) -> int:
    """Takes gaps for known; returns how many."""
    taken: int = await run(call, ACCEPT_GAP, (books,), [part for gap in gaps for part in gap])
    return taken


async def agree_partitions(call: Call, *, partitions: str, books: str, number: int, change: bool = False) -> int:
    """How many partitions the app has: `number` if it is new or to be changed, else what was noted before."""
    holds: int = await run(call, AGREE_PARTITIONS, (partitions, books), (number, int(change)))
    return holds


async def find_entries(
    call: Call, stream: str, *, start: str, end: str, most: int, field: bytes, value: bytes, backward: bool = False
) -> tuple[int, str, list[tuple[bytes, list[bytes]]]]:
    """Looks through at most `most` entries from `start`; returns (looked at, the last id, those with that value)."""
    command = "XREVRANGE" if backward else "XRANGE"
    seen, last, found = await run(call, FIND_ENTRIES, (stream,), (command, start, end, most, field, value))
    return seen, last.decode(), [(entry_id, fields) for entry_id, fields in found]


async def cancel(
    call: Call,
    stream: str,
    *,
    cancellations: str,
    books: str,
    entry_id: str,
    groups: Sequence[tuple[str, str, str, str, list[bytes]]],
    unread: Sequence[bytes] = (),
) -> dict[str, str]:
    """Calls off an entry for (group, its calls, its channel, its history, history record) each; returns the state of
    each: `cancelled`, `cancelling` or `delivered`. Empty when the entry is not there. `unread`, instead of groups, is
    the record of one whose stream no group reads: `cancelled` without a name, or empty when one has begun to.
    """
    arguments: list[Value] = [entry_id, CALLS_KEPT, len(unread), *unread]
    for name, calls, channel, history, record in groups:
        arguments += (name, calls, channel, history, HISTORY_LENGTH, len(record), *record)
    answer = [text(part) for part in await run(call, CANCEL, (stream, cancellations, books), arguments)]
    return dict(zip(answer[::2], answer[1::2], strict=True))


async def cancel_waiting(
    call: Call,
    *,
    due: str,
    waiting: str,
    groups: str,
    cancellations: str,
    books: str,
    waiting_id: str,
    records: Sequence[tuple[str, list[bytes]]],
    delayed: Sequence[bytes] = (),
) -> bool:
    """Calls off what waits under an id, with a record in each (history, record), and of a delayed event `delayed` in
    the cancellations; False when it is gone.
    """
    arguments: list[Value] = [waiting_id, HISTORY_LENGTH, len(delayed), *delayed]
    for history, record in records:
        arguments += (history, len(record), *record)
    return bool(await run(call, CANCEL_WAITING, (due, waiting, groups, cancellations, books), arguments))
