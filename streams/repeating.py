"""Repeating: redis-py's client, whose reads are tried again on a fresh connection.

A connection that something between has forgotten swallows what is sent. What changes something is never repeated here:
its caller knows whether that is safe.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import redis.asyncio
from redis.asyncio.client import Pipeline
from redis.exceptions import AuthenticationError, ConnectionError, TimeoutError

_T = TypeVar("_T")

_FIRST: Final = 3.0  # seconds of the first try; the second one has redis-py's
# fmt: off
_READS: Final = frozenset((
    "EXISTS", "GET", "HEXISTS", "HGET", "HGETALL", "HKEYS", "HLEN", "HMGET", "HSCAN", "INFO", "LINDEX", "LLEN",
    "LRANGE", "MGET", "PING", "PTTL", "SCAN", "SCARD", "SISMEMBER", "SMEMBERS", "STRLEN", "TIME", "TTL", "TYPE",
    "XINFO", "XLEN", "XPENDING", "XRANGE", "XREVRANGE", "ZCARD", "ZCOUNT", "ZRANGE", "ZRANGEBYSCORE", "ZREVRANGE",
    "ZREVRANGEBYSCORE", "ZSCAN", "ZSCORE",
))
# fmt: on


class Client(redis.asyncio.Redis):
    """The shared client of one server."""

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """As redis-py's."""
        call: Any = super().execute_command
        if not _is_read(args):
            return await call(*args, **options)
        return await _twice(lambda: call(*args, **options))

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        """As redis-py's."""
        return _Repeating(self.connection_pool, self.response_callbacks, transaction, shard_hint)


class _Repeating(Pipeline):
    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        stack, call = self.command_stack, super().execute
        if self.watching or self.explicit_transaction or not all(_is_read(command) for command, _ in stack):
            return await call(raise_on_error)

        async def execute() -> list[Any]:
            self.command_stack = stack  # a pipeline empties it, whatever became of it
            return await call(raise_on_error)

        return await _twice(execute)


def _is_read(command: tuple[Any, ...]) -> bool:
    return str(command[0]).partition(" ")[0] in _READS


async def _twice(call: Callable[[], Awaitable[_T]]) -> _T:
    try:
        async with asyncio.timeout(_FIRST):
            return await call()
    except AuthenticationError:
        raise
    except (ConnectionError, TimeoutError, OSError):  # OSError: that of asyncio.timeout as well
        return await call()
