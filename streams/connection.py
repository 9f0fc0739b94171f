"""Connections: how the project reaches Redis, over TCP, TLS, a unix socket, or the embedded server.

redis-py's own command retries are off everywhere: by default a cut reply makes one `xadd()` two entries (measured).
What may be repeated is repeated by the caller that knows it is safe.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import hiredis
import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, ConnectionError, NoPermissionError, ResponseError, TimeoutError
from redis.retry import Retry

from streams.embedded import EmbeddedRedis, find_servers
from streams.errors import Refused, StreamsError, Unreachable
from streams.settings import Settings, place

LOST: Final = (ConnectionError, TimeoutError, OSError, asyncio.TimeoutError)
"""What a call raises when the connection is gone. `AuthenticationError` is a `ConnectionError` too: see `refusal`."""

_SCHEMES: Final = ("redis", "rediss", "unix")


class Connections:
    """Opens connections to the Redis that the settings name. One per process is enough; it holds no state in Redis."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.url = _resolve(settings)
        self.place = place(self.url)
        self._options: dict[str, Any] = {"protocol": 2, "decode_responses": False}
        if self.url.startswith("rediss:") and settings.redis_ca:
            self._options["ssl_ca_certs"] = str(settings.redis_ca)
        self.client: redis.asyncio.Redis = redis.asyncio.from_url(
            self.url, retry=AsyncRetry(NoBackoff(), 0), socket_connect_timeout=5, socket_timeout=10, **self._options
        )

    def at(self, tag: str) -> Connections:
        """The connections to the server that has the keys with this hash tag."""
        del tag
        return self

    def direct(self, timeout: float) -> DirectConnection:
        """A connection of its own for one loop (reading, settling, publishing); calls give up after `timeout` s."""
        return DirectConnection(self.client.connection_pool, timeout)

    def blocking(self) -> redis.Redis:
        """A client for a thread: the lease thread must not depend on the event loop."""
        return redis.from_url(
            self.url, retry=Retry(NoBackoff(), 0), socket_connect_timeout=5, socket_timeout=5, **self._options
        )

    async def aclose(self) -> None:
        """Closes the shared client; direct connections are closed by who opened them."""
        await self.client.aclose()


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
        self.sent = False  # whether the last call got as far as sending: if it then failed, Redis may have run it

    async def call(self, *command: Any, timeout: float | None = None) -> Any:
        """Sends a command; raises `redis.exceptions.ResponseError` for an error reply, one of `LOST` when it is cut."""
        connection = self._connection
        self.sent = False
        try:
            async with asyncio.timeout(timeout or self._timeout):
                if not connection.is_connected:
                    await connection.connect()
                self.sent = True
                await connection.send_packed_command(hiredis.pack_command(command), check_health=False)
                return await connection.read_response()
        except ResponseError:
            raise
        except BaseException:
            await connection.disconnect(nowait=True)
            raise

    async def client_id(self) -> int:
        """Redis' id of this connection, for CLIENT UNBLOCK."""
        identity: int = await self.call(b"CLIENT", b"ID")
        return identity

    async def aclose(self) -> None:
        """Closes the connection."""
        await self._connection.disconnect()


def refusal(error: BaseException, where: str) -> StreamsError:
    """Turns a connection error into the engine's: `Refused` when waiting cannot help, else `Unreachable`."""
    # redis-py raises what a connect failed on as the cause of a ConnectionError, on unix sockets at least.
    if isinstance(error, AuthenticationError) or isinstance(error.__cause__, AuthenticationError):
        return Refused(
            f"Redis at {where} refuses the login; set REDIS_PASSWORD or REDIS_PASSWORD_FILE "
            "(or user:password in REDIS_URL)"
        )
    if isinstance(error, NoPermissionError):
        return Refused(f"Redis at {where}: the user may not do this ({error}); extend its ACL")
    return Unreachable(f"Redis at {where} cannot be reached ({error.__class__.__name__}); start it or set REDIS_URL")


def _resolve(settings: Settings) -> str:
    url = settings.url()
    if url is None:
        return _start_embedded(settings, settings.home)
    parts = urlsplit(url)
    if parts.scheme == "embedded":
        return _start_embedded(
            settings, Path(parts.netloc + parts.path) if parts.netloc + parts.path else settings.home
        )
    if parts.scheme not in _SCHEMES:
        raise StreamsError(
            f"REDIS_URL has the scheme {parts.scheme!r}; use redis://, rediss://, unix:// or embedded://[directory]"
        )
    return url


def _start_embedded(settings: Settings, directory: Path) -> str:
    servers = find_servers(settings.redis_server)
    server = EmbeddedRedis(directory, servers[0] if servers else None)
    url = server.start()
    print(server.describe(), file=sys.stderr)
    return url
