"""Master discovery: finds the current master, once for all connections of a client, and where they may be used."""

from __future__ import annotations

import asyncio
import os
import re
import threading
from typing import TYPE_CHECKING, Any, Final, Protocol

import redis
import redis.asyncio
import redis.asyncio.cluster
import redis.asyncio.sentinel
import redis.cluster
import redis.sentinel
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import AskError, ConnectionError, MovedError, RedisClusterException, ResponseError
from redis.retry import Retry

from streams.errors import StreamsError
from streams.redis.authentication import SentinelLogin

if TYPE_CHECKING:
    from streams.redis.address import Address
    from streams.redis.authentication import Login, Tls
    from streams.settings import Settings

# redis-py takes the code from the text where the reply begins with it; of an error inside a script it may stand within.
_CODES: Final = frozenset({"READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN"})
_REDIRECTIONS: Final = frozenset({"MOVED", "ASK"})
_WITHIN: Final = re.compile(r"(?:^|[\s-])(READONLY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN) ")
_BECAME_REPLICA: Final = re.compile(r"^-?UNBLOCKED .*state changed")  # a client that waited, when its master became one


class NotMaster(ConnectionError):
    """The server is not the one that has the keys: nothing was done."""


class Route:
    """The way to a server, which all connections of a client share, and what they have learnt of it."""

    def __init__(self, masters: Masters | None, tag: str, tls: Tls | None) -> None:
        self.masters, self.tag, self.tls = masters, tag, tls
        self.moved = 0  # how often the server was found not to be the master: connections of before are replaced
        self._home: tuple[asyncio.AbstractEventLoop, int] | None = None
        self._settling = threading.Lock()

    def enter(self) -> None:
        """Makes sure that this is the event loop, and the process, of the first use; raises `StreamsError` if not.

        Connections and futures belong to one loop. In another one a call would fail after it was sent, or wait for
        ever for an answer that the other loop is given.
        """
        loop = asyncio.get_running_loop()
        home = self._home
        if home is None:
            with self._settling:
                home = self._home = self._home or (loop, os.getpid())
        if home[0] is not loop or home[1] != os.getpid():
            raise StreamsError(self._not_here(home))

    def is_home_closed(self) -> bool:
        """Whether nothing of the first loop can be used any more, here."""
        return self._home is not None and (self._home[0].is_closed() or self._home[1] != os.getpid())

    @staticmethod
    def _not_here(home: tuple[asyncio.AbstractEventLoop, int]) -> str:
        where = "the process that this one was forked from" if home[1] != os.getpid() else "another event loop"
        where += ", which is closed" if home[1] == os.getpid() and home[0].is_closed() else ""
        return (
            f"this Streams belongs to {where}: make one where it is used (async with Streams() as streams), or use "
            "SyncStreams, one of which serves all threads"
        )

    def is_elsewhere(self, error: ResponseError) -> bool:
        """Whether an error reply says that the server is not the master. Of a URL that names one server, a redirection
        is a wrong URL: it would be the same with the next connection.
        """
        code = error.status_code
        text = str(error)
        if code in _CODES or (code in _REDIRECTIONS and self.masters is not None):
            return True
        if isinstance(error, MovedError | AskError):
            return False
        return bool(_WITHIN.search(text) or _BECAME_REPLICA.match(text))

    def left(self, moved: int) -> None:
        """Notes that a connection made at `moved` was led to a server that is not the master."""
        if self.masters is not None:
            self.masters.forget()
        if moved == self.moved:
            self.moved += 1


def elsewhere(error: ResponseError) -> NotMaster:
    """What is raised in its place."""
    code = getattr(error, "status_code", None)
    return NotMaster(f"not the master: {code + ' ' if code else ''}{error}")


# Masters: which server is to be written to now, by the sentinels' word or by the cluster's.
#
# redis-py finds it. It is asked for whenever a connection is made: what was the master a moment ago may be a replica
# now.

HostPort = tuple[str, int]

_QUICK: Final[dict[str, Any]] = {"socket_timeout": 2.0, "socket_connect_timeout": 2.0}


class Masters(Protocol):
    """Finds the master that has the keys with a hash tag; raises redis-py's `ConnectionError` if none is known."""

    by_tag: bool
    """Whether different tags may have different masters."""

    found: dict[str, HostPort]
    """What was found last, by tag."""

    async def find(self, tag: str) -> HostPort:
        """Where it is, for the event loop."""

    def find_now(self, tag: str) -> HostPort:
        """The same for a thread."""

    def forget(self) -> None:
        """Notes that what was found is not right any more."""

    async def aclose(self) -> None:
        """Closes the connections that it asks over."""


