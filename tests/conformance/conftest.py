"""Every test of the suite runs on the harness and on each redis-server found."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import pytest

from streams.redis.embedded import ServerBinary, find_servers
from tests.conformance.engine import Engine, HarnessEngine, RedisEngine

_SERVERS: Final = sorted(find_servers(), key=lambda binary: binary.version)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The harness first: it is the quickest to say no. Other suites that use `engine` take the newest server only."""
    if "place" in metafunc.fixturenames:
        binaries = _SERVERS if metafunc.definition.nodeid.startswith("tests/conformance/") else _SERVERS[-1:]
        servers = [pytest.param(binary, id=str(binary), marks=pytest.mark.engine) for binary in binaries]
        metafunc.parametrize("place", [pytest.param(None, id="harness"), *servers])


@pytest.fixture
def redis_binary(place: ServerBinary | None) -> ServerBinary | None:
    """The server of the test, in the place of the one that other tests are given."""
    return place


@pytest.fixture
def make_engine(place: ServerBinary | None, app: str, request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Makes what the test runs on, with further settings."""
    if place is None:
        return HarnessEngine
    url = request.getfixturevalue("redis_url")
    return lambda **settings: RedisEngine(url, app, **settings)


@pytest.fixture
async def engine(make_engine: Callable[..., Any]) -> AsyncIterator[Engine]:
    """What the test runs on; at the end nothing may be unaccounted for."""
    made: Engine = make_engine()
    await made.open()
    try:
        yield made

        async def adds_up() -> bool:
            return not list((await made.streams.accounts()).gaps())

        await made.until(adds_up)
    finally:
        await made.aclose()
