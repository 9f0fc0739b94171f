"""Fixtures: a real Redis of every version found, a key prefix per test, and real child processes.

A test that asks for `redis_server`, `redis_url`, `redis_client`, `redis_factory` or `streams_env` runs once on every
redis-server found; mark it `newest_redis` when one is enough, as it is for all of `ONE_IS_ENOUGH`. When a required
version is missing these tests are skipped on a developer's machine, and the run is refused in CI: there a skip would
pass for a success.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import redis.asyncio
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from streams.redis.embedded import ServerBinary, find_servers
from tests.support.child import Child, Spawn
from tests.support.connection_leaks import left_open, watch_connections
from tests.support.key_leaks import find_leaks
from tests.support.redis_cluster import RedisCluster
from tests.support.redis_sentinels import RedisSentinels
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until_sync

REQUIRED: Final = ((7, 0), (8, 2))
"""What the engine is tested on: the oldest it supports (Debian's) and the one of the `embedded` extra."""

ONE_IS_ENOUGH: Final = ("tests/guide/", "tests/user_code/")
"""Where tests show features, or what a handler may do. They run on the newest Redis: that the scripts and commands
behind them do the same on each version is tested in tests/streams, tests/conformance and tests/faults.
"""

_SETTINGS: Final = (
    "REDIS_", "STREAMS_", "QUEUE_", "SMTP_", "EMAIL_", "INVENTORY_", "OTEL_", "DATABASE_", "STORAGE_", "LOG_", "APP_",
    "LINK", "FILE_",
)  # fmt: skip
_OTHER: Final = (
    "MAX_FILE_SIZE", "UPLOAD_DIR", "EXPORTS_DIR", "REPORTS_DIR",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "FORCE_COLOR",
)  # fmt: skip

_BINARIES: Final = pytest.StashKey[list[ServerBinary]]()
_CHILDREN: Final = pytest.StashKey[list[Child]]()
_PASSED: Final = pytest.StashKey[bool]()

RedisFactory = Callable[..., RedisServer]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Lets the engine's tests run on a cluster, and with more partitions: `make test-cluster`."""
    parser.addoption("--redis", choices=("single", "cluster"), default="single", help="one server, or three masters")
    parser.addoption("--partitions", type=int, default=1, help="STREAMS_PARTITIONS of the tests that name no number")


def pytest_configure(config: pytest.Config) -> None:
    """Forgets the developer's settings, and looks for Redis."""
    watch_connections()
    for name in list(os.environ):
        if name.upper().startswith(_SETTINGS) or name.upper() in _OTHER:
            del os.environ[name]
    binaries: list[ServerBinary] = sorted(find_servers(), key=lambda binary: binary.version)
    config.stash[_BINARIES] = binaries
    missing = [version for version in REQUIRED if version not in {binary.version[:2] for binary in binaries}]
    if missing and os.environ.get("CI"):
        names = ", ".join("{}.{}".format(*version) for version in missing)
        raise pytest.UsageError(f"redis-server {names} not found: apt-get install redis-server; uv sync --all-extras")


def pytest_report_header(config: pytest.Config) -> str:
    """Names the servers; the random seed stands in pytest-randomly's line."""
    found = [str(binary) for binary in config.stash[_BINARIES]]
    return f"redis: {', '.join(found) or 'none found, tests that need one are skipped'}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs what needs a Redis on each version, oldest first."""
    if "redis_binary" not in metafunc.fixturenames:
        return
    binaries = metafunc.config.stash[_BINARIES]
    if metafunc.definition.get_closest_marker("newest_redis") or metafunc.definition.nodeid.startswith(ONE_IS_ENOUGH):
        binaries = binaries[-1:]
    skip = pytest.mark.skip(reason="no redis-server 7.0 or newer: apt-get install redis-server")
    found = [pytest.param(binary, id=str(binary), marks=pytest.mark.engine) for binary in binaries]
    metafunc.parametrize("redis_binary", found or [pytest.param(None, id="no-redis", marks=skip)])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what cannot be on a cluster."""
    if config.getoption("--redis") == "cluster":
        for item in items:
            if mark := item.get_closest_marker("single"):
                item.add_marker(pytest.mark.skip(reason=mark.args[0]))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Shows what the child processes of a failed test have written."""
    report = yield
    if report.when == "call":
        item.stash[_PASSED] = report.passed
    if report.failed:
        report.sections += [(str(child), child.output()) for child in item.stash.get(_CHILDREN, [])]
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """Fails a test that has left connections open, when its event loop and all its fixtures are gone."""
    yield
    if open_still := left_open():
        pytest.fail("connections left open:\n" + "\n".join(open_still), pytrace=False)


@pytest.fixture
def app(request: pytest.FixtureRequest) -> str:
    """A key prefix of the test's own, the same again under the same random seed."""
    seed = request.config.getoption("randomly_seed", 0)
    return "t" + hashlib.blake2s(f"{seed}:{request.node.nodeid}".encode(), digest_size=4).hexdigest()


@pytest.fixture(scope="session")
def _session_servers(
    request: pytest.FixtureRequest,
) -> Iterator[Callable[[ServerBinary], RedisServer | RedisCluster]]:
    servers: dict[ServerBinary, RedisServer | RedisCluster] = {}
    on_cluster = request.config.getoption("--redis") == "cluster"
    # Not below pytest's own directory: a socket path may have 107 bytes.
    home = Path(tempfile.mkdtemp(prefix="streams-tests-", dir="/tmp"))

    def server(binary: ServerBinary) -> RedisServer | RedisCluster:
        if binary not in servers:
            directory = home / str(binary)
            directory.mkdir()
            made = RedisCluster(binary, directory) if on_cluster else RedisServer(binary, directory, unix=True)
            servers[binary] = made.start()
        return servers[binary]

    yield server
    for started in servers.values():
        started.stop()
    shutil.rmtree(home)


@pytest.fixture
def redis_server(
    request: pytest.FixtureRequest,
    redis_binary: ServerBinary,
    app: str,
    _session_servers: Callable[[ServerBinary], RedisServer | RedisCluster],
) -> Iterator[RedisServer | RedisCluster]:
    """The worker's server of this version, empty. Do not configure, kill or pause it: take `redis_factory` for that.

    Afterwards the test fails if it left keys that nobody would ever remove; then everything is removed.
    """
    server = _session_servers(redis_binary)
    yield server
    _leave_clean(request.node, server, app)


@pytest.fixture
def redis_url(redis_server: RedisServer | RedisCluster) -> str:
    """Where the worker's server is."""
    return redis_server.url


@pytest.fixture
async def redis_client(redis_server: RedisServer | RedisCluster) -> AsyncIterator[redis.asyncio.Redis]:
    """A plain asyncio client, for looking at keys and for planting them; replies are bytes."""
    if isinstance(redis_server, RedisCluster):
        node = ClusterNode("127.0.0.1", redis_server.nodes[0].port)
        cluster: Any = redis.asyncio.RedisCluster(startup_nodes=[node], protocol=2)
        yield cluster
        await cluster.aclose()
        return
    client = redis.asyncio.from_url(redis_server.url, retry=Retry(NoBackoff(), 0), socket_timeout=10, protocol=2)
    yield client
    await client.aclose()


@pytest.fixture
def redis_factory(
    request: pytest.FixtureRequest, redis_binary: ServerBinary, app: str, tmp_path: Path
) -> Iterator[RedisFactory]:
    """Makes started servers of the test's own, which it may kill, pause and start again: see `RedisServer`.

    They listen on a loopback port, or on a socket with `unix=True`; `password`, `appendfsync` and `args` as there.
    """
    servers: list[RedisServer] = []

    def make(**options: Any) -> RedisServer:
        directory = tmp_path / f"redis-{len(servers)}"
        directory.mkdir()
        server = RedisServer(redis_binary, directory, **options)
        servers.append(server)
        return server.start()

    yield make
    try:
        for server in servers:
            if server.running:
                server.resume()
                _leave_clean(request.node, server, app)
    finally:
        for server in servers:
            server.stop()


@pytest.fixture
def sentinels(redis_binary: ServerBinary, tmp_path: Path) -> Iterator[RedisSentinels]:
    """A master, a replica and three sentinels of the test's own."""
    made = RedisSentinels(redis_binary, tmp_path)
    yield made.start()
    made.stop()


def _is_alone(client: redis.Redis) -> bool:
    return len(client.client_list()) == 1


def _leave_clean(item: pytest.Item, server: RedisServer | RedisCluster, app: str) -> None:
    leaks = []
    with server.clients() as clients:
        for client in clients:
            # What a killed process has sent is carried out after its end, and would be found by the next test.
            with contextlib.suppress(AssertionError):
                wait_until_sync(partial(_is_alone, client), 5)
            # A failed test has a reason of its own; what it left behind would only hide that.
            leaks += find_leaks(client, app) if item.stash.get(_PASSED, False) else []
            client.flushall()
    if leaks:
        pytest.fail("keys left behind:\n" + "\n".join(leaks), pytrace=False)


@pytest.fixture
def partitions(request: pytest.FixtureRequest) -> int:
    """How many partitions a test has that does not say it."""
    number: int = request.config.getoption("--partitions")
    return number


@pytest.fixture
def streams_env(redis_url: str, app: str, partitions: int) -> Mapping[str, str]:
    """The environment of the test's child processes: this Redis, this prefix, and times short enough to wait for."""
    return {
        **os.environ,
        "REDIS_URL": redis_url,
        "QUEUE_PREFIX": app,
        "STREAMS_PARTITIONS": str(partitions),
        "STREAMS_LEASE": "2",
        "STREAMS_GRACE": "5",
        "STREAMS_BLOCK": "0.2",
        "QUEUE_DEFAULT_BACKOFF": "200",
        "NO_COLOR": "1",
        "COLUMNS": "200",
        "PYTHONUNBUFFERED": "1",
    }


@pytest.fixture
def spawn(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Spawn]:
    """Starts child processes, ends what is left of them, and shows their output when the test fails."""
    # Asked for here, so that the children end before the Redis they use is looked at and emptied.
    needs_redis = "redis_binary" in request.fixturenames
    defaults: Mapping[str, str] = request.getfixturevalue("streams_env") if needs_redis else dict(os.environ)
    children = request.node.stash.setdefault(_CHILDREN, [])

    def start(module: str, *arguments: str, env: Mapping[str, str] | None = None, name: str = "") -> Child:
        label = f"{len(children)}-{name or module}"
        child = Child([module, *arguments], tmp_path, {**defaults, **(env or {})}, label)
        children.append(child)
        return child

    yield start
    for child in children:
        child.end()