class SentinelMasters:
    """One master, watched by sentinels."""

    by_tag = False

    def __init__(self, address: Address, settings: Settings, tls: Tls | None) -> None:
        self._service = address.service
        login = SentinelLogin(settings.sentinel_username, settings.sentinel_password)
        own: dict[str, Any] = {
            **_QUICK, **(tls.options if tls else {}), "ssl": address.tls, "credential_provider": login, "protocol": 2,
        }  # fmt: skip
        self._sentinel: Any = redis.asyncio.sentinel.Sentinel(  # type: ignore[no-untyped-call]
            address.hosts, sentinel_kwargs=own | {"retry": AsyncRetry(NoBackoff(), 0)}
        )
        self._own, self._hosts = own, address.hosts
        self.found: dict[str, HostPort] = {}

    async def find(self, tag: str) -> HostPort:
        """Asks them, each until one knows."""
        host, port = self.found[tag] = await self._sentinel.discover_master(self._service)
        return host, port

    def find_now(self, tag: str) -> HostPort:
        """The same for a thread."""
        del tag
        own = self._own | {"retry": Retry(NoBackoff(), 0)}
        sentinel: Any = redis.sentinel.Sentinel(self._hosts, sentinel_kwargs=own)  # type: ignore[no-untyped-call]
        try:
            host, port = sentinel.discover_master(self._service)
        finally:
            for client in sentinel.sentinels:
                client.close()
        return host, port

    def forget(self) -> None:
        """Nothing is kept."""

    async def aclose(self) -> None:
        """Closes the connections to the sentinels."""
        await self._sentinel.aclose()


class ClusterMasters:
    """The masters of a cluster, each with its slots."""

    by_tag = True

    def __init__(self, address: Address, login: Login, tls: Tls | None) -> None:
        self._hosts = address.hosts
        self.found: dict[str, HostPort] = {}
        self._options: dict[str, Any] = {
            **_QUICK, **(tls.options if tls else {}), "ssl": address.tls, "credential_provider": login,
            "protocol": 2, "require_full_coverage": False,
        }  # fmt: skip
        self._cluster: Any = None
        self._asking = asyncio.Lock()

    async def find(self, tag: str) -> HostPort:
        """Reads the slots when it has not, or has forgotten them."""
        async with self._asking:  # many connections are made at once; one of them asks
            cluster = self._cluster
            if cluster is None:
                cluster = await self._ask()
                self._cluster = cluster
        try:
            place = _place(cluster.get_node_from_key(tag))
        except RedisClusterException as error:
            self.forget()
            raise ConnectionError(f"no master has the slot of {tag}") from error
        self.found[tag] = place
        return place

    async def _ask(self) -> Any:
        nodes = [redis.asyncio.cluster.ClusterNode(host, port) for host, port in self._hosts]
        cluster: Any = redis.asyncio.RedisCluster(
            startup_nodes=nodes, retry=AsyncRetry(NoBackoff(), 0), **self._options
        )
        try:
            await cluster.initialize()
        except RedisClusterException as error:
            raise ConnectionError(f"no node of the cluster answers: {error}") from error
        finally:
            await cluster.aclose()  # it keeps what it read; its connections are not needed any more
        return cluster

    def find_now(self, tag: str) -> HostPort:
        """Asks the cluster; for a thread, which connects rarely."""
        make: Any = redis.cluster.ClusterNode
        nodes = [make(host, port) for host, port in self._hosts]
        try:
            cluster: Any = redis.RedisCluster(startup_nodes=nodes, retry=Retry(NoBackoff(), 0), **self._options)
        except RedisClusterException as error:
            raise ConnectionError(f"no node of the cluster answers: {error}") from error
        try:
            return _place(cluster.get_node_from_key(tag))
        except RedisClusterException as error:
            raise ConnectionError(f"no master has the slot of {tag}") from error
        finally:
            cluster.close()

    def forget(self) -> None:
        """The next one who asks reads the slots again."""
        self._cluster = None

    async def aclose(self) -> None:
        """Keeps no connection open."""


def _place(node: Any) -> HostPort:
    if node is None or not node.host:
        raise ConnectionError("the cluster does not say where the master of a slot is")
    return str(node.host), int(node.port)


def masters_of(address: Address | None, settings: Settings, login: Login, tls: Tls | None) -> Masters | None:
    """Who knows the masters of an address; None where it names the server itself."""
    if address is not None and address.kind == "sentinel":
        return SentinelMasters(address, settings, tls)
    if address is not None and address.kind == "cluster":
        return ClusterMasters(address, login, tls)
    return None
