"""What Redis answers instead of doing it: what passes by itself is waited for, what does not is said."""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from streams import Consumer, Processor, PublishUncertain, Refused, Settings, Streams, StreamsError, Unreachable
from streams.redis.embedded import ServerBinary
from tests.conftest import RedisFactory
from tests.streams.consuming.test_consumer import settled
from tests.support.answering_proxy import AnsweringProxy
from tests.support.events import Noted
from tests.support.waiting import wait_until

pytestmark = pytest.mark.newest_redis

PASSING = [
    b"-READONLY You can't write against a read only replica.",
    b"-READONLY You can't write against a read only replica. script: 83c1, on @user_script:12.",
    b"-READONLY Can not run script with write flag on readonly replica.",
    b"-ERR Error running script (call to f_83c1): @user_script:12: -READONLY You can't write here.",
    b"-UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
    b"-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    b"-CLUSTERDOWN The cluster is down",
    b"-TRYAGAIN Multiple keys request during rehashing of slot",
    b"-LOADING Redis is loading the dataset in memory",
    b"-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    b"-NOREPLICAS Not enough good replicas to write.",
    b"-MISCONF Errors writing to the AOF file: No space left on device",
]


def settings_of(url: str, app: str, **more: Any) -> Settings:
    """With a publish timeout that leaves room for some attempts."""
    given: dict[str, Any] = {"redis_url": url, "app": app, "publish_timeout": 3.0, "block": 0.2, "lease": 1.0}
    return Settings(**given | more)


def times(reply: bytes, count: int, *commands: bytes) -> Callable[[list[bytes]], bytes | None]:
    """Answers so many of these commands by the reply."""
    left = [count]

    def answer(command: list[bytes]) -> bytes | None:
        if command[0].upper() not in commands or not left[0]:
            return None
        left[0] -= 1
        return reply + b"\r\n"

    return answer


def nothing(command: list[bytes]) -> bytes | None:
    """Answers nothing itself."""
    del command
    return None


@pytest.mark.parametrize("reply", PASSING, ids=range(len(PASSING)))
async def test_what_passes_by_itself_is_published_once(redis_factory: RedisFactory, app: str, reply: bytes) -> None:
    """Within the publish timeout; beyond it the error is a documented one, which names the cause."""
    server = redis_factory()
    async with AnsweringProxy(server.port, nothing) as proxy, Streams(settings=settings_of(proxy.url, app)) as streams:
        await streams.publish(Noted(n=0))
        proxy.answer = times(reply, 3, b"EVAL", b"EVALSHA")
        await asyncio.gather(*(streams.publish(Noted(n=n)) for n in range(1, 6)))
        assert proxy.answered == 3
        assert await streams.redis.xlen(streams.keys.stream("notes")) == 6
        proxy.answer = times(reply, 1000, b"EVAL", b"EVALSHA")
        began = time.monotonic()
        with pytest.raises(Unreachable) as caught:
            await streams.publish(Noted(n=9))
        assert 1.0 < time.monotonic() - began < 4.0
        assert proxy.answered < 40
        code = reply[1:].split()[0] if not reply.startswith((b"-ERR", b"-LOADING")) else b"READONLY"
        assert code.decode() in str(caught.value) or "is loading" in str(caught.value)
        proxy.answer = nothing
        await streams.publish(Noted(n=10))
        assert await streams.redis.xlen(streams.keys.stream("notes")) == 7


@pytest.mark.parametrize("reply", PASSING, ids=range(len(PASSING)))
async def test_consumers_hold_what_passes_by_itself(redis_factory: RedisFactory, app: str, reply: bytes) -> None:
    """Reading, settling and the lease thread, all of them: nothing is lost, nothing runs twice, the log is no heap."""
    server = redis_factory()
    seen: list[int] = []
    probe = Processor("probe", concurrency=4)

    @probe.on(Noted)
    async def note(event: Noted) -> None:
        seen.append(event.n)

    async with AnsweringProxy(server.port, nothing) as proxy, Streams(settings=settings_of(server.url, app)) as direct:
        consumer = Consumer(probe, Streams(settings=settings_of(proxy.url, app, lease=10.0)))
        await consumer.start()
        await direct.publish_many(Noted(n=n) for n in range(20))
        await wait_until(lambda: len(seen) == 20)
        proxy.answer = times(reply, 12, b"EVAL", b"EVALSHA", b"XREADGROUP")
        with capture_logs() as logs:
            await direct.publish_many(Noted(n=n) for n in range(20, 40))
            await wait_until(lambda: len(seen) == 40, 25)
            await wait_until(lambda: settled(direct), 15)
        assert len(logs) < 90
        await consumer.stop()
    assert sorted(seen) == list(range(40))


async def test_a_reply_that_was_lost_stays_uncertain(redis_factory: RedisFactory, app: str) -> None:
    """The first attempt may have run; that later ones are refused makes nothing of it certain."""
    server = redis_factory()
    async with AnsweringProxy(server.port, nothing) as proxy:
        async with Streams(settings=settings_of(proxy.url, app, publish_timeout=1.0)) as streams:
            await streams.publish(Noted(n=0))
            for later in (b"-NOREPLICAS Not enough good replicas to write.\r\n", b"-OOM command not allowed\r\n"):
                first = [True]

                def answer(command: list[bytes], first: list[bool] = first, later: bytes = later) -> bytes | None:
                    if command[0] not in (b"EVAL", b"EVALSHA"):
                        return None
                    if first.pop() if first else False:
                        return b""  # it is swallowed
                    return later

                proxy.answer = answer
                with pytest.raises(PublishUncertain, match="not known whether"):
                    await streams.publish(Noted(n=1))
                proxy.answer = nothing
                await streams.publish(Noted(n=2))


