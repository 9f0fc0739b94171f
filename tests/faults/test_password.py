"""A password that is changed while publishers and consumers run: they read it again, and nothing ends or is lost."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from streams import Consumer, Processor, Refused, Settings, Streams
from tests.conftest import RedisFactory
from tests.streams.consuming.test_consumer import settled
from tests.support.child import Child, Spawn
from tests.support.events import Noted
from tests.support.programs.probe import Probed
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until, wait_until_sync

pytestmark = [pytest.mark.newest_redis, pytest.mark.timeout(90)]


def change_password(server: RedisServer, new: str) -> None:
    """On the server; what is connected stays connected."""
    server.cli("CONFIG", "SET", "requirepass", new)
    server.password = new


def refused_logins(server: RedisServer) -> int:
    """How many logins the server has refused since it was started."""
    return int(server.cli("INFO", "stats")["acl_access_denied_auth"])


def handled(log: Path) -> list[str]:
    """Which events the probes have begun."""
    return log.read_text().splitlines() if log.exists() else []


async def test_processes_outlive_a_new_password(
    redis_factory: RedisFactory, spawn: Spawn, app: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First the server and then the file, with every connection killed in between, the other way round, and without any
    that is killed: two consumers and a publisher go on, everything is handled once.
    """
    server = redis_factory(password="old")
    file, log = tmp_path / "password", tmp_path / "probe.log"
    file.write_text("old\n")
    env = {"REDIS_URL": f"redis://127.0.0.1:{server.port}/0", "REDIS_PASSWORD_FILE": str(file), "PROBE_LOG": str(log)}
    env |= {"STREAMS_LEASE": "5"}
    children = [spawn("tests.support.programs.probe", env=env, name=f"probe-{n}") for n in range(2)]
    monkeypatch.setenv("REDIS_PASSWORD_FILE", str(file))
    settings = Settings(redis_url=env["REDIS_URL"], app=app)
    async with Streams(settings=settings) as streams:
        count = 0

        async def publish_and_see(*, more: int = 10) -> None:
            nonlocal count
            for _ in range(more):
                await streams.publish(Probed(n=count))
                count += 1
            await wait_until(lambda: len(handled(log)) >= 2 * count, 30, lambda: str([c.output() for c in children]))

        await publish_and_see()
        change_password(server, "second")  # nothing is cut: the next new connection finds out
        file.write_text("second")
        await publish_and_see()
        change_password(server, "third")
        server.cli("CLIENT", "KILL", "TYPE", "normal")
        server.cli("CLIENT", "KILL", "TYPE", "pubsub")
        publishing = asyncio.create_task(publish_and_see())
        await wait_until(lambda: refused_logins(server) >= len(children), 20)  # the server has the new one alone
        assert all(child.running for child in children)
        file.write_text("third")
        await publishing
        file.write_text("fourth")
        before = refused_logins(server)
        server.cli("CLIENT", "KILL", "TYPE", "normal")
        await wait_until(lambda: refused_logins(server) > before, 20)  # now the file has the new one alone
        change_password(server, "fourth")
        await publish_and_see()
        await wait_until(lambda: settled(streams, "probe"), 20)
        assert len(handled(log)) == 2 * count, "each is begun and ended once"
    for child in children:
        assert child.running, child.output()
        child.terminate()
        assert child.wait() == 0
        assert "Traceback" not in child.stderr() + child.stdout()
        for password in ("old", "second", "third", "fourth"):
            assert f"'{password}'" not in child.output()


async def test_a_user_with_two_passwords(redis_factory: RedisFactory, app: str, tmp_path: Path) -> None:
    """The way without a moment in which any login is refused: the new one is added, used, and the old one removed."""
    server = redis_factory()
    server.cli("ACL", "SETUSER", "ada", "on", ">old", "~*", "&*", "+@all")
    file = tmp_path / "url"
    file.write_text(f"redis://ada:old@127.0.0.1:{server.port}/0")
    with pytest.MonkeyPatch.context() as patch, capture_logs() as logs:
        patch.setenv("REDIS_URL_FILE", str(file))
        seen: Counter[int] = Counter()
        probe = Processor("probe")

        @probe.on(Noted)
        async def note(event: Noted) -> None:
            seen[event.n] += 1

        consumer = Consumer(probe, Streams(settings=Settings(app=app, block=0.2)))
        await consumer.start()
        async with Streams(settings=Settings(app=app)) as streams:
            await streams.publish(Noted(n=1))
            server.cli("ACL", "SETUSER", "ada", ">new")
            file.write_text(f"redis://ada:new@127.0.0.1:{server.port}/0")
            server.cli("CLIENT", "KILL", "USER", "ada")
            await streams.publish(Noted(n=2))
            server.cli("ACL", "SETUSER", "ada", "<old")
            server.cli("CLIENT", "KILL", "USER", "ada")
            await streams.publish(Noted(n=3))
            await wait_until(lambda: set(seen) == {1, 2, 3}, 20)
        await consumer.stop()
    assert not any("refuses the login" in str(line) for line in logs)


