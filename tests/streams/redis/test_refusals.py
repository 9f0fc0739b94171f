"""Why Redis cannot be used: the cause and what to set, the same to publishers, consumers and the command line."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import AuthenticationError, ConnectionError, ResponseError
from structlog.testing import capture_logs

from streams import Consumer, Processor, Refused, Settings, Streams, StreamsError, Unreachable
from streams.errors import ConfigurationError
from streams.redis.refusal import refusal
from tests.conftest import RedisFactory
from tests.support.certificates import make_certificate, tls_port
from tests.support.child import Spawn
from tests.support.events import Noted
from tests.support.waiting import wait_until

pytestmark = pytest.mark.newest_redis

SECRET = "hunter2-secret"


def settings_of(url: str, app: str, **more: Any) -> Settings:
    """Of a publisher that does not try for long, and a consumer."""
    given: dict[str, Any] = {"redis_url": url, "app": app, "publish_timeout": 0.5, "block": 0.2}
    return Settings(**given | more)


async def publisher_says(settings: Settings) -> StreamsError:
    """What a publisher's first publish raises."""
    with pytest.raises(StreamsError) as caught:
        async with Streams(settings=settings) as streams:
            await streams.publish(Noted(n=1))
    assert "\n" not in str(caught.value)
    assert SECRET not in str(caught.value)
    return caught.value


async def consumer_says(settings: Settings) -> str:
    """What a consumer writes down about a Redis that it waits for."""
    with capture_logs() as logs:
        consumer = Consumer(Processor("probe"), Streams(settings=settings))
        starting = asyncio.create_task(consumer.start())
        await wait_until(lambda: any(line["event"] == "redis.away" for line in logs), 15)
        await consumer.stop()
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
    assert SECRET not in str(logs)
    return str(next(line["error"] for line in logs if line["event"] == "redis.away"))


async def both_say(settings: Settings, cause: str, advice: str) -> None:
    """A publisher says the cause and what to do, a consumer's line the cause."""
    problem = await publisher_says(settings)
    assert isinstance(problem, Unreachable)
    assert cause in str(problem)
    assert advice in str(problem)
    assert cause in await consumer_says(settings)


@asynccontextmanager
async def answering(reply: bytes) -> AsyncIterator[int]:
    """A port where everything is answered by the same bytes; without any it closes what was opened."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while reply and await reader.read(65536):
            writer.write(reply)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


@pytest.mark.parametrize(
    ("host", "expired", "trusted", "cause", "advice"),
    [
        ("localhost", False, False, "certificate verify failed: self-signed certificate", "set STREAMS_REDIS_CA"),
        ("redis.example", False, True, "Hostname mismatch", "use a name that is in the certificate"),
        ("localhost", True, True, "certificate has expired", "renew the server's certificate"),
    ],
    ids=["self-signed", "another name", "expired"],
)
async def test_a_certificate_that_is_not_believed(
    redis_factory: RedisFactory,
    app: str,
    tmp_path: Path,
    host: str,
    expired: bool,
    trusted: bool,
    cause: str,
    advice: str,
) -> None:
    """OpenSSL's own words, for which people search, and the setting."""
    certificate = make_certificate(tmp_path, "server", host=host, expired=expired)
    async with tls_port(redis_factory().port, certificate) as port:
        ca = {"redis_ca": certificate[0]} if trusted else {}
        await both_say(settings_of(f"rediss://:{SECRET}@localhost:{port}/0", app, **ca), cause, advice)


async def test_an_address_that_is_not_in_the_certificate(redis_factory: RedisFactory, app: str, tmp_path: Path) -> None:
    """By address as well as by name."""
    certificate = make_certificate(tmp_path, "server", host="redis.example")
    async with tls_port(redis_factory().port, certificate) as port:
        settings = settings_of(f"rediss://127.0.0.1:{port}/0", app, redis_ca=certificate[0])
        await both_say(settings, "IP address mismatch", "in the certificate")


