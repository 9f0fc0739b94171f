"""Connections that were idle: looked at before they are used, since what stands between may have forgotten them."""

from __future__ import annotations

import time

import pytest

from streams import Settings
from streams.redis import failover
from streams.redis.connection import Connections
from tests.conftest import RedisFactory
from tests.support.answering_proxy import AnsweringProxy
from tests.support.proxy import Proxy

pytestmark = pytest.mark.newest_redis


async def test_a_connection_that_was_forgotten_is_replaced_before_it_is_used(
    redis_factory: RedisFactory, app: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is sent over it would be lost without a word, and with it the time of the call."""
    server = redis_factory()
    async with Proxy("127.0.0.1", server.port) as proxy:
        connections = Connections(Settings(redis_url=proxy.url, app=app))
        direct = connections.direct(timeout=20.0)
        await direct.call(b"SET", f"{app}:x", b"1")
        assert await connections.client.get(f"{app}:x") == b"1"
        proxy.forget()
        monkeypatch.setattr(failover, "QUIET", 0.0)
        began = time.monotonic()
        assert await direct.call(b"GET", f"{app}:x") == b"1"
        assert await connections.client.get(f"{app}:x") == b"1"
        assert time.monotonic() - began < 10.0, "two probes of two seconds, and not the calls' own time"
        await direct.call(b"DEL", f"{app}:x")
        await direct.aclose()
        await connections.aclose()


async def test_a_connection_in_use_is_not_looked_at(
    redis_factory: RedisFactory, app: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A PING before each command would be a round trip more for each batch."""
    server = redis_factory()
    sent: list[bytes] = []

    def note(command: list[bytes]) -> None:
        sent.append(command[0].upper())

    async with AnsweringProxy(server.port, note) as proxy:
        connections = Connections(Settings(redis_url=proxy.url, app=app))
        direct = connections.direct(timeout=5.0)
        for _ in range(5):
            await direct.call(b"TIME")
        assert (sent.count(b"PING"), sent.count(b"TIME")) == (0, 5)
        monkeypatch.setattr(failover, "QUIET", 0.0)
        await direct.call(b"TIME")
        assert (sent.count(b"PING"), sent.count(b"TIME")) == (1, 6)
        await direct.aclose()
        await connections.aclose()
