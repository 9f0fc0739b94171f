"""Reconnect: the back-off that all loops of a consumer share while Redis is away, one log line per step."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

import redis.asyncio
from redis.asyncio.client import Pipeline
from redis.exceptions import AuthenticationError, ConnectionError, ResponseError, TimeoutError

from streams.errors import LoginRefused, Refused
from streams.logs import Logger, get_logger
from streams.redis.master_discovery import NotMaster
from streams.redis.refusal import reason, refusal, takes_no_writes

log = get_logger("streams.reconnect")

_FIRST: Final = 0.05  # seconds
_MOST: Final = 5.0
_MOST_READABLE: Final = 2.0
_PATIENCE: Final = 30.0  # seconds that a login may be refused before the process ends
_PATIENCE_AT_START: Final = 3.0
_SAID_FOR: Final = 10.0  # seconds for which a refusal is not logged again
_SAID_MOST: Final = 100


class Reconnect:
    """Counts the steps; what fails while a step is being waited for waits along without a line of its own."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._step = 0
        self._until = 0.0
        self._away_since = 0.0
        self._is_read_only = False  # it answers reads and refuses writes: that a read works is no sign that it is back
        self._has_worked = False
        self._said: dict[tuple[str, ...], float] = {}
        self._in_row: WeakKeyDictionary[asyncio.Task[Any], tuple[int, float]] = WeakKeyDictionary()
        self._refused_since = self._refused_at = 0.0

    async def failed(self, error: BaseException) -> None:
        """Waits out the back-off after a lost connection; raises `Refused` when waiting cannot help.

        A login that is refused is tried again for a while: while a password is changed, server and file differ. A
        consumer that has worked before waits longer than one that starts.
        """
        problem = refusal(error, self._place)
        now = asyncio.get_running_loop().time()
        if isinstance(problem, Refused) and not self._may_pass(problem, now):
            raise problem from error
        refuses = isinstance(error, NotMaster) or (isinstance(error, ResponseError) and takes_no_writes(error))
        self._is_read_only = self._is_read_only or refuses
        if now >= self._until:
            if not self._step:
                self._away_since = now
            # Of a server that is there and takes no writes, it is cheap to ask whether it does by now, or another one.
            most = _MOST_READABLE if self._is_read_only else _MOST
            delay = min(most, _FIRST * 2 ** max(self._step, self._fails_in_row(now))) * random.uniform(0.5, 1.5)
            self._step = min(self._step + 1, 20)
            self._until = now + delay
            log.warning("redis.away", redis=self._place, error=reason(error, self._place), retry_in=round(delay, 2))
        await asyncio.sleep(max(0.0, self._until - now))

    def _fails_in_row(self, now: float) -> int:
        """How often this loop has failed without a success of its own. What another loop asks may work all the while: a
        reply that is too long for something between is cut each time, and that is no reason to ask without a pause.
        """
        if (task := asyncio.current_task()) is None:
            return 0
        count, at = self._in_row.get(task, (0, now))
        count = 0 if now - at > _MOST * 3 else count  # longer than a step and a time limit
        self._in_row[task] = min(count + 1, 20), now
        return count

    def _may_pass(self, problem: Refused, now: float) -> bool:
        if not isinstance(problem, LoginRefused):
            return False
        patience = _PATIENCE if self._has_worked else _PATIENCE_AT_START
        if not self._refused_at or now - self._refused_at > max(patience, _MOST * 2):  # longer than any step
            self._refused_since = now
        self._refused_at = now
        return now - self._refused_since <= patience

    def refused(self, log: Logger, event: str, error: object, **about: Any) -> None:
        """Logs an error reply that leaves the connection as it is: the same one once in ten seconds, however often the
        loop tries. A full disk or a long script would be several lines a second, for as long as it lasts.
        """
        text, now = str(error)[:300], asyncio.get_running_loop().time()
        kind = event, text[:80], *(value for value in about.values() if isinstance(value, str))
        if now - self._said.get(kind, -_SAID_FOR) < _SAID_FOR:
            return
        if len(self._said) >= _SAID_MOST:
            self._said.clear()
        self._said[kind] = now
        log.error(event, **about, error=text)

    def succeeded(self, *, by_reading: bool = False) -> None:
        """Notes that Redis answered; `by_reading`: a command that a replica answers as well."""
        self._has_worked = True
        if by_reading and self._is_read_only:
            return
        if self._in_row and (task := asyncio.current_task()) is not None:
            self._in_row.pop(task, None)
        if self._step and (not self._refused_at or self._is_long_ago()):
            now = asyncio.get_running_loop().time()
            log.warning("redis.back", redis=self._place, away_for=round(now - self._away_since, 2))
            self._step, self._until = 0, 0.0
            self._is_read_only = False

    def _is_long_ago(self) -> bool:
        # Connections of before are logged in still, while new ones are refused: that is not back, and a line each time.
        if asyncio.get_running_loop().time() - self._refused_at <= _MOST * 2:
            return False
        self._refused_at = 0.0
        return True


# Repeating: redis-py's client, whose reads are tried again on a fresh connection.
#
# A connection that something between has forgotten swallows what is sent. What changes something is never repeated
# here: its caller knows whether that is safe.

_T = TypeVar("_T")
_FIRST_TRY: Final = 3.0  # seconds of the first try; the second one has redis-py's
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
        async with asyncio.timeout(_FIRST_TRY):
            return await call()
    except AuthenticationError:
        raise
    except (ConnectionError, TimeoutError, OSError):  # OSError: that of asyncio.timeout as well
        return await call()
