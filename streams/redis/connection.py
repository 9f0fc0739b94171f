"""Connections: how the project reaches Redis: one server over TCP, TLS or a unix socket, the embedded one, the master
that sentinels name, or the masters of a cluster.

redis-py's own command retries are off everywhere: by default a cut reply makes one `xadd()` two entries (measured).
What may be repeated is repeated by the caller that knows it is safe.
"""

from __future__ import annotations

import asyncio
import builtins
import sys
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import hiredis
import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.exceptions import AuthenticationError, BusyLoadingError, ConnectionError, ResponseError, TimeoutError
from redis.retry import Retry

from streams.redis.address import Address
from streams.redis.authentication import Login, Tls
from streams.redis.embedded import EmbeddedRedis, find_servers
from streams.redis.failover import (
    BlockingFailoverConnection,
    FailoverConnection,
    Pool,
    TlsBlockingFailoverConnection,
    TlsFailoverConnection,
    UnixBlockingFailoverConnection,
    UnixFailoverConnection,
    drop,
)
from streams.redis.master_discovery import Masters, NotMaster, Route, masters_of
from streams.redis.reconnect import Client
from streams.settings import Settings, place

_CONNECT: Final = 5.0  # seconds
_named: set[tuple[str, ...]] = set()  # ignored options that were written down already


class Connections:
    """Opens connections to the Redis that the settings name. One per process is enough; it holds no state in Redis.

    In a cluster, all commands of one partition go to one server: `at` gives the connections to it. Raises
    `ConfigurationError` for a URL, or for files of TLS, that cannot work.
    """

    def __init__(self, settings: Settings, *, tag: str = "", masters: Masters | None = None) -> None:
        self.settings = settings
        self._tag = tag
        self.url, self.address = _resolve(settings)
        self.place = f"{place(self.url)} {tag}".rstrip()
        self.login = login = Login(settings)
        self.tls = Tls.of(self.address, settings)
        self._masters = masters or masters_of(self.address, settings, login, self.tls)
        self.route = Route(self._masters, tag, self.tls)
        self._options: dict[str, Any] = {
            "protocol": 2, "decode_responses": False, "socket_connect_timeout": _CONNECT, "db": self.address.db,
            "credential_provider": login, "client_name": self.address.client_name or None, "route": self.route,
        }  # fmt: skip
        if self.address.kind == "unix":
            self._options["path"] = self.address.path
        else:
            # The system asks after 30 s without traffic: what stands between does not forget a connection that is idle,
            # and one that it has forgotten is found.
            self._options["socket_keepalive"] = True
        if self.address.kind == "server":
            ((self._options["host"], self._options["port"]),) = self.address.hosts
        self.client = self._client()

    def at(self, tag: str) -> Connections:
        """The connections to the server that has the keys with this hash tag."""
        if self._masters is None or not self._masters.by_tag:
            return self
        return Connections(self.settings, tag=tag, masters=self._masters)

    @property
    def server(self) -> str:
        """The server that was connected to last, for people; it may be another one by now."""
        host, port = self._masters.found.get(self._tag, ("", 0)) if self._masters is not None else ("", 0)
        return f"{'rediss' if self.url.startswith('rediss') else 'redis'}://{host}:{port}" if host else self.place

    def enter(self) -> None:
        """Makes sure that this is the event loop of the first use; raises `StreamsError` in another one."""
        self.route.enter()

    @property
    def is_over(self) -> bool:
        """Whether the event loop of the first use is closed, or the parent process': nothing can be awaited of it."""
        return self.route.is_home_closed()

    @property
    def _transport(self) -> str:
        return "tls" if self.address.tls else self.address.kind

    def _client(self) -> redis.asyncio.Redis:
        # What was refused because the server is not the master has not run: that is repeated, and nothing else.
        retry = AsyncRetry(ExponentialBackoff(cap=0.2, base=0.02), 5, supported_errors=(NotMaster,))
        classes = {"tls": TlsFailoverConnection, "unix": UnixFailoverConnection}
        connection_class = classes.get(self._transport, FailoverConnection)
        return Client.from_pool(
            Pool(connection_class=connection_class, **self._options | {"retry": retry, "socket_timeout": 10})
        )

    def direct(self, timeout: float, most: int = 0) -> DirectConnection:
        """A connection of its own for one loop (reading, settling, publishing); calls give up after `timeout` s, and
        at replies of more than `most` bytes.
        """
        return DirectConnection(self.client.connection_pool, timeout, most)

    def blocking(self, timeout: float = 5.0) -> redis.Redis:
        """A client for a thread, which must not depend on the event loop; calls give up after `timeout` s."""
        classes = {"tls": TlsBlockingFailoverConnection, "unix": UnixBlockingFailoverConnection}
        connection_class = classes.get(self._transport, BlockingFailoverConnection)
        options = self._options | {"retry": Retry(NoBackoff(), 0), "socket_timeout": timeout}
        return redis.Redis.from_pool(redis.ConnectionPool(connection_class=connection_class, **options))

    async def aclose(self) -> None:
        """Closes the shared client; direct connections are closed by who opened them."""
        await self.client.aclose()
        if self._masters is not None and not self.is_over:
            await self._masters.aclose()