async def test_replicas_that_come_back(redis_factory: RedisFactory, app: str) -> None:
    """A real NOREPLICAS, which the operations page recommends: the publish waits for it."""
    server = redis_factory()
    async with Streams(settings=settings_of(server.url, app)) as streams:
        await streams.publish(Noted(n=0))
        server.cli("CONFIG", "SET", "min-replicas-to-write", 1)
        publishing = asyncio.create_task(streams.publish(Noted(n=1)))
        await asyncio.sleep(0.3)
        assert not publishing.done()
        server.cli("CONFIG", "SET", "min-replicas-to-write", 0)
        await publishing
        server.cli("CONFIG", "SET", "min-replicas-to-write", 1)
        with pytest.raises(Unreachable, match=r"NOREPLICAS.*min-replicas-to-write"):
            await streams.publish(Noted(n=2))
        server.cli("CONFIG", "SET", "min-replicas-to-write", 0)


async def test_a_disk_that_takes_nothing(redis_factory: RedisFactory, app: str) -> None:
    """A real MISCONF: Redis could not write its snapshot."""
    server = redis_factory()
    async with Streams(settings=settings_of(server.url, app)) as streams:
        await streams.publish(Noted(n=0))
        server.cli("CONFIG", "SET", "save", "3600 1")
        shutil.move(server.directory, server.directory.with_name("moved"))
        shutil.rmtree(server.directory.with_name("moved"))
        server.cli("BGSAVE")
        await wait_until(lambda: server.cli("INFO", "persistence")["rdb_last_bgsave_status"] == "err")
        publishing = asyncio.create_task(streams.publish(Noted(n=1)))
        await asyncio.sleep(0.3)
        assert not publishing.done()
        with pytest.raises(Unreachable, match="MISCONF"):
            await publishing
        server.cli("CONFIG", "SET", "save", "")
        await streams.publish(Noted(n=2))


async def test_a_redirection_is_a_wrong_url(redis_factory: RedisFactory, app: str) -> None:
    """A node of a cluster by a plain URL: it would be the same with each connection."""
    server = redis_factory()
    async with AnsweringProxy(server.port, times(b"-MOVED 3999 127.0.0.1:6381", 99, b"EVAL", b"EVALSHA")) as proxy:
        async with Streams(settings=settings_of(proxy.url, app)) as streams:
            with pytest.raises(Refused, match=r"is a node of a cluster; use redis\+cluster://"):
                await streams.publish(Noted(n=0))


def old(command: list[bytes]) -> bytes | None:
    """As Redis 6.2 does."""
    match [command[0].upper(), *command[1:]]:
        case [b"INFO", _, _, *_]:
            return b"-ERR syntax error\r\n"
        case [b"INFO", *_]:
            info = b"# Server\r\nredis_version:6.2.14\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\n"
            return b"$%d\r\n%s\r\n" % (len(info), info)
        case [b"EVAL", *_]:
            return b"-ERR Error compiling script (new function): user_script:1: unexpected symbol near '#' \r\n"
        case [b"EVALSHA", *_]:
            return b"-NOSCRIPT No matching script. Please use EVAL.\r\n"
    return None


async def test_an_old_redis_is_called_too_old(
    redis_factory: RedisFactory, redis_binary: ServerBinary, app: str, streams_env: dict[str, str]
) -> None:
    """By publishers, consumers and commands, with 78 from processes: its INFO takes one section, its scripts no flags.
    What it answers was taken from a 6.2.14.
    """
    del redis_binary
    server = redis_factory()
    async with AnsweringProxy(server.port, old) as proxy:
        async with Streams(settings=settings_of(proxy.url, app)) as streams:
            with pytest.raises(Refused, match=r"too old: version 6\.2\.14, install 7\.0 or later"):
                await streams.publish(Noted(n=0))
        consumer = Consumer(Processor("probe"), Streams(settings=settings_of(proxy.url, app)))
        with pytest.raises(Refused, match="too old"):
            await consumer.start()
        await consumer.stop()
        env = {**streams_env, "REDIS_URL": proxy.url}
        for command in ("streams doctor", "streams status", "streams gaps", "tests.support.programs.probe"):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", *command.split(), env=env, stdout=-1, stderr=-1
            )
            _, errors = await process.communicate()
            assert process.returncode == 78, (command, errors)
            assert b"too old" in errors, command


async def test_what_is_no_error_of_the_network_stays_as_it_is(redis_factory: RedisFactory, app: str) -> None:
    """A key of the wrong type, a full server: at once, and not tried again."""
    server = redis_factory()
    async with Streams(settings=settings_of(server.url, app)) as streams:
        await streams.publish(Noted(n=0))
        await streams.redis.delete(streams.keys.stream("notes"))
        await streams.redis.set(streams.keys.stream("notes"), "x")
        began = time.monotonic()
        with pytest.raises(StreamsError, match=r"refuses the event .* WRONGTYPE") as caught:
            await streams.publish(Noted(n=1))
        assert not isinstance(caught.value, Unreachable)
        assert time.monotonic() - began < 1.0
        await streams.redis.delete(streams.keys.stream("notes"))
