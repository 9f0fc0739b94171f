"""SendMarker: the mark in Redis of one mail, so that it is not sent a second time unless a replay asks for it.

A mail cannot be taken back, and its server keeps no promise to see a second copy. So before the content goes out a mark
says that it does, and after the server's reply another one says that it has it. A later process, also after a
SIGKILL, finds one of the two.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Final, Literal

from redis.asyncio import Redis

from streams.redis import Keys

Known = Literal["", "begun", "sent"]

_KEPT: Final = 7 * 86_400_000
"""Milliseconds: longer than any delivery of an event stays with a dead process, and than most outages."""

# Takes the mark over only if it still is what was read: of two processes that found the same one sends.
_BEGIN: Final = """
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
"""


class Taken(Exception):
    """Another process has begun to send the same mail, a moment ago."""


class SendMarker:
    """The mark of one mail, by its Message-ID (hashed, its left half may be a stranger's).

    `replays` counts those of its event. A mark with another count says nothing: a replayed mail is to be sent.
    """

    def __init__(self, redis: Redis, keys: Keys, message_id: str, *, replays: int) -> None:
        self._redis: Any = redis
        self._key = keys.own("email", "mail", sha256(message_id.encode()).hexdigest())
        self._replays = replays
        self._found = ""

    async def known(self) -> Known:
        """What is known of it: nothing, that its content was on its way, or that the server has it."""
        self._found = (await self._redis.get(self._key) or b"").decode()
        word, _, replays = self._found.partition(" ")
        if replays != str(self._replays):
            return ""
        return "sent" if word == "sent" else "begun"

    async def begin(self) -> None:
        """Says that the content goes out now. Raises `Taken` when another process has said so since `known`."""
        begun = f"begun {self._replays}"
        if not await self._redis.eval(_BEGIN, 1, self._key, self._found, begun, _KEPT):
            raise Taken("another process is sending it")

    async def end(self) -> None:
        """Says that the server has it."""
        await self._redis.set(self._key, f"sent {self._replays}", px=_KEPT)

    async def undo(self) -> None:
        """Says that the server has refused it: nothing was sent."""
        await self._redis.delete(self._key)
