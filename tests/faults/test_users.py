"""Users: docs/operate/users.acl lets each role do its job, and nothing that is not."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
import redis.asyncio
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncSession

from examples.fakes.mail_server import MailServer
from processors.shared.database.migration import upgrade
from processors.shared.database.tables import businesses
from schemas import (
    DailyDigestDue,
    InventoryBulkUpdateRequested,
    InventoryExportRequested,
    PasswordResetRequested,
    ReportRequested,
    StockBelowThreshold,
    UserRegistered,
)
from schemas.inventory import StockChange
from streams import (
    Consumer,
    Event,
    Limit,
    NotReplicated,
    Processor,
    Refused,
    Retry,
    Settings,
    Streams,
    StreamsError,
)
from streams.consuming.maintenance import Maintenance
from streams.redis.keys import PRIORITIES
from streams.sql import Outbox, create_tables, make_engine
from streams.sql.relay import Relay
from tests.conftest import RedisFactory
from tests.support.child import Spawn
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

ROLES: Final = Path(__file__).parents[2] / "docs" / "operate" / "users.acl"
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
            await Maintenance(client, consumer.processor).look()
        await consumer.stop()
        assert (await operator.retire("watcher", apply=True)).done
    log = server.cli("ACL", "LOG")
    assert log == [], [entry[3:10] for entry in log]


async def test_a_publisher_can_do_all_of_publishing(server: RedisServer, role: As, tmp_path: Path) -> None:
    """Each option of `publish`, batches, a stream that must be made anew with its groups, replicas, and the relay."""
    registered = Processor("watcher")

    @registered.on(Watched)
    async def handle(event: Watched) -> None:
        raise AssertionError("it does not run")

    consumer = Consumer(registered, Streams(settings=role("processor")))
    await consumer.start()
    await consumer.stop()
    keys = Streams(settings=role("publisher")).keys
    server.cli("DEL", keys.stream("watched"))

    engine = make_engine(f"sqlite:///{tmp_path}/outbox.db")
    await create_tables(engine)
    async with Streams(settings=role("publisher")) as publisher:
        await publisher.publish(Watched(n=0))
        await publisher.publish(Watched(n=1), delay=3600)
        await publisher.publish(Watched(n=2), at=datetime.now(UTC) + timedelta(hours=1))
        assert await publisher.publish(Watched(n=3), once="x") == await publisher.publish(Watched(n=3), once="x")
        await publisher.publish(Watched(n=4), once="y", delay=3600)
        await publisher.publish(Watched(n=5), key="k")
        for priority in PRIORITIES:
            await publisher.publish(Watched(n=6), priority=priority)
        await publisher.publish(Watched(n=7), expires=timedelta(hours=1))
        await publisher.publish_many(Watched(n=n) for n in range(1000))
        with pytest.raises(NotReplicated):
            await publisher.publish(Watched(n=8), replicated=True)
        async with AsyncSession(engine) as session, session.begin():
            await Outbox().publish(session, Watched(n=9), key="k")
            await Outbox().publish(session, Watched(n=10), delay=3600)
        assert await Relay(engine, publisher).relay() == 2
    await engine.dispose()
    assert server.cli("XLEN", keys.stream("watched")) == 1007
    assert server.cli("ZCARD", keys.due()) == 4
    assert [group[1] for group in server.cli("XINFO", "GROUPS", keys.stream("watched"))] == [b"watcher"]
    assert server.cli("ACL", "LOG") == []


@pytest.mark.timeout(90)
async def test_a_processor_runs_all_processors_and_the_relay(
    server: RedisServer, app: str, role: As, spawn: Spawn, tmp_path: Path
) -> None:
    """Whole processes, as `python -m processors` starts them: mails with marks and tokens, stock, a report, files."""
    database = f"sqlite:///{tmp_path}/business.db"
    engine = make_engine(database)
    await upgrade(engine)
    async with engine.begin() as connection:
        now = datetime.now(UTC)
        await connection.execute(insert(businesses).values(id=1, name="Shop", currency="EUR", created_at=now))
    with MailServer(tmp_path / "mails") as sink:
        environment = {
            "REDIS_URL": f"redis://127.0.0.1:{server.port}/0", "REDIS_USERNAME": "processor",
            "REDIS_PASSWORD": "processor", "QUEUE_PREFIX": app, "DATABASE_URL": database,
            "STORAGE_URL": f"file://{tmp_path}/files", "STREAMS_HOME": str(tmp_path / "home"),
            "SMTP_URL": f"smtp://127.0.0.1:{sink.port}", "EMAIL_FROM": "no-reply@bord.example",
            "EMAIL_AMBIGUOUS": "hold", "EMAIL_DIGEST_TO": "ada@example.com", "EMAIL_RATE": "100",
            "EMAIL_STOCK_ALERTS_TO": "ada@example.com", "EMAIL_STOCK_GATHER": "1", "OTEL_SDK_DISABLED": "true",
        }  # fmt: skip
        processors = spawn("processors", env=environment)
        relay = spawn("streams.sql.relay", env=environment)
        ada = "ada@example.com"
        async with AsyncSession(engine) as session, session.begin():
            await Outbox().publish(session, UserRegistered(user_id=1, email=ada, name="Ada"))
        async with Streams(settings=role("publisher")) as publisher:
            await publisher.publish(
                PasswordResetRequested(
                    user_id=1, email=ada, reset_id="reset-123", expires_at=datetime.now(UTC) + timedelta(hours=1)
                )
            )
            await publisher.publish(StockBelowThreshold(business_id=1, sku="A", quantity=1, threshold=2))
            await publisher.publish(DailyDigestDue(day=datetime.now(UTC).date() - timedelta(days=1)))
            await publisher.publish(
                InventoryBulkUpdateRequested(business_id=1, items=[StockChange(sku="A", quantity=1)])
            )
            await publisher.publish(
                ReportRequested(business_id=1, report_type="inventory-summary", format="csv", user_email=ada)
            )
            await publisher.publish(InventoryExportRequested(business_id=1, user_email=ada))
        await wait_until(
            lambda: len(sink.mails()) >= 6, timeout=60, message="six mails: of each event, and what follows"
        )
        async with Streams(settings=role("operator")) as operator:

            async def idle() -> bool:
                groups = (await operator.snapshot()).groups
                return len(groups) == 4 and not any(g.lag + g.pending + g.waiting + g.dead for g in groups)

            await wait_until(idle, timeout=20)
        for child in (processors, relay):
            child.terminate()
            assert child.wait() == 0
    await engine.dispose()
    assert server.cli("ACL", "LOG") == []


async def test_a_service_publishes_to_its_own_streams_only(server: RedisServer, app: str, role: As) -> None:
    """The example of docs/operate/operations.md: one user for each service, narrowed by what its streams are called."""
    rules = next(line for line in ROLES.read_text().splitlines() if line.startswith("user publisher "))
    assert "~{planning-bord:*}:stream:*)" in rules
    narrowed = rules.replace("}:stream:*)", "}:stream:watched ~{planning-bord:*}:stream:watched:*)")
    words = narrowed.replace("{planning-bord:", f"{{{app}:").split(" ", 3)[3]
    server.cli("ACL", "SETUSER", "service", "on", ">service", *_rules(words))
    async with Streams(settings=role("service")) as service:
        for priority in PRIORITIES:
            await service.publish(Watched(n=1), priority=priority)
        with pytest.raises((Refused, StreamsError), match=r"refuses the event .*access (at least one|a key)"):
            await service.publish(Noticed(n=1))
    assert server.cli("EXISTS", Streams(settings=role("publisher")).keys.stream("noticed")) == 0


def _rules(words: str) -> list[str]:
    """The rules of a line: a selector in parentheses is one."""
    return re.findall(r"\([^)]*\)|\S+", words)


_NOBODY: Final = (
    "FLUSHALL", "FLUSHDB", "SHUTDOWN NOSAVE", "KEYS *", "SCAN 0", "CONFIG SET appendonly no", "MODULE LIST", "ACL LIST",
    "REPLICAOF NO ONE", "CLIENT KILL TYPE normal", "MONITOR", "GET other", "XADD other * a b", "EVAL return 1 1 other",
    "RENAME {app}:due {app}:x", "SCRIPT FLUSH", "MIGRATE h 1 k 0 1", "XGROUP SETID {app}:x g 0", "SUBSCRIBE other",
    "SLOWLOG GET", "CLIENT LIST", "CLIENT PAUSE 1", "FUNCTION LIST", "RANDOMKEY", "SWAPDB 0 1",
    # What would destroy events and dead letters, or the order of things.
    "SET {app}:stream:users x", "DEL {app}:stream:users", "PEXPIRE {app}:stream:users 1", "UNLINK {app}:dead:email",
    "SET {app}:dead:email x", "DEL {app}:dead:email", "XTRIM {app}:dead:email MAXLEN 0", "DEL {app}:due",
    "DEL {app}:waiting", "SET {app}:due x", "DEL {app}:groups", "SET {app}:groups x", "SET {app}:books x",
    "DEL {app}:books", "DEL {app}:schedules", "SET {app}:history:email x", "XDEL {app}:history:email 1-1",
    "RESTORE {app}:due 0 x", "COPY {app}:due {app}:x", "EXPIRE {app}:waiting 1", "SET {app}:cancelled:email x",
    "EVAL {set} 1 {app}:stream:users", "EVAL {set} 1 {app}:groups", "EVAL {del} 1 {app}:waiting",
    "EVAL {del} 1 {app}:dead:email", "EVAL {set} 0",
)  # fmt: skip
_READING: Final = (
    "XRANGE {app}:stream:users - +", "XREVRANGE {app}:dead:email + -", "XLEN {app}:inbox:email",
    "HGETALL {app}:waiting", "HGET {app}:waiting x", "HVALS {app}:waiting", "HGET {app}:groups g",
    "XREAD STREAMS {app}:stream:users 0",
    "GET {app}:own:email:reset:x:token", "HGETALL {app}:progress:x", "ZRANGE {app}:due 0 -1", "HGETALL {app}:books",
    "XINFO STREAM {app}:stream:users",
)  # fmt: skip
_OTHERS_WORK: Final = {
    "publisher": (
        *_READING,
        "XREADGROUP GROUP g c STREAMS {app}:stream:users >", "XDEL {app}:stream:users 1-1",
        "XTRIM {app}:stream:users MAXLEN 0", "SUBSCRIBE {app}:control:email", "PUBLISH {app}:control:email pause",
        "XGROUP DESTROY {app}:stream:users g", "XACK {app}:stream:users g 1-1", "CONFIG GET appendfsync",
        "XGROUP DELCONSUMER {app}:stream:users g c", "SCRIPT KILL", "CLIENT UNBLOCK 1",
        "ZREM {app}:due x", "HDEL {app}:waiting x", "HSET {app}:groups email x", "HDEL {app}:groups email",
        "HSET {app}:schedules x y", "HDEL {app}:schedules x", "HSET {app}:slots x y", "SET {app}:partitions 9",
        "DEL {app}:partitions", "HSET {app}:books x y", "XADD {app}:dead:email * a b", "XADD {app}:inbox:email * a b",
        "XADD {app}:history:email * a b", "ZADD {app}:cancelled:email 1 x", "ZADD {app}:consumers:email 1 x",
        "SADD {app}:paused email", "HSET {app}:replays x y", "HSET {app}:turns:email k v",
        "ZADD {app}:limits:email 1 x", "HSET {app}:limits:email:x a b", "HSET {app}:progress:x a b",
        "HSET {app}:reports:email a b", "SET {app}:own:email:reset:x:token y", "SET {app}:own:email:reset:x:address y",
        "DEL {app}:own:email:mail:x", "DEL {app}:once:x", "EVAL {set} 1 {app}:own:email:reset:x:token",
    ),
    "processor": (
        "CONFIG GET appendfsync", "XGROUP DESTROY {app}:stream:users g", "SCRIPT KILL", "XDEL {app}:stream:users 1-1",
        "HDEL {app}:groups email", "HDEL {app}:schedules x", "DEL {app}:partitions", "SADD {app}:paused email",
        "SREM {app}:paused email", "ZADD {app}:cancelled:email 1 x", "HSET {app}:replays x y", "DEL {app}:inbox:email",
        "DEL {app}:once:x", "DEL {app}:turns:email", "XTRIM {app}:inbox:email MAXLEN 0",
    ),
    "operator": (
        "XREADGROUP GROUP g c STREAMS {app}:stream:users >", "XACK {app}:stream:users g 1-1",
        "XCLAIM {app}:stream:users g c 0 1-1", "XAUTOCLAIM {app}:stream:users g c 0 0",
        "ZADD {app}:consumers:email 1 x",
        "HSET {app}:groups email x", "HSET {app}:schedules x y", "HSET {app}:progress:x a b", "CLIENT UNBLOCK 1",
        "SET {app}:own:email:reset:x:token y", "DEL {app}:own:email:mail:x", "DEL {app}:once:x", "DEL {app}:slots",
    ),
}  # fmt: skip
_ARGUMENTS: Final = {"{set}": "return redis.call('SET', KEYS[1] or 'other', 'x')",
                     "{del}": "return redis.call('DEL', KEYS[1])"}  # fmt: skip


@pytest.mark.parametrize("name", list(_OTHERS_WORK))
async def test_nobody_does_more(server: RedisServer, app: str, name: str) -> None:
    """What is not a role's job is denied to it, in a script too, and so are keys of other prefixes."""
    client: Any = redis.asyncio.Redis(port=server.port, username=name, password=name, protocol=2)
    allowed = []
    try:
        for command in (*_NOBODY, *_OTHERS_WORK[name]):
            words = command.replace("{app}", f"{{{app}:0}}").split()
            try:
                await client.execute_command(*[_ARGUMENTS.get(word, word) for word in words])
                allowed.append(command)
            except redis.exceptions.NoPermissionError:
                continue
            except redis.exceptions.ResponseError as error:
                if not re.search(r"ACL failure in script|The user executing the script can't", str(error)):
                    allowed.append(f"{command}: {error}")
    finally:
        await client.aclose()
    assert not allowed


async def test_an_operator_ends_a_script_that_does_not_end(server: RedisServer, app: str) -> None:
    """Any role may run a script, and one without an end stops everybody: Redis asks nobody but who may kill it."""
    publisher: Any = redis.asyncio.Redis(port=server.port, username="publisher", password="publisher", protocol=2)
    operator: Any = redis.asyncio.Redis(port=server.port, username="operator", password="operator", protocol=2)
    server.cli("CONFIG", "SET", "busy-reply-threshold", "10")
    try:
        endless = asyncio.ensure_future(publisher.eval("while true do end", 0))

        async def killed() -> bool:
            try:
                return bool(await operator.script_kill())
            except redis.exceptions.NoPermissionError:
                raise
            except redis.exceptions.ResponseError:  # nothing runs yet
                return False

        await wait_until(killed)
        with pytest.raises(redis.exceptions.ResponseError, match=r"[Ss]cript killed"):
            await endless
    finally:
        await publisher.aclose()
        await operator.aclose()
