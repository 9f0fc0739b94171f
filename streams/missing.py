"""Missing: what Redis answers about a key or a group that does not exist, or a key that holds something else."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from redis.exceptions import RedisError, ResponseError

_PASSING = ("MISCONF", "OOM", "READONLY", "NOREPLICAS", "BUSY", "LOADING", "MASTERDOWN", "NOPERM")
_NOT_THERE = ("no such key", "NOGROUP", "WRONGTYPE")  # the last: `doctor` looks at the types by themselves


def unless_missing(reply: Any) -> Any:
    """A pipeline's reply, or None where key or group do not exist, or are of another type; other errors are raised."""
    if isinstance(reply, ResponseError) and any(word in str(reply) for word in _NOT_THERE):
        return None
    if isinstance(reply, Exception):
        raise reply
    return reply


async def unless_odd(reply: Awaitable[Any]) -> Any:
    """A reply, or None where the key holds something else than it should: what is there is nothing the engine wrote."""
    try:
        return await reply
    except ResponseError as error:
        return unless_missing(error)


def is_of_script(error: RedisError) -> bool:
    """Whether a script failed over what is in a key; a server that refuses all of them (full, read only) recovers."""
    words = str(error)
    return "user_script" in words and not words.startswith(_PASSING)
