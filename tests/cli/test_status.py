"""status, doctor and schema."""

from __future__ import annotations

import asyncio
import io
import json
from dataclasses import replace

import pytest

from schemas import UserRegistered
from streams import Consumer, Processor, Settings, Streams
from streams.cli.commands.status import picture
from streams.events import registered_types
from streams.inspecting.ledger import Gap
from streams.inspecting.reconciliation import Accounts
from tests.cli.conftest import Cli
from tests.cli.consuming import Desk, consuming, registered
from tests.conftest import RedisFactory
from tests.support.child import Spawn
from tests.support.waiting import wait_until

pytestmark = pytest.mark.newest_redis


async def test_an_empty_redis(cli: Cli) -> None:
    result = await cli("status")
    assert (result.code, result.err) == (0, "")
    assert "nothing is published yet" in result.out
    shown = (await cli("status", "--json")).json()
    assert (shown["streams"], shown["groups"], shown["waiting"]["total"]) == ([], [], 0)


async def test_a_group_at_work(cli: Cli, client: Streams, settings: Settings) -> None:
    desk = Desk()
    await client.publish_many(map(registered, (Desk.REJECTED, Desk.HANGING, Desk.SNOOZED, 9)))
    async with consuming(desk, settings) as consumer:
        await wait_until(lambda: client.redis.xlen(client.keys.dead("email")))
        await wait_until(lambda: client.redis.zcard(client.keys.due()))
        shown = (await cli("status", "--json")).json()
        (group,) = shown["groups"]
        assert {key: group[key] for key in ("name", "lag", "pending", "waiting", "dead", "alive")} == {
            "name": "email", "lag": 0, "pending": 1, "waiting": 1, "dead": 1, "alive": 1,
        }  # fmt: skip
        assert group["consumers"][0]["name"] == consumer.name
        result = await cli("status")
    assert result.code == 0
    for part in ("users", "email", consumer.name, "waiting 1: 0 delayed, 1 retries and snoozes"):
        assert part in result.out
    assert not any(line.endswith(" ") for line in result.out.splitlines())


async def test_a_lane_without_events_hides_no_stream(cli: Cli, client: Streams) -> None:
    """It is not shown itself; the streams after it are."""
    for priority in ("high", "low", "normal"):
        await client.publish(registered(9), priority=priority)
    await client.redis.xtrim(client.keys.by_priority("users")[0], maxlen=0, approximate=False)
    shown = [(one.name, one.priority, one.length) for one in (await client.snapshot()).streams]
    assert shown == [("users", "high", 0), ("users", "normal", 1), ("users", "low", 1)]
    out = (await cli("status")).out
    assert "users:high" not in out
    assert [line.split()[:2] for line in out.splitlines() if line.startswith("users")] == [
        ["users", "1"], ["users:low", "1"],
    ]  # fmt: skip


async def test_watch(spawn: Spawn, client: Streams) -> None:
    child = spawn("streams", "status", "--watch", "--json", "--every", "0.2")
    await wait_until(lambda: child.stdout().count("\n") >= 2, 20)
    await client.publish(registered())
    await wait_until(lambda: json.loads(child.stdout().splitlines()[-1])["streams"], 20)
    child.kill()


def found(result: list[dict[str, str]]) -> dict[str, str]:
    """The status of each check; the worst when there are several."""
    order = ("ok", "warn", "fail")
    statuses: dict[str, str] = {}
    for finding in result:
        known = statuses.get(finding["check"], "ok")
        statuses[finding["check"]] = max(known, finding["status"], key=order.index)
    return statuses


async def test_doctor_when_all_is_well(cli: Cli, client: Streams, settings: Settings) -> None:
    async with consuming(Desk(), settings):
        result = await cli("doctor", "--json")
        assert result.code == 0, result
        findings = result.json()
        assert {finding["status"] for finding in findings if not finding["check"].startswith("settings")} == {"ok"}
        assert {
            "reachable",
            "version",
            "policy",
            "aof",
            "appendfsync",
            "memory",
            "clock",
            "group email",
            "waiting",
        } <= (found(findings).keys())
        assert all(finding["remedy"] for finding in findings if finding["status"] != "ok")
        assert (await cli("doctor")).code == 0


async def test_doctor_when_it_is_not(cli: Cli, client: Streams) -> None:
    users = client.keys.stream("users")
    await client.publish(registered())
    await client.redis.hset(client.keys.groups(), "email", users)
    await client.redis.xgroup_create(users, "email", "0")
    await client.publish(registered())
    await client.redis.xreadgroup("email", "gone-1-ff", {users: ">"}, count=1)
    await client.redis.zadd(client.keys.consumers("email"), {"gone-1-ff": 1000})
    await client.redis.zadd(client.keys.due(), {"email users 1-0": 1000})
    await client.redis.xadd(client.keys.dead("email"), {"reason": "failed"})
    result = await cli("doctor", "--json", env={"STREAMS_LEAES": "3", "STREAMS_ACCEPT_RISK": "no-aof"})
    assert result.code == 1
    statuses = found(result.json())
    assert (statuses["group email"], statuses["gone email"], statuses["waiting"]) == ("fail", "fail", "fail")
    assert (statuses["dead email"], statuses["settings"]) == ("warn", "warn")
    assert any("STREAMS_LEASE" in finding["remedy"] for finding in result.json())
    text = await cli("doctor")
    assert text.code == 1
    assert "python -m processors.email" in text.out


