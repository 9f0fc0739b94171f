"""Master discovery: where the master is, by sentinels and by a cluster, and what says that a server is not it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.exceptions import AskError, ConnectionError, MovedError, ResponseError

from streams import Settings, Streams, StreamsError, Unreachable
from streams.redis.connection import Connections
from streams.redis.embedded import ServerBinary
from streams.redis.keys import Keys
from streams.redis.master_discovery import ClusterMasters, Masters, Route, SentinelMasters, elsewhere
from tests.support.events import Noted
from tests.support.redis_cluster import RedisCluster
from tests.support.redis_sentinels import RedisSentinels

pytestmark = pytest.mark.newest_redis


@pytest.fixture
def cluster(redis_binary: ServerBinary, tmp_path: Path) -> Iterator[RedisCluster]:
    """Three masters."""
    made = RedisCluster(redis_binary, tmp_path)
    yield made.start()
    made.stop()


async def test_sentinels_name_the_master(sentinels: RedisSentinels, app: str) -> None:
    """To the event loop and to threads; a client of theirs publishes there, and shows the server that it uses."""
    async with Streams(settings=Settings(redis_url=sentinels.url, app=app)) as streams:
        await streams.publish(Noted(n=1))
        port = sentinels.master().port
        assert streams.connections.server == f"redis://127.0.0.1:{port}"
        with streams.connections.blocking() as client:
            assert client.xlen(streams.keys.stream("notes")) == 1
        assert streams.connections.at("{any}") is streams.connections  # all tags have the one master
    with sentinels.master().client() as client:
        assert client.xlen(streams.keys.stream("notes")) == 1
    # A name that they do not know: publishing fails with it, within its time.
    settings = Settings(redis_url=f"{sentinels.url}wrong", app=app, publish_timeout=0.5)
    async with Streams(settings=settings) as streams:
        with pytest.raises(Unreachable, match="eventswrong"):
            await streams.publish(Noted(n=1))


async def test_a_cluster_names_the_master_of_each_tag(cluster: RedisCluster, app: str) -> None:
    """To the event loop and to threads. A slot that moved is found after the old place was forgotten."""
    connections = Connections(Settings(redis_url=cluster.url, app=app))
    masters = connections.route.masters
    assert isinstance(masters, ClusterMasters)
    places = {}
    for number in range(12):
        tag = Keys(app, number).tag
        places[tag] = ("127.0.0.1", cluster.master_of(tag).port)
        assert await masters.find(tag) == masters.find_now(tag) == masters.found[tag] == places[tag]
        assert connections.at(tag).route.tag == tag
    assert len(set(places.values())) == 3, "twelve tags are spread over all three masters"
    tag, old = next(iter(places.items()))
    moved = ("127.0.0.1", cluster.move(tag).port)
    assert await masters.find(tag) == old, "the slots are read once"
    masters.forget()
    assert await masters.find(tag) == masters.find_now(tag) == moved
    await connections.aclose()


async def test_a_slot_that_no_master_has(cluster: RedisCluster, app: str) -> None:
    """It is an error that names the tag, for the event loop and for threads; the slots are read again the next time."""
    connections = Connections(Settings(redis_url=cluster.url, app=app))
    masters = connections.route.masters
    assert masters is not None
    tag = Keys(app).tag
    slot = cluster.master_of(tag).cli("CLUSTER", "KEYSLOT", tag)
    owner = cluster.master_of(tag)
    for node in cluster.nodes:
        node.cli("CONFIG", "SET", "cluster-require-full-coverage", "no")
        node.cli("CLUSTER", "DELSLOTS", slot)
    with pytest.raises(ConnectionError, match="no master has the slot of") as caught:
        await masters.find(tag)
    assert tag in str(caught.value)
    with pytest.raises(ConnectionError, match="no master has the slot of"):
        masters.find_now(tag)
    owner.cli("CLUSTER", "ADDSLOTS", slot)
    assert await masters.find(tag) == ("127.0.0.1", owner.port)
    await connections.aclose()


async def test_a_cluster_that_is_away(app: str) -> None:
    """It is a lost connection, which is tried again, and no error of its own."""
    masters = Connections(Settings(redis_url="redis+cluster://127.0.0.1:1,127.0.0.1:2", app=app)).route.masters
    assert masters is not None
    with pytest.raises(ConnectionError, match="no node of the cluster answers"):
        await masters.find("{t}")
    with pytest.raises(ConnectionError, match="no node of the cluster answers"):
        masters.find_now("{t}")


NOT_THE_MASTER = [
    ResponseError("You can't write against a read only replica.", status_code="READONLY"),
    ResponseError("Link with MASTER is down", status_code="MASTERDOWN"),
    ResponseError("The cluster is down", status_code="CLUSTERDOWN"),
    ResponseError("Multiple keys request during rehashing of slot", status_code="TRYAGAIN"),
    ResponseError("Error running script (call to f_1): @user_script:12: -READONLY You can't write here."),
    ResponseError("UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)"),
]
REDIRECTED = [
    MovedError("3999 127.0.0.1:6381", status_code="MOVED"),
    AskError("3999 127.0.0.1:6381", status_code="ASK"),
]
OTHER = [
    ResponseError("Operation against a key holding the wrong kind of value", status_code="WRONGTYPE"),
    ResponseError("unknown command 'READONLY_'"),
    ResponseError("the state changed UNBLOCKED"),
]


class Known:
    """Sentinels or a cluster, of which only counts how often they were forgotten."""

    by_tag = True

    def __init__(self) -> None:
        self.found: dict[str, tuple[str, int]] = {}
        self.forgotten = 0

    async def find(self, tag: str) -> tuple[str, int]:
        """Not asked for here."""
        raise NotImplementedError(tag)

    def find_now(self, tag: str) -> tuple[str, int]:
        """Not asked for here."""
        raise NotImplementedError(tag)

    def forget(self) -> None:
        """Counts."""
        self.forgotten += 1

    async def aclose(self) -> None:
        """Has nothing open."""


@pytest.mark.parametrize("masters", [None, Known()], ids=["one server", "several"])
def test_what_says_that_a_server_is_not_the_master(masters: Masters | None) -> None:
    """Of a URL that names one server, a redirection is a wrong URL; where there are several, another one is meant."""
    route = Route(masters, "", None)
    for error in NOT_THE_MASTER:
        assert route.is_elsewhere(error), error
    for error in REDIRECTED:
        assert route.is_elsewhere(error) == (masters is not None), error
    for error in OTHER:
        assert not route.is_elsewhere(error), error
    assert str(elsewhere(NOT_THE_MASTER[0])) == (
        "not the master: READONLY You can't write against a read only replica."
    )
    assert str(elsewhere(NOT_THE_MASTER[4])).startswith("not the master: Error running script")


def test_a_server_that_was_left_is_left_once() -> None:
    """Of ten connections that were made to it, the first that is refused has all of them replaced, and no later one
    replaces those that have been made since.
    """
    known = Known()
    route = Route(known, "", None)
    for _ in range(10):
        route.left(0)
    assert (route.moved, known.forgotten) == (1, 10)
    route.left(1)
    assert route.moved == 2
    Route(None, "", None).left(0)  # one server, no masters to forget


def test_it_belongs_to_the_loop_and_the_process_of_its_first_use() -> None:
    """Elsewhere it is refused, in a sentence that says where it belongs."""
    route = Route(None, "", None)
    assert not route.is_home_closed()  # not used yet

    async def enter() -> str:
        try:
            route.enter()
        except StreamsError as error:
            return str(error)
        return ""

    first = asyncio.new_event_loop()
    assert first.run_until_complete(enter()) == first.run_until_complete(enter()) == ""
    assert not route.is_home_closed()
    other = asyncio.new_event_loop()
    assert other.run_until_complete(enter()).startswith("this Streams belongs to another event loop: make one")
    reading, writing = os.pipe()
    if not (child := os.fork()):
        try:
            said = first.run_until_complete(enter())
            os.write(writing, f"{route.is_home_closed()} {said}".encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 1000).startswith(
        b"True this Streams belongs to the process that this one was forked from: make one"
    )
    os.close(reading)
    os.close(writing)
    first.close()
    assert route.is_home_closed()
    assert other.run_until_complete(enter()).startswith(
        "this Streams belongs to another event loop, which is closed: make one"
    )
    other.close()


def test_who_is_asked_is_said_by_the_url() -> None:
    """Sentinels, a cluster, or the server itself."""
    for url, kind in {
        "redis+sentinel://a:1/events": SentinelMasters, "redis+cluster://a:1": ClusterMasters,
        "redis://a:1": type(None), "unix:///run/redis.sock": type(None),
    }.items():  # fmt: skip
        assert isinstance(Connections(Settings(redis_url=url)).route.masters, kind), url
