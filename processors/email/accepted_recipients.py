"""AcceptedRecipients: the recipients who have a mail that the server refused for others of them for now.

The next try is for the others alone: sending to all again would reach some twice, and not trying again none.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Final

from redis.asyncio import Redis

from streams.redis import Keys

_KEPT: Final = 7 * 86_400  # seconds, as the marks in `send_marker`


class AcceptedRecipients:
    """Those of one mail, by its Message-ID; addresses are hashed. A replay (`replays`) is for all of them again."""

    def __init__(self, redis: Redis, keys: Keys, message_id: str, *, replays: int) -> None:
        self._redis: Any = redis
        self._key = keys.own("email", "reached", sha256(f"{message_id} {replays}".encode()).hexdigest())

    async def of(self, recipients: tuple[str, ...]) -> frozenset[str]:
        """Those of the recipients who have it."""
        known = await self._redis.smembers(self._key)
        return frozenset(address for address in recipients if _hash(address) in known)

    async def add(self, recipients: tuple[str, ...]) -> None:
        """Notes that these have it."""
        if not recipients:
            return
        await self._redis.sadd(self._key, *(_hash(address) for address in recipients))
        await self._redis.expire(self._key, _KEPT)


def _hash(address: str) -> bytes:
    return sha256(address.encode()).hexdigest().encode()
