"""Turns: one message of an ordering key at a time, in the order of the stream, for a processor that asks for it.

Whose turn it is is decided as a message is read, in the script that reads. Who comes while another message of its key
is in hand, or waits for its retry, stands in line: with what waits, never due, until the script that settles the one
before gives it its turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog

from streams import chores, scripts

if TYPE_CHECKING:
    from streams.keys import Keys
    from streams.scripts import Call

log = structlog.get_logger("streams.turns")


class Turns:
    """The turns of one group in one partition."""

    def __init__(self, keys: Keys, group: str) -> None:
        self._keys = keys
        self._group = group

    async def read(self, call: Call, consumer: str, sources: list[str], most: int, block_ms: int) -> Any:
        """Reads what is there and whose turn it is, as XREADGROUP would answer; waits for more when there is nothing.

        It waits by a plain XREAD, which takes nothing, since a script cannot wait: the first to be back reads.
        """
        while True:
            number, found, last = await scripts.read_in_turn(
                call,
                due=self._keys.due(),
                waiting=self._keys.waiting(),
                turns=self._keys.turns(self._group),
                inbox=self._keys.inbox(self._group),
                books=self._keys.books(),
                streams=sources,
                group=self._group,
                consumer=consumer,
                most=most,
            )
            if found:
                return found
            if not number:
                await call(b"XREAD", b"COUNT", 1, b"BLOCK", block_ms, b"STREAMS", *sources, *last)
                return None

    async def mend(self, redis: Any, *, disband: bool = False) -> int:
        """Passes on the turns of messages that are nowhere any more, because somebody deleted them; returns how many.

        With `disband`, all of them, until no line is left: for a processor that is not ordered any more.
        """
        passed = 0
        turns: dict[bytes, bytes] = await redis.hgetall(self._keys.turns(self._group))
        for key, origin in turns.items():
            source, _, entry_id = origin.decode("utf-8", "replace").rpartition(" ")
            if not source.startswith(f"{self._keys.tag}:"):
                source = self._keys.inbox(self._group)
            if await chores.mend_turn(
                redis.execute_command,
                due=self._keys.due(), waiting=self._keys.waiting(), groups=self._keys.groups(),
                turns=self._keys.turns(self._group), inbox=self._keys.inbox(self._group), source=source,
                books=self._keys.books(), group=self._group, key=key, origin=origin, entry_id=entry_id,
                disband=disband,
            ):  # fmt: skip
                passed += 1
        if disband and turns:
            passed += await self.mend(redis, disband=True)
        elif passed:
            log.error("turn.lost", group=self._group, count=passed)
        return passed
