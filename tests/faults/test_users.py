"""Users: docs/users.acl lets each role do its job, and nothing that is not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest
import redis.asyncio

from schemas import Event
from streams import Consumer, Limit, Processor, Retry, Settings, Streams
from streams.upkeep import Upkeep
from tests.conftest import RedisFactory
from tests.redis_server import RedisServer
from tests.waiting import wait_until

ROLES: Final = Path(__file__).parents[2] / "docs" / "users.acl"
SECRET: Final = "admins-own"
As = Callable[[str], Settings]


class Watched(Event, stream="watched", version=1):
    """Something to do."""

    n: int


class Noticed(Event, stream="noticed", version=1):
    """What follows."""

    n: int


@pytest.fixture
def server(redis_factory: RedisFactory, tmp_path: Path, app: str) -> RedisServer:
    """A Redis with the roles, each with its own name as its password; the default user is the test's."""
    lines = []
    for line in ROLES.read_text().replace("{planning-bord:", f"{{{app}:").splitlines():
        _, name, off, rules = line.split(" ", 3)
        assert off == "off", "nobody has a password that this project chose"
        lines.append(f"user {name} on >{name} {rules}")
    lines[0] = f"user default on >{SECRET} ~* &* +@all"
    path = tmp_path / "users.acl"
    path.write_text("\n".join(lines) + "\n")
    made: RedisServer = redis_factory(password=SECRET, args=("--aclfile", str(path)))
    return made


@pytest.fixture
def role(server: RedisServer, app: str) -> As:
    """The settings of a role."""

    def settings(name: str) -> Settings:
        url = f"redis://{name}:{name}@127.0.0.1:{server.port}/0"
        return Settings(
            redis_url=url, app=app, lease=1.0, block=0.2, grace=1.0, backoff=50, keep=5, dead_most=100,
            replicated_within=0.05,
        )  # fmt: skip

    return settings


@pytest.fixture
async def consumer(role: As) -> AsyncIterator[Consumer]:
    """A processor that retries, gives up, publishes, and has a schedule, an order, and a limit."""
    made = Processor("watcher", ordered=True)
    tried: set[int] = set()

    @made.on(Watched, limit=Limit(rate=100, burst=1, concurrency=2))
    async def handle(event: Watched) -> Noticed:
        if event.n == 1 and not tried:
            tried.add(event.n)
            raise Retry("later", after=0.1)
        if event.n == 2:
            raise ValueError("never")
        return Noticed(n=event.n)

    @made.every(3600, name="hourly")
    def hourly() -> Watched:
        return Watched(n=9)

    started = Consumer(made, Streams(settings=role("processor")))
    await started.start()
    yield started
    await started.stop()


async def test_each_role_does_its_job(server: RedisServer, role: As, consumer: Consumer) -> None:
    """Publishing, consuming and steering, each by its own user; Redis has denied nobody anything."""
    async with Streams(settings=role("publisher")) as publisher:
        first = await publisher.publish(Watched(n=0))
        await publisher.publish(Watched(n=1), once="one", key="k", priority="high")
        failing = await publisher.publish(Watched(n=2))
        delayed = await publisher.publish(Watched(n=3), delay=3600)
        await publisher.publish_many(Watched(n=n) for n in range(4, 20))
        *_, last = await publisher.publish_many((Watched(n=n) for n in range(20, 40)), key="k")
    async with Streams(settings=role("operator")) as operator:

        async def state(id: str) -> str:
            groups = (await operator.event(id)).groups
            return groups[0].state if groups else ""

        async def is_dead() -> bool:
            return await operator.dead_letters("watcher").count() == 1

        await wait_until(is_dead)
        assert await state(first.id) == "acked"
        await operator.cancel(delayed.id)
        await operator.cancel(last.id)
        letters = operator.dead_letters("watcher")
        letter = await letters.edit(failing.id, Watched(n=8))
        assert (await letters.replay([letter.id])).done == 1
        assert (await operator.replay("watched", group="watcher", ids=[first.id])).replayed == 1
        assert await operator.pause("watcher")
        assert await operator.resume("watcher")
        assert (await operator.schedules.run("watcher.hourly")).ids
        await operator.schedules.pause("watcher.hourly")
        await operator.schedules.resume("watcher.hourly")

        async def idle() -> bool:
            (group,) = (await operator.snapshot()).groups
            return group.lag + group.pending + group.waiting == 0

        await wait_until(idle)
        assert not list((await operator.accounts()).gaps())
        await operator.trim("watched", older_than=timedelta(hours=1))
        async with Streams(settings=role("processor")) as client:
            await Upkeep(client, consumer.processor).look()
        await consumer.stop()
        assert (await operator.retire("watcher", apply=True)).done
    assert server.cli("ACL", "LOG") == []


_NOBODY: Final = (
    "FLUSHALL", "FLUSHDB", "SHUTDOWN NOSAVE", "KEYS *", "SCAN 0", "CONFIG SET appendonly no", "MODULE LIST", "ACL LIST",
    "REPLICAOF NO ONE", "CLIENT KILL TYPE normal", "MONITOR", "GET other", "XADD other * a b", "EVAL return 1 1 other",
    "RENAME {app}:due {app}:x", "SCRIPT FLUSH", "MIGRATE h 1 k 0 1", "XGROUP SETID {app}:x g 0", "SUBSCRIBE other",
)  # fmt: skip
_DENIED: Final = {
    "publisher": (
        "XRANGE {app}:x - +", "XREADGROUP GROUP g c STREAMS {app}:x >", "XDEL {app}:x 1-1", "XTRIM {app}:x MAXLEN 0",
        "DEL {app}:due", "SUBSCRIBE {app}:control:watcher", "XGROUP DESTROY {app}:x g", "XACK {app}:x g 1-1",
        "CONFIG GET appendfsync", "HGET {app}:groups g", "ZREM {app}:due x",
    ),
    "processor": ("CONFIG GET appendfsync", "XGROUP DESTROY {app}:x g"),
    "operator": ("XREADGROUP GROUP g c STREAMS {app}:x >", "XACK {app}:x g 1-1", "XCLAIM {app}:x g c 0 1-1"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(_DENIED))
async def test_nobody_does_more(server: RedisServer, app: str, name: str) -> None:
    """What is not a role's job is denied to it, and so are keys of other prefixes."""
    client: Any = redis.asyncio.Redis(port=server.port, username=name, password=name, protocol=2)
    allowed = []
    try:
        for command in (*_NOBODY, *_DENIED[name]):
            try:
                await client.execute_command(*command.replace("{app}", f"{{{app}:0}}").split())
                allowed.append(command)
            except redis.exceptions.NoPermissionError:
                continue
    finally:
        await client.aclose()
    assert not allowed