async def test_tls_works_and_its_check_can_be_turned_off(redis_factory: RedisFactory, app: str, tmp_path: Path) -> None:
    """With the CA; without any check where the URL says so, in redis-py's word or Celery's. A renewed certificate is
    read by the next connection.
    """
    certificate = make_certificate(tmp_path, "server")
    server = redis_factory(password=SECRET)
    async with tls_port(server.port, certificate) as port:
        url = f"rediss://:{SECRET}@localhost:{port}/0"
        ca = tmp_path / "ca.pem"
        ca.write_bytes(make_certificate(tmp_path, "other")[0].read_bytes())
        async with Streams(settings=settings_of(url, app, redis_ca=ca)) as streams:
            with pytest.raises(Unreachable, match="certificate verify failed"):
                await streams.publish(Noted(n=0))
            ca.write_bytes(certificate[0].read_bytes())
            await streams.publish(Noted(n=1))
        for options in (
            "ssl_cert_reqs=none",
            "ssl_cert_reqs=CERT_NONE",
            "ssl_check_hostname=false&ssl_ca_certs=" + str(ca),
        ):
            async with Streams(settings=settings_of(f"{url}?{options}", app)) as streams:
                await streams.publish(Noted(n=2))
                consumer = Consumer(Processor("probe"), Streams(settings=settings_of(f"{url}?{options}", app)))
                await consumer.start()  # the lease thread has a connection of its own
                await wait_until(lambda: streams.redis.zcard(streams.keys.consumers("probe")))
                await consumer.stop()


@pytest.mark.parametrize(
    ("setting", "content", "problem"),
    [
        ("redis_ca", None, "No such file"),
        ("redis_ca", b"root:x:0:0", "is no usable PEM file"),
        ("redis_cert", None, "No such file"),
        ("redis_cert", b"nonsense", "is no usable PEM file"),
    ],
)
async def test_files_of_tls_that_cannot_work(
    app: str, tmp_path: Path, setting: str, content: bytes | None, problem: str
) -> None:
    """Found at once, and named by the variable: it is no matter of Redis."""
    file = tmp_path / "file.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=problem) as caught:
        Streams(settings=settings_of("rediss://localhost:1/0", app, **{setting: file}))
    assert f"STREAMS_{setting.upper()}={file}" in str(caught.value)


async def test_the_wrong_kind_of_port(redis_factory: RedisFactory, app: str, tmp_path: Path) -> None:
    """TLS where there is none, and none where there is."""
    server = redis_factory()
    problem = await publisher_says(settings_of(f"rediss://localhost:{server.port}/0", app, publish_timeout=8.0))
    assert "does this port speak TLS? else use redis://" in str(problem)
    certificate = make_certificate(tmp_path, "server")
    async with tls_port(server.port, certificate) as port:
        await both_say(
            settings_of(f"redis://localhost:{port}/0", app, publish_timeout=4.0), "connection", "use rediss://"
        )


