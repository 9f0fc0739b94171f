"""The suite runs on the harness and on each Redis; at the end of each test nothing may be unaccounted for."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from streams.embedded import ServerBinary, find_servers
from tests.conformance.driver import Driver, HarnessDriver, RedisDriver


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs each test on each engine."""
    if "engine" in metafunc.fixturenames:
        servers = sorted(find_servers(), key=lambda binary: binary.version)
        engines = [pytest.param(None, id="harness")]
        engines += [pytest.param(binary, id=str(binary), marks=pytest.mark.engine) for binary in servers]
        metafunc.parametrize("engine", engines)


@pytest.fixture
def redis_binary(engine: ServerBinary | None) -> ServerBinary:
    """What `redis_server` starts; asked for by name, so that the harness needs none."""
    assert engine is not None
    return engine


@pytest.fixture
async def driver(engine: ServerBinary | None, request: pytest.FixtureRequest, app: str) -> AsyncIterator[Driver]:
    """The engine under test."""
    if engine is None:
        driver: Driver = HarnessDriver()
    else:
        url, partitions = request.getfixturevalue("redis_url"), request.getfixturevalue("partitions")
        driver = RedisDriver(
            {"redis_url": url, "app": app, "partitions": partitions, "lease": 0.4, "block": 0.1, "grace": 1.0}
        )
    yield driver

    async def adds_up() -> bool:
        return not list((await driver.streams.accounts()).gaps())

    await driver.until(adds_up)
    await driver.stop()
