"""Reset tokens: the secret in a password reset link. Made when the mail is sent, kept as a hash, good for one use.

The stream carries `reset_id` only. The token exists in the mail and, until the handler returns, in its memory; Redis
holds its SHA-256 under `own:email:reset:<hash of reset_id>` until the reset expires. A token has 256 random bits, so
a plain hash is enough: there is nothing to guess.
"""

from __future__ import annotations

import secrets
from datetime import datetime
from hashlib import sha256
from hmac import compare_digest
from typing import Any, Final

from redis.asyncio import Redis

from streams.keys import Keys

_BYTES: Final = 32


def _key(keys: Keys, reset_id: str) -> str:
    return keys.own("email", "reset", sha256(reset_id.encode()).hexdigest())


async def mint(redis: Redis, keys: Keys, reset_id: str, expires_at: datetime) -> str | None:
    """Makes a token for this reset and stores its hash until `expires_at`; None when that has passed.

    Redis' clock decides, because it also ends the key. A token made earlier for the same reset is replaced: only
    the link in the newest mail works.
    """
    client: Any = redis
    expires_ms = int(expires_at.timestamp() * 1000)
    seconds, microseconds = await client.time()
    if expires_ms <= seconds * 1000 + microseconds // 1000:
        return None
    token = secrets.token_urlsafe(_BYTES)
    await client.set(_key(keys, reset_id), sha256(token.encode()).hexdigest(), pxat=expires_ms)
    return token


async def verify(redis: Redis, keys: Keys, reset_id: str, token: str) -> bool:
    """Says whether `token` is the one mailed for `reset_id`, and uses it up: of all callers one is told True.

    The application calls it when the person has chosen a new password. A wrong token uses nothing up, or whoever
    knows a `reset_id` could spoil the reset of somebody else.
    """
    client: Any = redis
    key = _key(keys, reset_id)
    stored = await client.get(key)
    given = sha256(token.encode(errors="surrogatepass")).hexdigest().encode()
    if stored is None or not compare_digest(stored, given):
        return False
    return bool(await client.delete(key) == 1)
