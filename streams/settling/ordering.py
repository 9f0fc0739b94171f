"""Ordering: one message of an ordering key at a time, in the order of the stream, for a processor that asks for it.

The script that reads a message decides whether it is the head of its key. A message that comes while another one of its
key is held, or waits for its retry, is kept with the waiting messages, never due, until the script that settles the one
before makes it the head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from streams.logs import get_logger
from streams.redis.untrusted import text
from streams.settling import scripts
from streams.settling import scripts as settling_scripts

if TYPE_CHECKING:
    from streams.redis.keys import Keys
    from streams.redis.script import Call

log = get_logger("streams.ordering")

_PAGE: Final = 100


class Ordering:
    """The turns of one group in one partition."""

    def __init__(self, keys: Keys, group: str) -> None:
        self._keys = keys
        self._group = group

    @property
    def order(self) -> Sequence[str]:
        """The keys with which reclaiming asks whose turn it is."""
        keys = self._keys
        return keys.due(), keys.waiting(), keys.turns(self._group), keys.inbox(self._group), keys.ledger()

    async def read(self, call: Call, consumer: str, sources: list[str], most: int, block_ms: int, cut: int) -> Any:
        """Reads what is there and whose turn it is, as XREADGROUP would answer; waits for more when there is nothing.

        It waits by a plain XREAD, which takes nothing, since a script cannot wait: the first to be back reads.
        """
        while True:
            number, found, last = await scripts.read_in_turn(
                call, self._keys, streams=sources, group=self._group, consumer=consumer, most=most, cut=cut
            )
            if found:
                return found
            if not number:
                await call(b"XREAD", b"COUNT", 1, b"BLOCK", block_ms, b"STREAMS", *sources, *last)
                return None

    async def repair(self, redis: Any, *, release_all: bool = False) -> int:
        """Passes on the turns of messages that are nowhere any more, because somebody deleted them; returns how many.

        With `disband`, all of them, until no line is left: for a processor that is not ordered any more.
        """
        passed = 0
        turns: dict[bytes, bytes] = await redis.hgetall(self._keys.turns(self._group))
        there, seen = (set[bytes](), b"0-0") if release_all or not turns else await self._in_inbox(redis)
        for key, whose in turns.items():
            if whose in there:
                continue
            source, _, entry_id = text(whose).partition("#")[0].rpartition(" ")
            if not source.startswith(f"{self._keys.tag}:"):
                source = self._keys.inbox(self._group)
            if await settling_scripts.repair_order(
                redis.execute_command,
                self._keys,
                source=source,
                group=self._group,
                key=key,
                whose=whose,
                entry_id=entry_id,
                release_all=release_all,
                waiting_id=waiting_id(self._keys, self._group, text(whose)),
                seen=seen,
            ):
                passed += 1
        if release_all and passed:
            passed += await self.repair(redis, release_all=True)
        elif passed and not release_all:
            log.error("order.head_lost", group=self._group, count=passed)
        return passed

    async def _in_inbox(self, redis: Any) -> tuple[set[bytes], bytes]:
        """Who of those in the inbox may have a turn, and its last entry by then: a look at it page by page, for all
        turns. The script that mends one looks at what has come since, and at what waits.
        """
        found, start, seen = set[bytes](), "-", b"0-0"
        inbox = self._keys.inbox(self._group)
        while entries := await redis.xrange(inbox, start, "+", count=_PAGE):
            found.update(_whose(fields) for _, fields in entries)
            seen = entries[-1][0]
            start = f"({seen.decode()}"
        return found, seen


def waiting_id(keys: Keys, group: str, whose: str) -> str:
    """Under what a message waits for its group: where it was first, and which replay of it it is."""
    return f"{group} {keys.short(whose)}"


def _whose(fields: dict[bytes, bytes]) -> bytes:
    origin, replays = fields.get(b"origin", b""), fields.get(b"replays", b"0")
    return origin if replays in (b"", b"0") else origin + b"#" + replays
