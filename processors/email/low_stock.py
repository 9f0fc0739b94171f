"""LowStock: the low-stock alerts of one business that wait to be mailed together.

A stock check, an import or a sync can find hundreds of products below their threshold within seconds. Each is an event;
the people want one mail. Redis keeps, under `own:email:low:<business>`:

- `:waiting`, a hash of alerts by the id of their event, with the event that came first (`leader`) and when (`since`);
- `:taken:<hash>`, what one `StockAlertsDue` has taken of it, for that event to find again when it is tried again;
- `:mailed`, a sorted set of the ids that were taken, so that a redelivered alert does not begin another mail.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Final, NamedTuple

import orjson
from redis.asyncio import Redis

from streams.redis import Keys

_KEPT: Final = 7 * 86_400_000  # milliseconds, as the marks in `send_marker`

# The event that came first asks for the mail, also when it is delivered again. Should that be lost (it was cancelled),
# one that finds it overdue asks.
_ADD: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if redis.call('ZSCORE', KEYS[2], ARGV[1]) then return -1 end
redis.call('HSET', KEYS[1], 'a:' .. ARGV[1], ARGV[2])
redis.call('HSETNX', KEYS[1], 'leader', ARGV[1])
redis.call('HSETNX', KEYS[1], 'since', now)
redis.call('PEXPIRE', KEYS[1], ARGV[4])
if redis.call('HGET', KEYS[1], 'leader') == ARGV[1] then return 1 end
if now - redis.call('HGET', KEYS[1], 'since') > 2 * ARGV[3] + 60000 then return 1 end
return 0
"""
_TAKE: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if redis.call('EXISTS', KEYS[3]) == 0 then
  local since = redis.call('HGET', KEYS[1], 'since')
  if not since then return {0, {}} end
  if since + ARGV[1] > now then return {since + ARGV[1] - now, {}} end
  for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
    if string.sub(name, 1, 2) == 'a:' then redis.call('ZADD', KEYS[2], now, string.sub(name, 3)) end
  end
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - ARGV[2])
  redis.call('PEXPIRE', KEYS[2], ARGV[2])
  redis.call('RENAME', KEYS[1], KEYS[3])
  redis.call('PEXPIRE', KEYS[3], ARGV[2])
end
return {0, redis.call('HGETALL', KEYS[3])}
"""


class Alert(NamedTuple):
    """One item that is below its threshold. `event_id` is that of its event; `name` and `business` may be empty."""

    event_id: str
    sku: str
    quantity: int
    threshold: int
    name: str
    business: str


class LowStock:
    """The alerts of one business. They wait for `seconds` from the first on."""

    def __init__(self, redis: Redis, keys: Keys, business_id: int, *, seconds: float) -> None:
        self._redis: Any = redis
        self._milliseconds = int(seconds * 1000)
        place = keys.own("email", "low", str(business_id))
        self._waiting, self._mailed, self._taken = f"{place}:waiting", f"{place}:mailed", f"{place}:taken:"

    async def add(self, alert: Alert) -> bool | None:
        """Lets an alert wait; says whether its event has to ask for the mail. None: it was taken for a mail before."""
        asks = await self._redis.eval(
            _ADD, 2, self._waiting, self._mailed, alert.event_id, orjson.dumps(alert[1:]), self._milliseconds, _KEPT
        )
        return None if asks == -1 else asks == 1

    async def take(self, due_id: str) -> list[Alert] | float:
        """What is to be mailed about for the event `due_id`, the same on every try; or the seconds to wait for it."""
        taken = f"{self._taken}{sha256(due_id.encode(errors='replace')).hexdigest()}"
        wait, found = await self._redis.eval(_TAKE, 3, self._waiting, self._mailed, taken, self._milliseconds, _KEPT)
        if wait:
            return float(wait) / 1000
        named = dict(zip(found[::2], found[1::2], strict=True))
        alerts = [
            Alert(name[2:].decode(errors="replace"), *orjson.loads(value))
            for name, value in named.items()
            if name.startswith(b"a:")
        ]
        return sorted(alerts, key=lambda alert: (alert.quantity / max(alert.threshold, 1), alert.sku))
