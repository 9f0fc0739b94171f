"""Connections that fail without an error reply: damaged replies, one command that is cut each time, long refusals."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import pytest
from structlog.testing import capture_logs

from streams import Consumer, Limit, Processor, PublishUncertain, Settings, Streams, Unreachable
from tests.conftest import RedisFactory
from tests.streams.consuming.test_consumer import settled
from tests.streams.redis.test_answers import nothing, times
from tests.support.answering_proxy import AnsweringProxy
from tests.support.events import Noted
from tests.support.waiting import wait_until

pytestmark = pytest.mark.newest_redis

DAMAGED = [
    b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n",
    b"\x15\x03\x03\x00\x02\x02\x50",  # an alert of TLS
    b"\x00\xff\xfe garbage",
    b"?what",
    b"$-7",
    b":twelve",
    b"*-3",
]
SCRIPTS = (b"EVAL", b"EVALSHA")


def settings_of(url: str, app: str, **more: Any) -> Settings:
    """With a lease that outlasts the fault."""
    given: dict[str, Any] = {"redis_url": url, "app": app, "publish_timeout": 2.0, "block": 0.2, "lease": 10.0}
    return Settings(**given | more)


class Group:
    """A processor of a kind, and what it has handled."""

    def __init__(self, kind: str) -> None:
        self.seen: Counter[int] = Counter()
        self.processor = Processor(kind, concurrency=4, ordered=kind == "ordered")

        @self.processor.on(Noted, limit=Limit(concurrency=4, by="key") if kind == "limited" else None)
        async def note(event: Noted) -> None:
            self.seen[event.n] += 1


@pytest.mark.parametrize("kind", ["plain", "ordered", "limited"])
@pytest.mark.parametrize("reply", DAMAGED, ids=range(len(DAMAGED)))
async def test_a_damaged_reply_costs_its_connection_alone(
    redis_factory: RedisFactory, app: str, reply: bytes, kind: str
) -> None:
    """Of any call: a lost connection, not an error that ends the consumer; nothing is lost or handled twice."""
    server, group = redis_factory(), Group(kind)
    async with AnsweringProxy(server.port, nothing) as proxy, Streams(settings=settings_of(server.url, app)) as direct:
        consumer = Consumer(group.processor, Streams(settings=settings_of(proxy.url, app)))
        await consumer.start()
        for n in range(20):
            await direct.publish(Noted(n=n), key=f"key-{n % 5}")
        await wait_until(lambda: len(group.seen) == 20)
        proxy.answer = times(reply, 8, *SCRIPTS, b"XREADGROUP")
        with capture_logs() as logs:
            for n in range(20, 40):
                await direct.publish(Noted(n=n), key=f"key-{n % 5}")
            await wait_until(lambda: len(group.seen) == 40, 20)
            await wait_until(lambda: settled(direct, group.processor.name), 15)
        assert not consumer.crashed
        assert proxy.answered == 8
        assert any("is not Redis" in line["error"] for line in logs if line["event"] == "redis.away")
        await consumer.stop()
    assert set(group.seen.values()) == {1}


@pytest.mark.parametrize("reply", DAMAGED, ids=range(len(DAMAGED)))
async def test_what_was_published_under_a_damaged_reply_is_published_once(
    redis_factory: RedisFactory, app: str, reply: bytes
) -> None:
    """It is sent again under the same number; when every reply is damaged, it is not known whether it arrived."""
    server = redis_factory()
    async with AnsweringProxy(server.port, nothing) as proxy, Streams(settings=settings_of(proxy.url, app)) as streams:
        await streams.publish(Noted(n=0))
        proxy.answer = times(reply, 2, *SCRIPTS)
        await streams.publish_many([Noted(n=1), Noted(n=2)])
        assert proxy.answered == 2
        assert await streams.redis.xlen(streams.keys.stream("notes")) == 3
        proxy.answer = times(reply, 1_000, *SCRIPTS)
        with pytest.raises(PublishUncertain, match="what answers is not Redis"):
            await streams.publish(Noted(n=3))
        proxy.answer = nothing


async def test_a_loop_that_fails_by_itself_waits_longer_each_time(redis_factory: RedisFactory, app: str) -> None:
    """What stands between cuts each read (one that is too large, say) and lets everything else through: the others'
    successes are no reason to connect for it, and to say so, without a pause.
    """
    server, group = redis_factory(), Group("plain")
    async with AnsweringProxy(server.port, nothing) as proxy, Streams(settings=settings_of(server.url, app)) as direct:
        consumer = Consumer(group.processor, Streams(settings=settings_of(proxy.url, app)))
        await consumer.start()
        await direct.publish(Noted(n=0))
        await wait_until(lambda: 0 in group.seen)
        proxy.answer = times(b"?cut", 1_000_000, b"XREADGROUP")
        with capture_logs() as logs:
            await direct.publish(Noted(n=1))
            began = time.monotonic()
            await wait_until(lambda: proxy.answered >= 36, 25)  # of three lanes, each with a loop of its own
            assert time.monotonic() - began > 3.0  # 0.05 s, and twice as long each time; with jitter
        assert len(logs) < 60, Counter(line["event"] for line in logs)
        proxy.answer = nothing
        await wait_until(lambda: 1 in group.seen, 10)
        await consumer.stop()


@pytest.mark.parametrize(
    "reply",
    [
        b"-MISCONF Errors writing to the AOF file: No space left on device",
        b"-OOM command not allowed when used memory > 'maxmemory'.",
        b"-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
        b"-NOREPLICAS Not enough good replicas to write.",
        b"-ERR upstream failure",
        b"-NOSCRIPT No matching script. Please use EVAL.",
    ],
    ids=lambda reply: reply.split()[0].decode(),
)
async def test_a_refusal_that_lasts_is_said_now_and_then(redis_factory: RedisFactory, app: str, reply: bytes) -> None:
    """A full disk lasts a night: each loop says it once in a while, not each time it tries."""
    server, group = redis_factory(), Group("limited")
    async with AnsweringProxy(server.port, nothing) as proxy, Streams(settings=settings_of(server.url, app)) as direct:
        consumer = Consumer(group.processor, Streams(settings=settings_of(proxy.url, app)))
        await consumer.start()
        await direct.publish(Noted(n=0))
        await wait_until(lambda: 0 in group.seen)
        await wait_until(lambda: settled(direct, group.processor.name))
        proxy.answer = times(reply, 1_000_000, *SCRIPTS, b"XREADGROUP")
        with capture_logs() as logs:
            await direct.publish(Noted(n=1))
            await wait_until(lambda: proxy.answered >= 25, 20)
        told = Counter((line["event"], line.get("source")) for line in logs if line["event"].endswith(".refused"))
        assert told, logs
        assert max(told.values()) == 1, told
        proxy.answer = nothing
        await wait_until(lambda: 1 in group.seen, 10)
        await wait_until(lambda: settled(direct, group.processor.name), 10)
        await consumer.stop()
    assert set(group.seen.values()) == {1}


@pytest.mark.parametrize("timeout", [0.3, 0.5, 0.8, 1.3])
async def test_an_attempt_that_is_cut_short_hides_no_cause(
    redis_factory: RedisFactory, app: str, timeout: float
) -> None:
    """The time is over in the middle of the last attempt; what the ones before it were answered is the cause."""
    server, asked = redis_factory(), [0]

    def answer(command: list[bytes]) -> bytes | None:
        if command[0] not in SCRIPTS:
            return None
        asked[0] += 1
        return b"-READONLY You can't write against a read only replica.\r\n" if asked[0] < 4 else b""  # swallowed

    async with AnsweringProxy(server.port, nothing) as proxy:
        async with Streams(settings=settings_of(proxy.url, app, publish_timeout=timeout)) as streams:
            await streams.publish(Noted(n=0))
            proxy.answer = answer
            with pytest.raises((Unreachable, PublishUncertain), match="READONLY"):
                await streams.publish(Noted(n=1))
            proxy.answer = nothing


@pytest.mark.parametrize("command", ["time", "hset", "xreadgroup", "zadd", "xinfo|groups", "evalsha"])
@pytest.mark.parametrize("kind", ["ordered", "limited"])
async def test_a_permission_that_is_taken_and_given_back(
    redis_factory: RedisFactory, app: str, kind: str, command: str
) -> None:
    """Inside scripts too: it is no damage of a key, the log says so, and what waited goes on within seconds."""
    server, group = redis_factory(), Group(kind)
    server.cli("ACL", "SETUSER", "worker", "on", ">word", "~*", "&*", "+@all")
    url = f"redis://worker:word@127.0.0.1:{server.port}/0"
    async with Streams(settings=settings_of(server.url, app)) as direct:
        consumer = Consumer(group.processor, Streams(settings=settings_of(url, app)))
        await consumer.start()
        await direct.publish(Noted(n=0), key="a")
        await wait_until(lambda: 0 in group.seen)
        with capture_logs() as logs:
            server.cli("ACL", "SETUSER", "worker", f"-{command}")
            for n in range(1, 11):
                await direct.publish(Noted(n=n), key="a")
            await wait_until(lambda: len(group.seen) == 11 or any("permission" in str(line) for line in logs), 20)
        assert len(logs) < 60
        server.cli("ACL", "SETUSER", "worker", f"+{command.partition('|')[0]}")
        await wait_until(lambda: len(group.seen) == 11, 20)
        await wait_until(lambda: settled(direct, group.processor.name), 10)
        assert not consumer.crashed
        await consumer.stop()
    assert set(group.seen.values()) == {1}