async def test_places_where_no_redis_is(redis_factory: RedisFactory, app: str, tmp_path: Path) -> None:
    """A name that does not resolve, a closed port, a socket that is not there or may not be opened."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        await both_say(settings_of(f"redis://127.0.0.1:{port}", app), "connection refused", "start it or set REDIS_URL")
        if socket.has_ipv6:
            await publisher_says(settings_of(f"redis://[::1]:{port}", app))
    await both_say(settings_of("redis://no-such-host.invalid", app), "its name does not resolve", "REDIS_HOST")
    await both_say(settings_of(f"unix://{tmp_path}/none.sock", app), "there is no such socket", "start it")
    async with answering(b"") as port:
        await both_say(settings_of(f"redis://127.0.0.1:{port}", app, publish_timeout=4.0), "connection", "rediss://")
    async with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        await publisher_says(settings_of(f"redis://127.0.0.1:{port}", app))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open every socket")
async def test_a_socket_of_another_user(redis_factory: RedisFactory, app: str) -> None:
    """Its permissions are named."""
    server = redis_factory(unix=True)
    assert server.socket is not None
    server.socket.chmod(0)
    await both_say(settings_of(server.url, app), "permission denied", "let this user open the socket")


async def test_a_server_with_too_many_clients(redis_factory: RedisFactory, app: str) -> None:
    """Waited for, and said."""
    server = redis_factory()
    server.cli("CONFIG", "SET", "maxclients", 1)
    with server.client() as client:
        client.ping()
        await both_say(settings_of(server.url, app), "max number of clients reached", "raise its maxclients")
        client.config_set("maxclients", 1000)


async def test_a_server_that_runs_a_script(redis_factory: RedisFactory, app: str) -> None:
    """BUSY: waited for, and said."""
    server = redis_factory()
    server.cli("CONFIG", "SET", "busy-reply-threshold", 50)
    running = asyncio.create_task(asyncio.to_thread(endless_script, server))
    try:
        await wait_until(lambda: is_busy(server))
        await both_say(settings_of(server.url, app), "BUSY", "SCRIPT KILL")
    finally:
        server.cli("SCRIPT", "KILL")
        await running


def endless_script(server: Any) -> None:
    """Runs until it is killed."""
    with suppress(ResponseError, ConnectionError):
        server.cli("EVAL", "while true do end", 0)


def is_busy(server: Any) -> bool:
    """Whether it answers BUSY."""
    try:
        server.cli("GET", "x")
    except ResponseError as error:
        return str(error).startswith("BUSY")
    return False


async def test_what_may_not_be_done(redis_factory: RedisFactory, app: str) -> None:
    """A wrong password, a user without INFO, a database that is not there: refused, with the cause."""
    server = redis_factory(password="right")
    place = f"127.0.0.1:{server.port}"
    for url, said in (
        (f"redis://:{SECRET}@{place}", "refuses the login; set REDIS_PASSWORD"),
        (f"redis://ada:{SECRET}@{place}", "refuses the login"),
        (f"redis://{place}", "asks for a password and is given none"),
        (f"redis://:right@{place}/99", "DB index is out of range.*REDIS_DB"),
    ):
        with pytest.raises(Refused, match=said) as caught:
            await publisher_fails(settings_of(url, app))
        assert SECRET not in str(caught.value)
    server.cli("ACL", "SETUSER", "blind", "on", ">x", "~*", "&*", "+@all", "-info")
    with pytest.raises(Refused, match=r"'info' command.*extend its ACL"):
        await publisher_fails(settings_of(f"redis://blind:x@{place}", app))
    open_server = redis_factory()
    with pytest.raises(Refused, match="has no password, and is given one"):
        await publisher_fails(settings_of(f"redis://:{SECRET}@127.0.0.1:{open_server.port}", app))
    problem = refusal(
        ResponseError("unknown command 'INFO', with args beginning with: ", status_code="ERR"), "redis://h"
    )
    assert isinstance(problem, Refused)
    assert "does not know a command that the engine needs (unknown command 'INFO')" in str(problem)


async def publisher_fails(settings: Settings) -> None:
    """Publishes."""
    async with Streams(settings=settings) as streams:
        await streams.publish(Noted(n=1))


async def test_an_error_of_the_caller_is_not_the_cause(app: str, tmp_path: Path) -> None:
    """Who publishes while another error is handled is not shown that one."""
    async with answering(b"") as port:
        try:
            raise ConnectionRefusedError("the caller's own")
        except ConnectionRefusedError:
            problem = await publisher_says(settings_of(f"redis://127.0.0.1:{port}", app))
    assert "refused" not in str(problem)


def test_what_a_server_repeats_is_cut_off() -> None:
    """A server that does not know AUTH repeats its arguments."""
    reply = ResponseError(f"unknown command 'AUTH', with args beginning with: '{SECRET}'", status_code="ERR")
    assert SECRET not in str(refusal(reply, "redis://h"))
    error = ConnectionError("Error 1 connecting")
    error.__cause__ = AuthenticationError(f"invalid username-password pair redis://:{SECRET}@h")
    assert SECRET not in str(refusal(error, "redis://h"))


@given(st.text(max_size=300), st.sampled_from([ResponseError, ConnectionError, OSError, ValueError]))
def test_every_error_is_one_line(text: str, kind: type[Exception]) -> None:
    """Whatever it says."""
    assert "\n" not in str(refusal(kind(text), "redis://h"))


def test_processes_end_by_what_cannot_work(spawn: Spawn, redis_url: str, app: str, tmp_path: Path) -> None:
    """2 for a setting that is wrong here, 78 for what Redis will go on refusing; each with one line."""
    cases = [
        (
            "ca",
            {"REDIS_URL": "rediss://localhost:1", "STREAMS_REDIS_CA": str(tmp_path / "none")},
            2,
            "STREAMS_REDIS_CA=",
        ),
        ("url", {"REDIS_URL": f"redis://:{SECRET}/x@h:1"}, 2, "percent-encode"),
        ("db", {"REDIS_URL": redis_url.replace("db=0", "db=99")}, 78, "has no such database"),
    ]
    children = [
        (spawn(*command, env=env, name=f"{name}-{command[0]}"), code, said)
        for name, env, code, said in cases
        for command in (("tests.support.programs.probe",), ("streams", "status"), ("streams", "doctor"))
    ]
    for child, code, said in children:
        assert child.wait(25) == code, child.output()
        output = child.stdout() + child.stderr()
        assert said in output, output
        assert SECRET not in output
        assert "Traceback" not in output
