"""Scripts: the one typed door to the Lua scripts, which alone change state in Redis.

Each function packs its arguments exactly as the header of the script of the same name says. A script is called by
its hash; a server that does not know it (restart, SCRIPT FLUSH) is sent the source.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import chain
from typing import Any, Final

from redis.exceptions import NoScriptError

from streams.keys import (
    HISTORY_LENGTH,
    NEVER_MS,
    ONCE_TTL_MS,
    PRODUCER_TTL_MS,
    PROGRESS_TTL_MS,
    REPORT_TTL_MS,
)
from streams.message import EXPIRES, EXPIRY, FIELDS, FIELDS_MOST, NAME_MOST, Message
from streams.tolerant import text

Call = Callable[..., Awaitable[Any]]
Value = bytes | str | int
Taken = tuple[bytes, int, int, list[bytes]]
"""A reclaimed entry: its id, its delivery count, 1 if this take-over is in the count, its fields."""

Refusals = dict[int, str]
"""What Redis refused of a batch: its position, and why."""
UNCUT: Final = 2**40
"""Bytes of an entry that no entry has: it is handed over as it is."""

_INCLUDE: Final = "-- include "


@dataclass(frozen=True, slots=True)
class Script:
    """One Lua script: its source with what it includes, and its hash."""

    name: str
    source: str
    sha: str

    @classmethod
    def load(cls, name: str) -> Script:
        """Reads `lua/NAME.lua`; a line `-- include FILE` is replaced by that file."""
        folder = files("streams") / "lua"
        lines = (folder / f"{name}.lua").read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines):
            if line.startswith(_INCLUDE):
                lines[number] = (folder / line.removeprefix(_INCLUDE)).read_text(encoding="utf-8")
        source = "\n".join(lines)
        return cls(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())

    def by_hash(self, keys: Sequence[str], arguments: Iterable[Value]) -> tuple[Value, ...]:
        """The EVALSHA command."""
        return ("EVALSHA", self.sha, len(keys), *keys, *arguments)

    def by_source(self, keys: Sequence[str], arguments: Iterable[Value]) -> tuple[Value, ...]:
        """The EVAL command, which also teaches the server the script."""
        return ("EVAL", self.source, len(keys), *keys, *arguments)


PUBLISH: Final = Script.load("publish")
SETTLE: Final = Script.load("settle")
RELEASE_DUE: Final = Script.load("release_due")
RENEW: Final = Script.load("renew")
RECLAIM: Final = Script.load("reclaim")
BEGIN: Final = Script.load("begin")
ENSURE_GROUPS: Final = Script.load("ensure_groups")
RETIRE_CONSUMER: Final = Script.load("retire_consumer")
PAUSE: Final = Script.load("pause")
READ_IN_TURN: Final = Script.load("read_in_turn")
PEEK_WAITING: Final = Script.load("peek_waiting")
BRING_FORWARD: Final = Script.load("bring_forward")
PROGRESS: Final = Script.load("progress")
FETCH: Final = Script.load("fetch")
REPORT: Final = Script.load("report")

_PUBLISH_FIELDS: Final[tuple[Value, ...]] = (len(FIELDS), *FIELDS)
_EXPIRING_FIELDS: Final[tuple[Value, ...]] = (len(FIELDS) + 1, *FIELDS, EXPIRY)


async def run(call: Call, script: Script, keys: Sequence[str], arguments: Sequence[Value]) -> Any:
    """Calls a script over `call(*command)`; raises what Redis answers (`redis.exceptions.RedisError`)."""
    try:
        return await call(*script.by_hash(keys, arguments))
    except NoScriptError:
        return await call(*script.by_source(keys, arguments))


async def publish(
    call: Call,
    *,
    producer: str,
    due: str,
    waiting: str,
    groups: str,
    books: str,
    streams: Sequence[str],
    sequence: int,
    messages: Sequence[Message],
) -> tuple[dict[int, str], Refusals]:
    """Adds a batch once, each message to its `target`; returns, by position (from 0), those left out because their
    `once` was taken, with the id of the event that took it, and those that Redis refused.
    """
    index = {key: number for number, key in enumerate(streams, 1)}
    waits = any(message.when for message in messages)
    expire = any(len(message.values) > EXPIRES for message in messages)
    arguments: list[Value] = [sequence, PRODUCER_TTL_MS, int(waits), *(_EXPIRING_FIELDS if expire else _PUBLISH_FIELDS)]
    for message in messages:
        arguments += (index[message.target], message.when, message.once, message.once and ONCE_TTL_MS)
        arguments += message.values
        if expire and len(message.values) == EXPIRES:
            arguments.append("")
    taken, refused = await run(call, PUBLISH, (producer, due, waiting, groups, *streams, books), arguments)
    return _by_position(taken, 1), _by_position(refused, 1)


def _by_position(flat: list[Any], first: int) -> dict[int, str]:
    return {flat[at] - first: text(flat[at + 1]) for at in range(0, len(flat), 2)} if flat else {}


async def settle(
    call: Call,
    *,
    due: str,
    waiting: str,
    dead: str,
    history: str,
    groups: str,
    books: str,
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
    keys = (due, waiting, dead, history, groups, *streams, books)
    lost, refused = await run(call, SETTLE, keys, (group, consumer, HISTORY_LENGTH, turns, limits, *operations))
    return lost, _by_position(refused, 0)


async def read_in_turn(
    call: Call,
    *,
    due: str,
    waiting: str,
    turns: str,
    inbox: str,
    books: str,
    streams: Sequence[str],
    group: str,
    consumer: str,
    most: int,
    cut: int = UNCUT,
) -> tuple[int, list[Any], list[bytes]]:
    """Reads for an ordered group; returns how many were read, those whose turn it is in the form of XREADGROUP, and,
    when nothing was read, the last delivered id of each stream.
    """
    keys = (due, waiting, turns, inbox, *streams, books)
    arguments = (group, consumer, most, NEVER_MS, cut, 2 * FIELDS_MOST, NAME_MOST)
    number, found, last = await run(call, READ_IN_TURN, keys, arguments)
    return number, found, last


async def release_due(
    call: Call, *, due: str, waiting: str, groups: str, books: str, most: int
) -> tuple[int, int, int, list[bytes], dict[str, str]]:
    """Moves what is due; returns (moved, ms until the next or -1, members that cannot be moved, the next member and its
    score, why some of them cannot be).
    """
    moved, wait, broken, head, shown = await run(call, RELEASE_DUE, (due, waiting, groups, books), (most,))
    return moved, wait, broken, head, {text(shown[at]): text(shown[at + 1]) for at in range(0, len(shown), 2)}


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


async def fetch(call: Call, source: str, *, ids: Sequence[bytes], cut: int) -> list[tuple[bytes, list[bytes]]]:
    """Reads single entries; of one with more than `cut` bytes only what says which it is."""
    return [(entry_id, fields) for entry_id, fields in await run(call, FETCH, (source,), (cut, *ids))]


async def begin(call: Call, source: str, *, group: str, consumer: str, entry_id: bytes, count: int) -> bool:
    """Counts the delivery of a suspect that is about to start; False when it is not ours any more."""
    return bool(await run(call, BEGIN, (source,), (group, consumer, entry_id, count)))


async def ensure_groups(
    call: Call, *, groups: str, books: str, group: str, streams: Sequence[str]
) -> tuple[int, dict[str, str]]:
    """Makes the group at 0 wherever it is missing; returns how many were, and the keys that refuse, with why."""
    made, *refused = await run(call, ENSURE_GROUPS, (groups, *streams, books), (group,))
    return made, {text(refused[at]): text(refused[at + 1]) for at in range(0, len(refused), 2)}


async def retire_consumer(
    call: Call, *, consumers: str, books: str, group: str, consumer: str | bytes, streams: Sequence[str], silent_ms: int
) -> bool:
    """Removes a consumer that holds nothing and has been silent for `silent_ms` (0: do not ask)."""
    return bool(await run(call, RETIRE_CONSUMER, (consumers, *streams, books), (group, consumer, silent_ms)))


async def progress(call: Call, key: str, *, group: str, delivery: str, is_first: bool, report: bytes) -> bool:
    """Keeps how far a delivery has come, and tells it; False when a later delivery of the event reports already."""
    return bool(await run(call, PROGRESS, (key,), (group, delivery, int(is_first), PROGRESS_TTL_MS, report)))


async def peek_waiting(
    call: Call, *, due: str, waiting: str, ids: Sequence[Value], event_id: str = ""
) -> list[tuple[bytes, int, bytes, list[bytes]]]:
    """Reads what waits under `ids`; returns (waiting id, due in ms since 1970, key it waits for, fields) of those that
    still wait and, when `event_id` is given, carry it. Without one, what cannot be read has an empty key.
    """
    found = await run(call, PEEK_WAITING, (due, waiting), (event_id, *ids))
    return [(waiting_id, due_ms, key, fields) for waiting_id, due_ms, key, fields in found]


async def bring_forward(call: Call, *, due: str, ids: Sequence[Value]) -> int:
    """Makes due at once what waits under `ids`; returns how many of them waited for later."""
    count: int = await run(call, BRING_FORWARD, (due,), ids)
    return count


def came_back(key: bytes | str) -> bool:
    """Whether what is in this stream, or waits for it, was written by the engine for one group."""
    return (b"}:inbox:" in key) if isinstance(key, bytes) else "}:inbox:" in key


async def pause(call: Call, *, paused: str, group: str, channel: str, on: bool) -> bool:
    """Pauses a group or lets it go on; False when it was so already."""
    return bool(await run(call, PAUSE, (paused,), (group, int(on), channel)))


async def report(call: Call, *, reports: str, consumer: str, report: bytes) -> None:
    """Writes down what a consumer says of itself; it is kept for a minute."""
    await run(call, REPORT, (reports,), (consumer, report, REPORT_TTL_MS))
