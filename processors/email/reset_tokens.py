"""Reset tokens: the secret in a password reset link. Made when the mail is sent, kept as a hash, good for one use.

The stream carries `reset_id` only. The token exists in the mail and, until the handler returns, in its memory. Redis
holds, for each reset, two keys under `own:email:reset:<hash of reset_id>`:

- `:address`, written first and never changed by another event: the SHA-256 of the address that the reset is for, and
  the time in ms after which no token of it works. It stays when the token is used, as `used`.
- `:token`, the SHA-256 of the token in the newest mail. A token has 256 random bits, so a plain hash is enough:
  there is nothing to guess.

A `reset_id` is no secret: it stands in streams, logs and links. Without the first key, an event with the same
`reset_id` and another address would send a working token there.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from hashlib import sha256
from hmac import compare_digest
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis

from streams import DeadLetter
from streams.keys import Keys

LONGEST: Final = 24 * 3600 * 1000
"""The longest life of a reset in ms, from its first mail on, whatever its event says."""

_BYTES: Final = 32
_USED: Final = b"used"


class Token(NamedTuple):
    """A token, and until when its link works."""

    text: str
    until: datetime


async def mint(redis: Redis, keys: Keys, reset_id: str, email: str, expires_at: datetime) -> Token | None:
    """Makes a token for this reset and address and stores its hash until `expires_at`, for 24 h at most; None when that
    has passed, or when the reset was used.

    Redis' clock decides, because it also ends the keys. A token made earlier for the same reset is replaced: only the
    link in the newest mail works, and no longer than 24 h from the first. Raises `DeadLetter` when the reset is for
    another address.
    """
    client: Any = redis
    binding, place = _keys(keys, reset_id)
    address = _address_hash(email)
    seconds, microseconds = await client.time()
    now = seconds * 1000 + microseconds // 1000
    end = now + LONGEST
    if int(expires_at.timestamp() * 1000) <= now:
        return None
    first = await client.set(binding, b"%b %d" % (address, end), px=LONGEST, nx=True, get=True)
    if first == _USED:
        return None
    if first is not None:
        bound, _, known_end = first.partition(b" ")
        if not compare_digest(bound, address):
            raise DeadLetter("this reset_id is for another address: a reset is for the one it was asked for first")
        end = int(known_end)
    until = min(int(expires_at.timestamp() * 1000), end)
    token = secrets.token_urlsafe(_BYTES)
    await client.set(place, _hash(token), pxat=until)
    return Token(token, datetime.fromtimestamp(until / 1000, UTC))


async def verify(redis: Redis, keys: Keys, reset_id: str, token: str, *, email: str | None = None) -> bool:
    """Says whether `token` is the one mailed for `reset_id`, and uses the reset up: of all callers one is told True.

    The application calls it when the person has chosen a new password, with the address of the account that it is
    about to change: a token that was mailed to another address is refused. A wrong token uses nothing up, or whoever
    knows a `reset_id` could spoil the reset of somebody else.
    """
    client: Any = redis
    binding, place = _keys(keys, reset_id)
    bound, stored = await client.get(binding), await client.get(place)
    if bound is None or bound == _USED or stored is None or not compare_digest(stored, _hash(token)):
        return False
    if email is not None and not compare_digest(bound.partition(b" ")[0], _address_hash(email)):
        return False
    if await client.delete(place) != 1:
        return False
    await client.set(binding, _USED, xx=True, keepttl=True)
    return True


def _keys(keys: Keys, reset_id: str) -> tuple[str, str]:
    name = sha256(reset_id.encode(errors="surrogatepass")).hexdigest()
    return keys.own("email", "reset", name, "address"), keys.own("email", "reset", name, "token")


def _address_hash(email: str) -> bytes:
    """Of an address as an event has it: the case of its domain says nothing."""
    local, _, domain = email.rpartition("@")
    return _hash(f"{local}@{domain.lower()}")


def _hash(text: str) -> bytes:
    return sha256(text.encode(errors="surrogatepass")).hexdigest().encode()
