"""Scripts: the typed door to those that replay, discard and edit dead letters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from streams.redis.keys import HISTORY_LENGTH, Keys
from streams.redis.script import Call, Script, Value, run

REPLAY: Final = Script.load("dead_letters/replay_dead_letters")
DISCARD: Final = Script.load("dead_letters/discard")
EDIT: Final = Script.load("dead_letters/edit")


async def replay(call: Call, keys: Keys, *, group: str, letters: Iterable[tuple[str, list[bytes], list[bytes]]]) -> int:
    """Sends (entry id, message fields, history record) of dead letters back to their group; returns how many."""
    arguments: list[Value] = [HISTORY_LENGTH]
    for entry_id, fields, record in letters:
        arguments += (entry_id, len(fields), *fields, len(record), *record)
    names = (keys.dead(group), keys.inbox(group), keys.groups(), keys.history(group), keys.ledger())
    replayed: int = await run(call, REPLAY, names, arguments)
    return replayed


async def discard(call: Call, keys: Keys, *, group: str, letters: Iterable[tuple[str, list[bytes]]]) -> int:
    """Drops (entry id, history record) of dead letters; returns how many were there."""
    arguments: list[Value] = [HISTORY_LENGTH]
    for entry_id, record in letters:
        arguments += (entry_id, len(record), *record)
    dropped: int = await run(call, DISCARD, (keys.dead(group), keys.history(group), keys.ledger()), arguments)
    return dropped


async def edit(call: Call, keys: Keys, *, group: str, entry_id: str, letter: list[bytes], record: list[bytes]) -> str:
    """Puts a corrected dead letter in the place of one; returns its id, empty when the dead letter is gone."""
    arguments: list[Value] = [HISTORY_LENGTH, entry_id, len(letter), *letter, len(record), *record]
    made: bytes = await run(call, EDIT, (keys.dead(group), keys.history(group), keys.ledger()), arguments)
    return made.decode()