class DirectConnection:
    """One connection used by one loop, packed and parsed by hiredis without redis-py's per-command work.

    `call` sends one command and returns the raw reply. A call that is cancelled, times out or fails closes the
    connection, so that no later call can read its reply; the next call connects again. With `most`, so does a reply
    of more bytes (`TooMuch`).
    """

    def __init__(self, pool: Any, timeout: float, most: int = 0) -> None:
        self._route: Route = pool.route
        self._connection = pool.make_connection()
        # redis-py wraps each send in a task when the socket has a timeout; the one in `call` covers it.
        self._connection.socket_timeout = None
        self._timeout = timeout
        self._closed = False
        self.made = 0  # how often it connected: Redis' id of it is another one each time
        self._counted = _Counted(most)
        self.sent = False  # whether the last call got as far as sending: if it then failed, Redis may have run it

    async def call(self, *command: Any, timeout: float | None = None) -> Any:
        """Sends a command; raises `redis.exceptions.ResponseError` for an error reply, one of `LOST` when it is cut."""
        connection = self._connection
        self._route.enter()
        self.sent = False
        limit = timeout or self._timeout
        try:
            async with asyncio.timeout(limit):
                if not connection.is_connected or connection.is_doubtful:
                    before = connection.socket
                    await connection.connect()
                    self.made += connection.socket is not before
                    self._counted.over(connection)
                if self._closed:
                    raise ConnectionError("this connection was closed while it was used")
                self.sent, self._counted.received = True, 0
                await connection.send_packed_command(hiredis.pack_command(command), check_health=False)
                return await connection.read_response()
        except ResponseError:
            raise
        except (NotMaster, BusyLoadingError, AuthenticationError):
            self.sent = False  # it was refused, so it has not run
            await connection.disconnect(nowait=True)
            raise
        except builtins.TimeoutError:
            await connection.disconnect(nowait=True)
            what = "no answer" if self.sent else "no connection: it did not connect"
            raise TimeoutError(f"{what} within {limit:.3g} s") from None
        except BaseException:
            await connection.disconnect(nowait=True)
            raise

    @property
    def received(self) -> int:
        """The bytes of the last reply, more or less; 0 without a limit."""
        return self._counted.received

    async def client_id(self) -> int:
        """Redis' id of this connection, for CLIENT UNBLOCK."""
        identity: int = await self.call(b"CLIENT", b"ID")
        return identity

    async def aclose(self) -> None:
        """Closes the connection, for good: who is just about to connect would leave it open."""
        self._closed = True
        if self._route.is_home_closed():
            drop(self._connection)
        else:
            await self._connection.disconnect()


class TooMuch(ConnectionError):
    """A reply had more bytes than may be read. What was asked for has been done."""


class _Counted:
    """The stream under redis-py's parser, with the bytes of a reply counted as they come, and bounded."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._stream: Any = None
        self.received = 0

    def over(self, connection: Any) -> None:
        """Puts itself between a connection that was just made and its parser."""
        if self._most and connection._parser._stream is not self:  # noqa: SLF001 - as below
            self._stream = connection._parser._stream  # noqa: SLF001 - redis-py has no limit of its own
            connection._parser._stream = self  # noqa: SLF001

    async def read(self, most: int) -> bytes:
        chunk: bytes = await self._stream.read(most)
        self.received += len(chunk)
        if self.received > self._most:
            raise TooMuch(f"a reply has more than {self._most:,} bytes")
        return chunk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _resolve(settings: Settings) -> tuple[str, Address]:
    """The URL, and what it says; starts the embedded server where that is meant."""
    url = settings.url()
    if url is None:
        url = _start_embedded(settings, settings.home)
    elif url.startswith("embedded:"):
        parts = urlsplit(url)
        directory = parts.netloc + parts.path
        url = _start_embedded(settings, Path(directory) if directory else settings.home)
    address = Address.parse(url)
    if address.ignored and address.ignored not in _named:
        _named.add(address.ignored)
        names = ", ".join(address.ignored)
        sys.stderr.write(f"REDIS_URL: {names}: left out, the engine sets this itself\n")
    return url, address


def _start_embedded(settings: Settings, directory: Path) -> str:
    servers = find_servers(settings.redis_server)
    server = EmbeddedRedis(directory, servers[0] if servers else None)
    url = server.start()
    print(server.describe(), file=sys.stderr)
    return url
