"""Reset tokens: the secret in a password reset link. Made when the mail is sent, kept as a hash, good for one use.

The stream carries `reset_id` only. The token exists in the mail and, until the handler returns, in its memory. Redis
holds, for each reset, two keys under `own:email:reset:<hash of reset_id>`:

- `:address`, written first and never changed by another event: the SHA-256 of the address that the reset is for, and
  the time in ms after which no token of it works. It stays when the token is used, as `used`.
- `:tokens`, the SHA-256 of the token in the newest mail, and of the one in a mail that is on its way. A token has 256
  random bits, so a plain hash is enough: there is nothing to guess.

A mail may fail, or be held, after its token was made. So a new token works beside the earlier ones until the outcome
of its mail is known: `mailed` ends the earlier ones, `not_mailed` the new one.

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
from streams.redis import Keys

LONGEST: Final = 24 * 3600 * 1000
"""The longest life of a reset in ms, from its first mail on, whatever its event says."""

_BYTES: Final = 32
_USED: Final = b"used"
# A script, or a token without an end could be left. KEYS[1]: `:tokens`; ARGV: the hash of a token, its life in ms.
# Returns the hashes of those before it.
_ADD: Final = """
local earlier = redis.call('SMEMBERS', KEYS[1])
redis.call('SADD', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return earlier
"""


class Token(NamedTuple):
    """A token, until when its link works, and the hashes of those that were made before it."""

    text: str
    until: datetime
    earlier: frozenset[bytes] = frozenset()


async def mint(redis: Redis, keys: Keys, reset_id: str, email: str, expires_at: datetime) -> Token | None:
    """Makes a token for this reset and address and stores its hash until `expires_at`, for 24 h at most; None when that
    has passed, or when the reset was used.

    Redis' clock decides, because it also ends the keys: no token works longer than 24 h from the first. Raises
    `DeadLetter` when the reset is for another address.
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
    earlier = await client.eval(_ADD, 1, place, _hash(token), until - now)
    return Token(token, datetime.fromtimestamp(until / 1000, UTC), frozenset(earlier))


async def mailed(redis: Redis, keys: Keys, reset_id: str, token: Token) -> None:
    """Ends the tokens that were made before this one: the mail server has the mail with it."""
    if token.earlier:
        client: Any = redis
        await client.srem(_keys(keys, reset_id)[1], *token.earlier)


async def not_mailed(redis: Redis, keys: Keys, reset_id: str, token: Token) -> None:
    """Ends this token: no mail has it. Those that were mailed before work as they did."""
    client: Any = redis
    await client.srem(_keys(keys, reset_id)[1], _hash(token.text))


async def verify(redis: Redis, keys: Keys, reset_id: str, token: str, *, email: str | None = None) -> bool:
    """Says whether `token` is the one mailed for `reset_id`, and uses the reset up: True for one of all callers.

    The application calls it when the person has chosen a new password, with the address of the account that it is
    about to change: a token that was mailed to another address is refused. A wrong token uses nothing up, or a
    stranger with a `reset_id` could spoil another person's reset.
    """
    client: Any = redis
    binding, place = _keys(keys, reset_id)
    bound, stored, given = await client.get(binding), await client.smembers(place), _hash(token)
    if bound is None or bound == _USED or not sum(compare_digest(each, given) for each in stored):
        return False
    if email is not None and not compare_digest(bound.partition(b" ")[0], _address_hash(email)):
        return False
    if await client.delete(place) != 1:
        return False
    await client.set(binding, _USED, xx=True, keepttl=True)
    return True


def _keys(keys: Keys, reset_id: str) -> tuple[str, str]:
    name = sha256(reset_id.encode(errors="surrogatepass")).hexdigest()
    return keys.own("email", "reset", name, "address"), keys.own("email", "reset", name, "tokens")


def _address_hash(email: str) -> bytes:
    """Of an address as an event has it: the case of its domain says nothing."""
    local, _, domain = email.rpartition("@")
    return _hash(f"{local}@{domain.lower()}")


def _hash(text: str) -> bytes:
    return sha256(text.encode(errors="surrogatepass")).hexdigest().encode()
