"""MemoryServer: a Redis in this process, by the test's clock: fakeredis for the commands, lupa for the scripts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import fakeredis
import redis.asyncio
from fakeredis import _helpers
from fakeredis._socket import _base
from fakeredis.model import _stream
from redis.asyncio.client import Pipeline, PubSub
from redis.exceptions import ResponseError

from streams.redis.connection import Connections
from streams.redis.entries import Entry
from streams.testing.lua_runtime import Lua

if TYPE_CHECKING:
    from streams.settings import Settings
    from streams.testing.clock import VirtualClock


_INFO: Final = b"redis_version:in-memory\r\nredis_mode:standalone\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\n"


class MemoryServer:
    """Answers what Redis is asked, as Redis would; nothing ever waits for something to come."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._server = fakeredis.FakeServer(version=(8,))
        # One connection, without the client around it: the replies as they are.
        self._connection: Any = fakeredis.FakeRedis(server=self._server, protocol=2).connection_pool.get_connection()
        self._listeners: dict[bytes, Callable[[bytes], None]] = {}
        self._lua = Lua(self._command)
        self.added = 0  # entries, in any stream
        self.published: list[Entry] = []  # every entry of a domain stream, in order

    def command(self, *command: Any) -> Any:
        """Answers one command in what redis-py reads; raises `redis.exceptions.ResponseError`."""
        name, *rest = (word for text in command for word in _words(text))
        if name in (b"EVAL", b"EVALSHA"):
            script, *arguments = rest
            return self._lua.run(name.decode(), script, arguments)
        return self._command(name, *rest)

    def _command(self, name: bytes, *rest: bytes) -> Any:
        if name == b"INFO":
            return _INFO  # fakeredis has none
        if name == b"WAIT":
            return 0  # replicas
        if name == b"TIME":
            seconds, ms = divmod(self._clock.ms, 1000)
            return [b"%d" % seconds, b"%d" % (ms * 1000)]
        if name in (b"XREADGROUP", b"XREAD"):
            rest = _without_block(rest)
        reply = self._ask(name, *rest)
        if name == b"XADD":
            self.added += 1
            if b":stream:" in rest[0]:
                self.published += self._ask("XRANGE", rest[0], reply, reply)
        if name == b"PUBLISH" and rest[0] in self._listeners:
            self._listeners[rest[0]](rest[1])
            reply += 1
        return reply

    def _ask(self, *words: bytes | str) -> Any:
        self._connection.send_command(*words)
        return self._connection.read_response()

    def listen(self, channel: str, handle: Callable[[bytes], None]) -> None:
        """Calls `handle` with each message of a channel, in place of the earlier listener."""
        self._listeners[channel.encode()] = handle

    def pubsub(self, **options: Any) -> PubSub:
        """Listens to channels."""
        listening: redis.asyncio.Redis = fakeredis.FakeAsyncRedis(server=self._server, protocol=2)
        return listening.pubsub(**options)


class MemoryConnection:
    """One connection to the memory, as `DirectConnection` is one to Redis."""

    sent, received = True, 0

    def __init__(self, server: MemoryServer) -> None:
        self._server = server

    async def call(self, *command: Any, timeout: float | None = None) -> Any:
        """Sends a command; `timeout` has no meaning here."""
        del timeout
        return self._server.command(*command)

    async def client_id(self) -> int:
        """Redis' id of this connection: here it is none that waits."""
        return 0

    async def aclose(self) -> None:
        """Closes it."""


class MemoryConnections(Connections):
    """Connections to a server in memory."""

    def __init__(self, settings: Settings, server: MemoryServer) -> None:
        self.settings = settings
        self.url = self.place = "memory"
        self.client = MemoryRedis(server)
        self._server = server

    def at(self, tag: str) -> Connections:
        """The same object: one server has every partition."""
        del tag
        return self

    @property
    def server(self) -> str:
        """The server's name for people."""
        return self.place

    def enter(self) -> None:
        """Does nothing: it belongs to one event loop."""

    @property
    def is_over(self) -> bool:
        """False: it lives as long as its event loop."""
        return False

    def direct(self, timeout: float, most: int = 0) -> Any:
        """A connection for one loop."""
        del timeout, most
        return MemoryConnection(self._server)

    async def aclose(self) -> None:
        """Closes them."""


class MemoryRedis(redis.asyncio.Redis):
    """redis-py's client, answered in this process: what looks at Redis, and a processor's own keys."""

    def __init__(self, server: MemoryServer) -> None:
        super().__init__(protocol=2)
        self._server = server

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Answers a command, read as redis-py reads it."""
        return _read(self, self._server, args, options)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        """Commands that are answered together."""
        return _MemoryPipeline(self, self._server, transaction, shard_hint)

    def pubsub(self, **options: Any) -> PubSub:
        """Listens to channels."""
        return self._server.pubsub(**options)


class _MemoryPipeline(Pipeline):
    def __init__(self, client: MemoryRedis, server: MemoryServer, transaction: bool, shard_hint: str | None) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, transaction, shard_hint)
        self._server = server

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        stack, self.command_stack = self.command_stack, []
        replies: list[Any] = []
        for command, options in stack:
            try:
                replies.append(_read(self, self._server, command, dict(options)))
            except ResponseError as error:
                replies.append(error)
        if raise_on_error:
            self.raise_first_error(stack, replies)
        return replies


def _read(client: Any, server: MemoryServer, command: tuple[Any, ...], options: dict[str, Any]) -> Any:
    reply = server.command(*command)
    options.pop("keys", None)
    callback = client.response_callbacks.get(command[0])
    return reply if callback is None else callback(reply, **options)


def _words(text: Any) -> list[bytes]:
    if isinstance(text, bytes):
        return [text]
    return [text.encode()] if isinstance(text, str) else [str(text).encode()]


def _without_block(words: tuple[bytes, ...]) -> tuple[bytes, ...]:
    at = words.index(b"BLOCK") if b"BLOCK" in words else len(words)
    return words[:at] + words[at + 2 :]


@contextmanager
def timed(clock: VirtualClock) -> Iterator[None]:
    """Lets fakeredis go by a clock, in the whole process: it has no clock of its own to replace."""
    modules: list[Any] = [_base, _helpers, _stream]
    before = [module.time for module in modules]
    try:
        for module in modules:
            module.time = _Time(clock)
        yield
    finally:
        for module, time in zip(modules, before, strict=True):
            module.time = time


class _Time:
    """What fakeredis asks of the module `time`."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock

    def time(self) -> float:
        return (self._clock.ms + 0.5) / 1000  # it truncates to ms, and a float may be a little less
