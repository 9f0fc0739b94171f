"""AlertThrottle: at most one low-stock mail per business, SKU and window of time."""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Final

from redis.asyncio import Redis

from streams.redis import Keys

# Deletes the key only while it still holds our event: between a GET and a DEL of ours the window could have expired
# and been claimed by another event, whose mail would then be sent twice.
_RELEASE: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


class AlertThrottle:
    """The claim of one event on the only mail about one SKU of one business within `seconds`.

    Redis keeps it as one string with a TTL: the claiming event's id, hashed because ids come from outside.
    """

    def __init__(self, redis: Redis, keys: Keys, *, business_id: int, sku: str, event_id: str, seconds: int) -> None:
        self._redis: Any = redis
        self._key = keys.own("email", "stock", sha256(f"{business_id}\0{sku}".encode()).hexdigest())
        self._claim = sha256(event_id.encode()).hexdigest().encode()
        self._milliseconds = seconds * 1000

    async def claim(self) -> bool:
        """Claims the window, or finds out that this very event already has it (a redelivery or a replay)."""
        holder = await self._redis.set(self._key, self._claim, nx=True, get=True, px=self._milliseconds)
        return holder is None or holder == self._claim

    async def release(self) -> None:
        """Gives the claim up because no mail left, so that the next event about the SKU may speak."""
        await self._redis.eval(_RELEASE, 1, self._key, self._claim)
