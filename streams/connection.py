"""Connections: how the project reaches Redis: one server over TCP, TLS or a unix socket, the embedded one, the master
that sentinels name, or the masters of a cluster.

redis-py's own command retries are off everywhere: by default a cut reply makes one `xadd()` two entries (measured).
What may be repeated is repeated by the caller that knows it is safe.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import hiredis
import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.exceptions import AuthenticationError, ConnectionError, NoPermissionError, ResponseError, TimeoutError
from redis.retry import Retry

from streams.address import Address
from streams.embedded import EmbeddedRedis, find_servers
from streams.errors import Refused, StreamsError, Unreachable
from streams.following import Elsewhere, Follower, FollowerNow, TlsFollower, TlsFollowerNow
from streams.masters import Masters, masters_of
from streams.settings import Settings, place

LOST: Final = (ConnectionError, TimeoutError, OSError, asyncio.TimeoutError)
"""What a call raises when the connection is gone. `AuthenticationError` is a `ConnectionError` too: see `refusal`."""

_SCHEMES: Final = ("redis", "rediss", "unix")


class Connections:
    """Opens connections to the Redis that the settings name. One per process is enough; it holds no state in Redis.

    In a cluster, all commands of one partition go to one server: `at` gives the connections to it.
    """

    def __init__(self, settings: Settings, *, tag: str = "", masters: Masters | None = None) -> None:
        self.settings = settings
        self._tag = tag
        self.url = _resolve(settings)
        self.place = f"{place(self.url)} {tag}".rstrip()
        self._options: dict[str, Any] = {"protocol": 2, "decode_responses": False, "socket_connect_timeout": 5}
        tls = _tls(settings)
        self._address = Address.parse(self.url)
        self._masters = masters or masters_of(self._address, settings, tls)
        if self._address is not None:
            self._options |= {
                "username": self._address.username, "password": self._address.password, "db": self._address.db,
                "masters": self._masters, "tag": tag,
            }  # fmt: skip
            self._options |= tls if self._address.tls else {}
        elif self.url.startswith("rediss:"):
            self._options |= tls
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

    def _client(self) -> redis.asyncio.Redis:
        # What was refused because the server is not the master has not run: that is repeated, and nothing else.
        retry = AsyncRetry(ExponentialBackoff(cap=0.2, base=0.02), 5, supported_errors=(Elsewhere,))
        options = self._options | {"retry": retry, "socket_timeout": 10}
        if self._address is None:
            return redis.asyncio.from_url(self.url, **options)
        follower = TlsFollower if self._address.tls else Follower
        return redis.asyncio.Redis.from_pool(redis.asyncio.ConnectionPool(connection_class=follower, **options))

    def direct(self, timeout: float) -> DirectConnection:
        """A connection of its own for one loop (reading, settling, publishing); calls give up after `timeout` s."""
        return DirectConnection(self.client.connection_pool, timeout)

    def blocking(self) -> redis.Redis:
        """A client for a thread: the lease thread must not depend on the event loop."""
        options = self._options | {"retry": Retry(NoBackoff(), 0), "socket_timeout": 5}
        if self._address is None:
            return redis.from_url(self.url, **options)
        follower = TlsFollowerNow if self._address.tls else FollowerNow
        return redis.Redis.from_pool(redis.ConnectionPool(connection_class=follower, **options))

    async def aclose(self) -> None:
        """Closes the shared client; direct connections are closed by who opened them."""
        await self.client.aclose()
        if self._masters is not None:
            await self._masters.aclose()


class DirectConnection:
    """One connection used by one loop, packed and parsed by hiredis without redis-py's per-command work.

    `call` sends one command and returns the raw reply. A call that is cancelled, times out or fails closes the
    connection, so that no later call can read its reply; the next call connects again.
    """

    def __init__(self, pool: Any, timeout: float) -> None:
        self._connection = pool.make_connection()
        # redis-py wraps each send in a task when the socket has a timeout; the one in `call` covers it.
        self._connection.socket_timeout = None
        self._timeout = timeout
        self._closed = False
        self.sent = False  # whether the last call got as far as sending: if it then failed, Redis may have run it

    async def call(self, *command: Any, timeout: float | None = None) -> Any:
        """Sends a command; raises `redis.exceptions.ResponseError` for an error reply, one of `LOST` when it is cut."""
        connection = self._connection
        self.sent = False
        try:
            async with asyncio.timeout(timeout or self._timeout):
                if not connection.is_connected:
                    await connection.connect()
                if self._closed:
                    raise ConnectionError("this connection was closed while it was used")
                self.sent = True
                await connection.send_packed_command(hiredis.pack_command(command), check_health=False)
                return await connection.read_response()
        except ResponseError:
            raise
        except Elsewhere:
            self.sent = False  # it was refused, so it has not run
            await connection.disconnect(nowait=True)
            raise
        except BaseException:
            await connection.disconnect(nowait=True)
            raise

    async def client_id(self) -> int:
        """Redis' id of this connection, for CLIENT UNBLOCK."""
        identity: int = await self.call(b"CLIENT", b"ID")
        return identity

    async def aclose(self) -> None:
        """Closes the connection, for good: who is just about to connect would leave it open."""
        self._closed = True
        await self._connection.disconnect()


def refusal(error: BaseException, where: str) -> StreamsError:
    """Turns a connection error into the engine's: `Refused` when waiting cannot help, else `Unreachable`."""
    # redis-py raises what a connect failed on as the cause of a ConnectionError, on unix sockets at least.
    if any(isinstance(cause, AuthenticationError) for cause in _causes(error)):
        return Refused(
            f"Redis at {where} refuses the login; set REDIS_PASSWORD or REDIS_PASSWORD_FILE "
            "(or user:password in REDIS_URL)"
        )
    if isinstance(error, NoPermissionError):
        return Refused(f"Redis at {where}: the user may not do this ({error}); extend its ACL")
    return Unreachable(f"Redis at {where} cannot be reached ({error.__class__.__name__}); start it or set REDIS_URL")


def _causes(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__


def _tls(settings: Settings) -> dict[str, Any]:
    given = {
        "ssl_ca_certs": settings.redis_ca, "ssl_certfile": settings.redis_cert, "ssl_keyfile": settings.redis_key,
    }  # fmt: skip
    return {name: str(path) for name, path in given.items() if path is not None}


def _resolve(settings: Settings) -> str:
    url = settings.url()
    if url is None:
        return _start_embedded(settings, settings.home)
    parts = urlsplit(url)
    if parts.scheme == "embedded":
        return _start_embedded(
            settings, Path(parts.netloc + parts.path) if parts.netloc + parts.path else settings.home
        )
    if parts.scheme not in _SCHEMES and Address.parse(url) is None:
        raise StreamsError(
            f"REDIS_URL has the scheme {parts.scheme!r}; use redis://, rediss://, unix://, redis+cluster://, "
            "redis+sentinel:// or embedded://[directory]"
        )
    return url


def _start_embedded(settings: Settings, directory: Path) -> str:
    servers = find_servers(settings.redis_server)
    server = EmbeddedRedis(directory, servers[0] if servers else None)
    url = server.start()
    print(server.describe(), file=sys.stderr)
    return url
