"""Reaching Redis: where it is, how the password comes, TLS, and what is refused."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import hiredis
import pytest
from pydantic import ValidationError
from redis.exceptions import TimeoutError

from streams import Refused, Settings, Streams, StreamsError, Unreachable
from streams.inspecting.doctor import Finding, check_server
from streams.redis.connection import Connections
from streams.redis.server import Server, find_problems
from streams.settings import place
from tests.conftest import RedisFactory
from tests.support.certificates import make_certificate
from tests.support.events import Noted
from tests.support.redis_server import RedisServer


async def publish(url: str, app: str, **settings: object) -> None:
    """Publishes one event there."""
    async with Streams(settings=Settings(redis_url=url, app=app, publish_timeout=1, **settings)) as streams:  # type: ignore[arg-type]
        await streams.publish(Noted(n=1))


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        ({}, None),
        ({"REDIS_URL": "redis://a:1/2"}, "redis://a:1/2"),
        ({"REDIS_HOST": "h"}, "redis://h:6379/0"),
        ({"REDIS_HOST": "h", "REDIS_PORT": "7", "REDIS_DB": "3", "REDIS_PASSWORD": "p@s/"}, "redis://:p%40s%2F@h:7/3"),
        ({"REDIS_URL": "redis://a:1/2", "REDIS_PASSWORD": "x"}, "redis://:x@a:1/2"),
        ({"REDIS_URL": "rediss://me@a:1", "REDIS_PASSWORD": "x"}, "rediss://me:x@a:1"),
        ({"REDIS_URL": "redis://:own@a:1", "REDIS_PASSWORD": "x"}, "redis://:own@a:1"),
    ],
)
def test_where_redis_is_comes_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], url: str | None
) -> None:
    """REDIS_URL, else the guide's REDIS_HOST, PORT, PASSWORD and DB, else the embedded server."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert Settings().url() == url


def test_passwords_come_from_files_and_are_never_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither by repr, nor by the name of the place, nor in the error of an unreadable file."""
    file = tmp_path / "password"
    file.write_text("hunter2\n")
    monkeypatch.setenv("REDIS_HOST", "h")
    monkeypatch.setenv("REDIS_PASSWORD_FILE", str(file))
    settings = Settings()
    assert settings.url() == "redis://:hunter2@h:6379/0"
    assert "hunter2" not in repr(settings) + str(settings) + place(settings.url() or "")
    monkeypatch.setenv("REDIS_PASSWORD_FILE", str(tmp_path / "missing"))
    with pytest.raises(StreamsError, match="cannot be read: FileNotFoundError"):
        Settings()


def test_wrong_settings_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the variable's name."""
    with pytest.raises(ValidationError, match="a-z"):
        Settings(app="Planning Bord")
    with pytest.raises(ValidationError, match="takes no-aof and eviction"):
        Settings(accept_risk=frozenset({"everything"}))
    with pytest.raises(StreamsError, match="use redis://, rediss://, unix://"):
        Streams("http://example.com")


def test_an_old_redis_is_refused() -> None:
    """The engine needs what 7.0 brought."""
    info = {"redis_version": "6.2.14", "maxmemory_policy": "noeviction", "aof_enabled": 1}
    assert find_problems(info, Settings()) == ["it is too old: version 6.2.14, install 7.0 or later"]
    assert find_problems(info | {"redis_version": "7.0.0"}, Settings()) == []


