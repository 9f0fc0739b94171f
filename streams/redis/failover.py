"""Failover: connections that find their master anew each time they are made, for the event loop and for a thread.

What says that the server is not the master (any more) is an error reply, and the command was not run. It is turned into
a lost connection: the caller waits, connects again, to the master of then, and repeats what it knows how to repeat.
So it is also where a URL names one server: behind its name there may be another one by now, to which only new
connections are led.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import redis
import redis.asyncio
from redis.exceptions import ConnectionError, InvalidResponse, RedisError, ResponseError

from streams.redis.master_discovery import Route, elsewhere

QUIET: Final = 10.0
"""Seconds without an answer after which a connection is tried with PING before it is used: what stands between may have
forgotten it without a word."""

_PROBE: Final = 2.0  # seconds for the answer
_LAST_WORDS: Final = 0.3  # seconds for what a server says that closes a connection at once


class NoAnswerOfRedis(ConnectionError):
    """What came is not in Redis' protocol: another server listens there, or something between has damaged the reply.
    Where the next reply begins is unknown, so the connection is lost, and what was sent may have been done.
    """


class _FollowsMaster:
    """In the event loop; mixed into redis-py's connection classes."""

    def __init__(self, *, route: Route, **options: Any) -> None:
        self._route = route
        self._moved = route.moved
        self._heard = 0.0  # when the last answer came, by the clock of `time.monotonic`
        super().__init__(**options)
        if route.tls is not None:
            self.ssl_context: Any = route.tls

    @property
    def socket(self) -> object:
        """Another one after each connect."""
        return self._writer  # type: ignore[attr-defined]

    @property
    def is_doubtful(self) -> bool:
        """Whether it has to be looked at before it is used."""
        return self._moved != self._route.moved or time.monotonic() - self._heard > QUIET

    async def connect(self) -> None:
        """Connects, also when it is connected and of no use any more; redis-py calls it before each command."""
        if self.is_connected and self.is_doubtful:  # type: ignore[attr-defined]
            if self._moved != self._route.moved:
                await self.disconnect(nowait=True)  # type: ignore[attr-defined]  # of the class it is mixed into
            elif not self._connect_callbacks:  # type: ignore[attr-defined]  # in use by a PubSub, which asks itself
                await self._probe()
        await super().connect()  # type: ignore[misc]

    async def _probe(self) -> None:
        try:
            async with asyncio.timeout(_PROBE):
                await self.send_command("PING", check_health=False)  # type: ignore[attr-defined]
                await self.read_response()
        except (RedisError, OSError, TimeoutError):
            await self.disconnect(nowait=True)  # type: ignore[attr-defined]  # of the class it is mixed into
        except BaseException:
            await self.disconnect(nowait=True)  # type: ignore[attr-defined]  # of the class it is mixed into
            raise

    # Not `connect`: redis-py connects again, when it repeats, through this one.
    async def connect_check_health(self, *arguments: Any, **options: Any) -> None:
        route = self._route
        if not self.is_connected:  # type: ignore[attr-defined]
            self._moved = route.moved
            if route.masters is not None:
                self.host, self.port = await route.masters.find(route.tag)
        try:
            await super().connect_check_health(*arguments, **options)  # type: ignore[misc]
        except ConnectionError as error:
            if route.masters is not None:
                route.masters.forget()
            await self.disconnect(nowait=True)  # type: ignore[attr-defined]  # of the class it is mixed into
            if (said := await self._last_words(error)) is not None:
                raise ConnectionError(said) from error
            raise
        except BaseException:
            # A connection on which the handshake failed would be used as it is: in another database, or not logged in.
            await self.disconnect(nowait=True)  # type: ignore[attr-defined]  # of the class it is mixed into
            raise

    async def _last_words(self, error: ConnectionError) -> str | None:
        """What a server says that closes a connection at once: that it has too many. What was sent to it made the
        system throw its words away, so one more connection is made that sends nothing.
        """
        host = getattr(self, "host", None)
        lost = isinstance(error.__context__, ConnectionResetError | BrokenPipeError) or "closed" in str(error)
        if host is None or self._route.tls is not None or not lost:
            return None
        try:
            async with asyncio.timeout(_LAST_WORDS):
                reader, writer = await asyncio.open_connection(host, self.port)
                try:
                    line = await reader.readline()
                finally:
                    writer.close()
        except (OSError, TimeoutError, ValueError):
            return None
        return line[1:].decode(errors="replace").strip().removeprefix("ERR ") if line.startswith(b"-") else None

    async def read_response(self, *arguments: Any, **options: Any) -> Any:
        try:
            response = await super().read_response(*arguments, **options)  # type: ignore[misc]
        except ResponseError as error:
            if not self._route.is_elsewhere(error):
                self._heard = time.monotonic()
                raise
            self._route.left(self._moved)
            await self.disconnect(nowait=True)  # type: ignore[attr-defined]  # of the class it is mixed into
            raise elsewhere(error) from error
        except InvalidResponse as error:
            await self.disconnect(nowait=True)  # type: ignore[attr-defined]  # of the class it is mixed into
            raise NoAnswerOfRedis(str(error)) from error
        self._heard = time.monotonic()
        return response


