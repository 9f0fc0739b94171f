"""Newer: messages that wait because the code of their group does not know their version yet.

Found by what they carry, not by this process' own classes: whoever asks may have been deployed already.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from streams import scripts
from streams.entries import refusing
from streams.message import Message
from streams.missing import unless_odd
from streams.tolerant import text, written

if TYPE_CHECKING:
    from streams.client import Streams
    from streams.partition import Partition

_MOST: Final = 1_000  # of each partition: to know that there are some is enough
_AT_ONCE: Final = 100
_LONGEST_WAIT: Final = 3_700  # seconds until the next look at one of them, and a little


@dataclass(frozen=True, slots=True)
class Newer:
    """Messages of one type and version that a group has put aside; `since` is when it met the oldest of them."""

    group: str
    type: str
    version: int
    count: int
    since: datetime


async def newer_than_code(client: Streams) -> list[Newer]:
    """What waits for a deploy, by group, type and version, among the 1,000 of each partition that are due first."""
    found: dict[tuple[str, str, int], list[datetime]] = {}
    for partition in client.partitions:
        with refusing(partition.connections):
            for key, since in await _in(partition):
                found.setdefault(key, []).append(since)
    return [Newer(*key, len(since), min(since)) for key, since in sorted(found.items())]


async def _in(partition: Partition) -> list[tuple[tuple[str, str, int], datetime]]:
    keys, redis = partition.keys, partition.redis
    reader: Any = redis  # its annotations are unions
    seconds, _ = await reader.time()
    soon = (seconds + max(2 * partition.settings.unsupported_every, _LONGEST_WAIT)) * 1000
    ids = iter(await unless_odd(reader.zrangebyscore(keys.due(), "-inf", soon, start=0, num=_MOST)) or ())
    found = []
    while chunk := list(islice(ids, _AT_ONCE)):
        waiting = await scripts.peek_waiting(redis.execute_command, due=keys.due(), waiting=keys.waiting(), ids=chunk)
        for waiting_id, _, key, fields in waiting:
            message = Message.decode(b"0-0", fields, came_back=scripts.came_back(key))
            carried = message.carried
            # Nothing else gives a message a first failure but no error: see `Snoozed.first_seen`.
            if carried is None or carried.failures or carried.errors or not carried.first_failed:
                continue
            group = text(waiting_id).partition(" ")[0]
            since = written(carried.first_failed, datetime.now(UTC))
            found.append(((group, message.type, message.version), since))
    return found