async def test_tcp_and_unix_with_and_without_password(redis_factory: RedisFactory, app: str) -> None:
    """All the same to a publisher; a wrong password is a refusal that does not repeat it."""
    for options in ({}, {"password": "p@s s/"}, {"unix": True}, {"unix": True, "password": "secret"}):
        server: RedisServer = redis_factory(**options)
        await publish(server.url, app)
        if options.get("password"):
            with pytest.raises(Refused, match="set REDIS_PASSWORD") as refused:
                await publish(server.url.replace("@", "wrong@"), app)
            assert "wrong" not in str(refused.value)
        server.stop()
        with pytest.raises(Unreachable, match="start it or set REDIS_URL"):
            await publish(server.url, app)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A self-made certificate for this machine, and its key."""
    return make_certificate(tmp_path, "cert")


async def test_tls_is_checked_against_the_ca(
    redis_factory: RedisFactory, redis_binary: object, app: str, certificate: tuple[Path, Path]
) -> None:
    """rediss:// with the right CA works; without it the server is not believed."""
    if "7.0" not in str(redis_binary):
        pytest.skip("the embedded extra's server is built without TLS; Debian's has it")
    file, key = certificate
    server = redis_factory()
    port = server.port
    server.stop()
    arguments = ["--tls-port", str(port), "--port", "0", "--tls-cert-file", str(file), "--tls-key-file", str(key),
                 "--tls-ca-cert-file", str(file), "--tls-auth-clients", "no"]  # fmt: skip
    process = subprocess.Popen(
        [server.binary.path, *arguments, "--appendonly", "yes", "--dir", str(server.directory), "--save", ""],
        stdout=subprocess.DEVNULL,
    )
    try:
        url = f"rediss://localhost:{port}/0"
        for _ in range(200):
            try:
                await publish(url, app, redis_ca=file)
                break
            except Unreachable:
                continue
        else:
            pytest.fail("the TLS server did not come up")
        with pytest.raises(Unreachable):
            await publish(url, app)
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.parametrize(
    ("harm", "check"),
    [
        ({"redis_version": "6.2.14"}, "version"),
        ({"maxmemory_policy": "allkeys-lru"}, "policy"),
        ({"aof_enabled": 0}, "aof"),
    ],
)
def test_boot_and_doctor_judge_alike(harm: dict[str, Any], check: str) -> None:
    """The same server is refused at boot and failed by `doctor`, in the same words; an accepted risk is shown there."""
    safe = {"redis_version": "7.0.0", "maxmemory_policy": "noeviction", "aof_enabled": 1}

    def findings(info: dict[str, Any]) -> list[Finding]:
        version, policy, aof = info["redis_version"], info["maxmemory_policy"], bool(info["aof_enabled"])
        server = Server("here", version, "standalone", policy, aof, "everysec", 1, 100, 100, 1)
        return [finding for finding in check_server(server) if finding.status == "fail"]

    assert (find_problems(safe, Settings()), findings(safe)) == ([], [])
    (problem,), (finding,) = find_problems(safe | harm, Settings()), findings(safe | harm)
    assert finding.check == check
    assert problem.startswith(f"{finding.text}, {finding.remedy}")
    accepting = Settings(accept_risk=frozenset({"no-aof", "eviction"}))
    assert bool(find_problems(safe | harm, accepting)) == (check == "version")


@pytest.mark.parametrize("how", ["cancelled", "too late"])
async def test_a_call_that_is_given_up_waits_for_nobody(app: str, how: str) -> None:
    """Not for a server that reads nothing any more, with megabytes on their way to it."""

    async def read_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        commands = hiredis.Reader()
        while b"ECHO" not in (data := await reader.read(1_000)):  # how a connection begins
            commands.feed(data)
            while commands.gets() is not False:
                writer.write(b"+OK\r\n")
        asked.set()
        await given_up.wait()
        writer.close()

    asked, given_up = asyncio.Event(), asyncio.Event()
    server = await asyncio.start_server(read_nothing, "127.0.0.1", 0)
    connections = Connections(Settings(redis_url=f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}", app=app))
    direct = connections.direct(timeout=0.3 if how == "too late" else 30.0)
    call = asyncio.create_task(direct.call(b"ECHO", b"x" * 30_000_000))
    await asyncio.sleep(0)
    if how == "cancelled":
        await asked.wait()
        call.cancel()
    async with asyncio.timeout(3):
        with pytest.raises(asyncio.CancelledError if how == "cancelled" else TimeoutError):
            await call
    given_up.set()
    await direct.aclose()
    await connections.aclose()
    server.close()