async def test_doctor_on_an_unsafe_server(cli: Cli, redis_factory: RedisFactory) -> None:
    arguments = ["--maxmemory-policy", "volatile-lru", "--appendonly", "no", "--maxmemory", "64mb"]
    server = redis_factory(args=arguments)
    with server.client() as client:
        for number in range(1000):
            client.set(f"ballast{number}", b"x" * 10_000)  # no TTL: volatile-lru leaves them
        client.config_set("maxmemory", client.info("memory")["used_memory"] + 200_000)
        result = await cli("doctor", "--json", env={"REDIS_URL": server.url})
        client.flushall()
    statuses = found(result.json())
    assert result.code == 1
    assert (statuses["policy"], statuses["aof"], statuses["memory"]) == ("fail", "fail", "fail")


async def test_schema(cli: Cli) -> None:
    result = await cli("schema", "UserRegistered")
    schema = result.json()
    assert (schema["$id"], schema["x-stream"]) == ("UserRegistered/1", "users")
    assert schema["properties"]["email"]["x-pii"]
    assert [one["$id"].partition("/")[0] for one in (await cli("schema", "--json")).json()] == [
        type for type in registered_types() if type in result.out or _is_domain(type)
    ]
    listed = (await cli("schema")).out
    assert "UserRegistered" in listed
    assert "user_id email name" in listed


def _is_domain(type: str) -> bool:
    from streams.events import registered

    event = registered(type)
    return event is not None and event.__module__.startswith("schemas")


async def test_doctor_why(cli: Cli, client: Streams, settings: Settings) -> None:
    receipt = await client.publish(registered(Desk.HANGING))
    text = await cli("doctor", "why", receipt.id)
    assert (text.code, text.err) == (0, "")
    assert text.out.startswith("no group reads users")
    async with consuming(Desk(), settings):
        pass
    await client.pause("email")
    async with consuming(Desk(), settings):
        other = await client.publish(registered(9))
        text = await cli("doctor", "why", other.id)
        assert text.out == "email: email is paused: no handler starts\n  -> streams resume email\n"
        (reason,) = (await cli("doctor", "why", other.id, "--json")).json()
        assert reason == {
            "group": "email", "state": "unread", "cause": "paused", "why": "email is paused: no handler starts",
            "remedy": "streams resume email",
        }  # fmt: skip
    result = await cli("doctor", "why", "019ab2c4-5d6e-7f80-9a1b-2c3d4e5f6071")
    assert result.code == 1
    assert "never published" in result.out


async def test_it_fits_into_80_columns(client: Streams, settings: Settings) -> None:
    """Whatever there is to count: no heading is cut, no line is longer, and a gap is one sentence."""
    from rich.console import Console

    await client.publish_many(map(registered, (Desk.REJECTED, 9, 9)))
    async with consuming(Desk(), settings):
        await wait_until(lambda: client.redis.xlen(client.keys.dead("email")))
    snapshot = await client.snapshot()
    (group,) = snapshot.accounts.groups

    def shown(**counts: int) -> list[str]:
        gap = Gap("email", "users", 3, "0-0", "1795515390907-2", "email stream:users")
        many = replace(group, gaps=(gap,), **counts)  # type: ignore[arg-type]
        there = replace(snapshot, accounts=Accounts((many,), ()))
        screen = Console(width=80, file=io.StringIO(), highlight=False)
        screen.print(picture(there, 80))
        text = screen.file.getvalue()  # type: ignore[attr-defined]
        return [line.rstrip() for line in str(text).splitlines()]

    few = shown()
    head = next(line.split() for line in few if line.startswith("ACCOUNT"))
    assert head == ["ACCOUNT", "PUBLISHED", "ACKED", "DEAD", "UNREAD", "GAP"]
    assert "GAP 3 missing in users of email, between 0-0 and 1795515390907-2: streams gaps" in few
    names = (
        "published",
        "replayed",
        "acked",
        "dead",
        "discarded",
        "cancelled",
        "expired",
        "waiting",
        "pending",
        "unread",
    )
    full = shown(**dict.fromkeys(names, 1_234_567))
    heads = [line.split() for line in full if line.startswith("ACCOUNT")]
    assert [name for line in heads for name in line[1:]] == [*map(str.upper, names), "GAP"]
    assert len(heads) == 2
    assert max(map(len, few + full)) <= 80
    assert sum("1,234,567" in line for line in full) == 2


async def test_what_stands_in_line_is_never_due(cli: Cli, client: Streams, settings: Settings) -> None:
    """Behind another of its key, in an ordered group: it waits, but for no time."""
    let_go = asyncio.Event()
    ordered = Processor("email", ordered=True)

    @ordered.on(UserRegistered)
    async def register(event: UserRegistered) -> None:
        await let_go.wait()

    consumer = Consumer(ordered, Streams(settings=settings))
    await consumer.start()
    for _ in range(3):
        await client.publish(registered(9), key="ada")
    await wait_until(lambda: client.redis.zcard(client.keys.due()))

    async def waits() -> bool:
        return (await client.snapshot()).waiting.queued == 2

    await wait_until(waits)
    assert (await client.snapshot()).waiting.next_due is None
    result = await cli("status")
    assert "waiting 2: 0 delayed, 0 retries and snoozes, 2 queued\n" in result.out
    assert "none is late" in (await cli("doctor")).out
    let_go.set()
    await consumer.stop()