class FailoverConnection(_FollowsMaster, redis.asyncio.Connection):
    """Over TCP."""


class TlsFailoverConnection(_FollowsMaster, redis.asyncio.SSLConnection):
    """Over TLS."""


class UnixFailoverConnection(_FollowsMaster, redis.asyncio.UnixDomainSocketConnection):
    """Over a unix socket."""

    async def _connect(self) -> None:
        # redis-py's logs in here, and once more afterwards as everywhere; the first time, an error leaves it connected.
        async with asyncio.timeout(self.socket_connect_timeout):
            self._reader, self._writer = await asyncio.open_unix_connection(self.path)


class Pool(redis.asyncio.ConnectionPool):
    """The connections of one client, in the event loop of its first use."""

    def __init__(self, *, route: Route, **options: Any) -> None:
        self.route = route
        super().__init__(route=route, **options)

    async def get_connection(self, *arguments: Any, **options: Any) -> Any:
        """As redis-py's; raises `StreamsError` in another event loop."""
        self.route.enter()
        return await super().get_connection(*arguments, **options)  # type: ignore[no-untyped-call]

    async def aclose(self) -> None:
        """Closes them, also when their loop is closed: what can be closed then is the sockets alone."""
        if self.route.is_home_closed():
            for connection in (*self._available_connections, *self._in_use_connections):
                drop(connection)
            return
        await super().aclose()


def drop(connection: Any) -> None:
    """Closes the socket of a connection whose event loop is closed, or is the parent process'. Nothing public does, and
    each part would complain that it was left open.
    """
    writer, connection._reader, connection._writer = connection._writer, None, None  # noqa: SLF001
    if writer is None:
        return
    outer = writer.transport
    inner = getattr(getattr(outer, "_ssl_protocol", None), "_transport", None) or outer
    for transport in (outer, inner):
        for flag in ("_closing", "_closed"):
            if getattr(transport, flag, True) is False:
                setattr(transport, flag, True)
    sock = getattr(inner, "_sock", None)  # uvloop has closed its own with the loop
    if sock is not None:
        sock.close()
        inner._sock = None  # noqa: SLF001


class _FollowsMasterBlocking:
    """In a thread."""

    def __init__(self, *, route: Route, **options: Any) -> None:
        self._route = route
        self._moved = route.moved
        super().__init__(**options)

    def connect(self) -> None:
        """As in the event loop."""
        if self._sock is not None and self._moved != self._route.moved:  # type: ignore[attr-defined]
            self.disconnect()  # type: ignore[attr-defined]  # as above
        super().connect()  # type: ignore[misc]

    def connect_check_health(self, *arguments: Any, **options: Any) -> None:
        route = self._route
        if self._sock is None:  # type: ignore[attr-defined]
            self._moved = route.moved
            if route.masters is not None:
                self.host, self.port = route.masters.find_now(route.tag)
        super().connect_check_health(*arguments, **options)  # type: ignore[misc]

    def read_response(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super().read_response(*arguments, **options)  # type: ignore[misc]
        except ResponseError as error:
            if not self._route.is_elsewhere(error):
                raise
            self._route.left(self._moved)
            self.disconnect()  # type: ignore[attr-defined]  # as above
            raise elsewhere(error) from error
        except InvalidResponse as error:
            self.disconnect()  # type: ignore[attr-defined]  # as above
            raise NoAnswerOfRedis(str(error)) from error

    def _wrap_socket_with_ssl(self, sock: Any) -> Any:
        assert self._route.tls is not None
        return self._route.tls.get().wrap_socket(sock, server_hostname=self.host)


class BlockingFailoverConnection(_FollowsMasterBlocking, redis.Connection):
    """Over TCP, in a thread."""


class TlsBlockingFailoverConnection(_FollowsMasterBlocking, redis.SSLConnection):
    """Over TLS, in a thread."""


class UnixBlockingFailoverConnection(_FollowsMasterBlocking, redis.UnixDomainSocketConnection):
    """Over a unix socket, in a thread."""