def test_a_wrong_password_ends_a_process_after_some_tries(
    redis_factory: RedisFactory, spawn: Spawn, tmp_path: Path
) -> None:
    """With 78, and not at once: a secret that is a moment late would end it for good."""
    server = redis_factory(password="right")
    file = tmp_path / "password"
    file.write_text("wrong")
    env = {"REDIS_URL": f"redis://127.0.0.1:{server.port}/0", "REDIS_PASSWORD_FILE": str(file)}
    began = time.monotonic()
    child: Child = spawn("tests.support.programs.probe", env=env)
    assert child.wait(30) == 78
    assert time.monotonic() - began > 2.5
    assert "refuses the login; set REDIS_PASSWORD" in child.stderr()
    before = refused_logins(server)
    late = spawn("tests.support.programs.probe", env=env, name="late")
    wait_until_sync(lambda: refused_logins(server) > before, 20, late.output)
    file.write_text("right")
    wait_until_sync(lambda: "consumer.started" in late.stdout() + late.stderr(), 20, late.output)
    assert late.running, late.output()
    late.terminate()
    assert late.wait() == 0


async def test_a_login_that_stays_refused_ends_a_consumer(
    redis_factory: RedisFactory, app: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that has worked tries for half a minute, here for a second; nothing says that anything was handed back."""
    monkeypatch.setattr("streams.redis.reconnect._PATIENCE", 1.0)
    server = redis_factory(password="old")
    begun, gate = list[int](), asyncio.Event()
    probe = Processor("probe", concurrency=1)

    @probe.on(Noted)
    async def note(event: Noted) -> None:
        begun.append(event.n)
        await gate.wait()

    settings = Settings(redis_url=server.url, app=app, block=0.2, grace=0.1, lease=1.0)
    with capture_logs() as logs:
        consumer = Consumer(probe, Streams(settings=settings))
        await consumer.start()
        async with Streams(settings=settings) as streams:
            await streams.publish(Noted(n=1))
            await wait_until(lambda: begun)
            change_password(server, "new")
            server.cli("CLIENT", "KILL", "TYPE", "normal")
            await wait_until(lambda: consumer.crash_reason, 20)
            assert isinstance(consumer.crash_reason, Refused)
        await consumer.stop()
    assert [line["handed_back"] for line in logs if line["event"] == "consumer.drained"] in ([], [0])
    away = [line for line in logs if line["event"] in ("redis.away", "redis.back")]
    assert len(away) < 20


async def test_what_was_handed_back_is_what_is_logged(redis_factory: RedisFactory, app: str) -> None:
    """It counts what is in the group's hands again, not what was meant to be."""
    server = redis_factory()
    probe, begun = Processor("probe", concurrency=1), list[int]()

    @probe.on(Noted)
    async def note(event: Noted) -> None:
        begun.append(event.n)
        await asyncio.Event().wait()  # until it is cancelled

    settings = Settings(redis_url=server.url, app=app, block=0.2, grace=0.1, lease=1.0)
    async with Streams(settings=settings) as streams:
        for is_away in (False, True):
            with capture_logs() as logs:
                consumer = Consumer(probe, Streams(settings=settings))
                await consumer.start()
                await streams.publish(Noted(n=1))
                await wait_until(lambda: begun)
                if is_away:
                    server.kill()
                await consumer.stop()
            (drained,) = [line for line in logs if line["event"] == "consumer.drained"]
            assert drained["handed_back"] == (0 if is_away else 1)
            if not is_away:
                assert await streams.redis.xlen(streams.keys.inbox("probe")) == 1
                await streams.redis.flushall()
                begun.clear()
    server.start()
