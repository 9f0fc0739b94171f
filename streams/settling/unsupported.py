"""Unsupported: messages that wait because the code of their group does not know their version yet.

They are found by their fields, not by this process' own classes: the process that asks may have been deployed already.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from streams.messages.message import Message
from streams.redis.keys import came_back
from streams.redis.partition import Reads
from streams.redis.refusal import refusing, unless_odd
from streams.redis.untrusted import text, written
from streams.settling import scripts

if TYPE_CHECKING:
    from streams.app import App
    from streams.redis.partition import Partition

_MOST: Final = 1_000  # of each partition: to know that there are some is enough
_PAGES: Final = 5  # of 1,000: a bound of what one look costs, each minute
_AT_ONCE: Final = 100
_LONGEST_WAIT: Final = 3_700  # seconds until the next look at one of them, and a little


@dataclass(frozen=True, slots=True)
class UnsupportedMessages:
    """Messages of one type and version that a group has put aside; `since` is when it met the oldest of them."""

    group: str
    type: str
    version: int
    count: int
    since: datetime


async def newer_than_code(client: App) -> list[UnsupportedMessages]:
    """What waits for a deploy, by group, type and version, among the 1,000 of each partition that are due first."""
    found: dict[tuple[str, str, int], list[datetime]] = {}
    for partition in client.partitions:
        with refusing(partition.connections):
            for key, since in await _in(partition):
                found.setdefault(key, []).append(since)
    return [UnsupportedMessages(*key, len(since), min(since)) for key, since in sorted(found.items())]


async def bring_forward(partition: Partition, group: str, known: Mapping[str, int]) -> int:
    """Makes due at once what waits for code that knows its version, of types and versions that are `known` now: since
    it was put aside longer and longer, it would otherwise wait up to an hour after the deploy. Returns how many.
    """
    mine = f"{group} ".encode()
    redis = partition.redis
    found = []
    for page in range(_PAGES):
        ids = await _soon(partition, page * _MOST)
        async for waiting_id, message in _put_aside(partition, [each for each in ids if each.startswith(mine)]):
            if 0 < message.version <= known.get(message.type, 0):
                found.append(waiting_id)
        if len(ids) < _MOST:
            break
    return sum(
        [
            await scripts.bring_forward(redis.execute_command, partition.keys, ids=found[at : at + _MOST])
            for at in range(0, len(found), _MOST)
        ]
    )


async def _in(partition: Partition) -> list[tuple[tuple[str, str, int], datetime]]:
    found = []
    async for waiting_id, message in _put_aside(partition, await _soon(partition, 0)):
        group = text(waiting_id).partition(" ")[0]
        assert message.carried is not None
        since = written(message.carried.first_failed, datetime.now(UTC))
        found.append(((group, message.type, message.version), since))
    return found


async def _soon(partition: Partition, start: int) -> list[bytes]:
    """What is due within the longest time between two looks, due first: at most 1,000 from the `start`th on."""
    within = max(2 * partition.settings.unsupported_every, _LONGEST_WAIT) * 1000
    soon = await Reads(partition).now_ms() + within
    due = partition.keys.due()
    return await unless_odd(partition.redis.zrangebyscore(due, "-inf", soon, start=start, num=_MOST)) or []


async def _put_aside(partition: Partition, ids: Sequence[bytes]) -> AsyncIterator[tuple[bytes, Message]]:
    """Those of them that wait for code that knows their version."""
    keys, call = partition.keys, partition.redis.execute_command
    for at in range(0, len(ids), _AT_ONCE):
        waiting = await scripts.peek_waiting(call, keys, ids=ids[at : at + _AT_ONCE])
        for waiting_id, _, key, fields in waiting:
            message = Message.decode(b"0-0", fields, came_back=came_back(key))
            carried = message.carried
            # Nothing else gives a message a first failure but no error: see `Snoozed.first_seen`.
            if carried is not None and carried.first_failed and not carried.failures and not carried.errors:
                yield waiting_id, message
