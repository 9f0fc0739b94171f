"""Process state: whole processes say over systemd's socket, and in a file, when they start, work, live and stop."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from streams import Settings, Streams
from streams.errors import ConfigurationError
from streams.process_state import ProcessState
from tests.conftest import RedisFactory
from tests.support.child import Spawn
from tests.support.programs.probe import Probed
from tests.support.waiting import wait_until, wait_until_sync

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.newest_redis


class Manager:
    """The end of systemd: a datagram socket, and what came over it."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self._socket.setblocking(False)
        self.address, self.said = address, list[str]()

    def heard(self) -> list[str]:
        """All notices so far."""
        try:
            while True:
                self.said.append(self._socket.recv(4096).decode())
        except BlockingIOError:
            return self.said

    def close(self) -> None:
        """Ends it."""
        self._socket.close()


@pytest.fixture
def manager() -> Iterator[Manager]:
    """A manager at a path, short enough for a socket."""
    directory = tempfile.mkdtemp(prefix="notify")
    made = Manager(f"{directory}/socket")
    yield made
    made.close()
    shutil.rmtree(directory)


def _notified(manager: Manager, seconds: float | None = None) -> dict[str, str]:
    more = {} if seconds is None else {"WATCHDOG_USEC": str(round(seconds * 1e6))}
    return {"NOTIFY_SOCKET": manager.address, "PYTHONPATH": str(ROOT), **more}


async def test_a_processor_is_ready_when_it_reads_and_says_that_it_stops(
    streams_env: Mapping[str, str], spawn: Spawn, manager: Manager, tmp_path: Path
) -> None:
    """READY=1 with the first read, WATCHDOG=1 again and again, STOPPING=1 at the signal, and the file says the same."""
    file = tmp_path / "state"
    child = spawn("tests.support.programs.probe", env={**_notified(manager, 0.6), "STREAMS_STATE_FILE": str(file)})

    await wait_until(lambda: "READY=1" in manager.heard(), 20)
    assert "consumer.started" in child.stderr()
    assert file.read_text() == "ready\n"
    before = manager.heard().count("WATCHDOG=1")
    await wait_until(lambda: manager.heard().count("WATCHDOG=1") >= before + 3)
    child.terminate()

    assert child.wait() == 0
    said = [each for each in manager.heard() if each != "WATCHDOG=1"]
    assert said == ["READY=1", "STOPPING=1"]
    assert file.read_text() == "stopping\n"
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("state")) == ["state"]


async def test_it_is_not_ready_while_redis_is_away(
    redis_factory: RedisFactory, app: str, spawn: Spawn, manager: Manager, tmp_path: Path
) -> None:
    """It lives, and waits; a manager that waits for READY=1 starts nothing behind it. It can be stopped meanwhile."""
    server = redis_factory()
    server.stop()
    file = tmp_path / "state"
    child = spawn("tests.support.programs.probe", env={
        **_notified(manager, 0.6), "STREAMS_STATE_FILE": str(file), "REDIS_URL": f"redis://127.0.0.1:{server.port}/0",
        "QUEUE_PREFIX": app,
    })  # fmt: skip

    await wait_until(lambda: "redis.away" in child.stderr(), 20)
    assert file.read_text() == "starting\n"
    assert set(manager.heard()) == {"WATCHDOG=1"}
    child.terminate()

    assert child.wait() == 0
    assert "READY=1" not in manager.heard()
    assert file.read_text() == "stopping\n"


async def test_a_blocked_event_loop_gives_no_sign_of_life(
    streams_env: Mapping[str, str], app: str, spawn: Spawn, manager: Manager, tmp_path: Path
) -> None:
    """Neither to systemd nor in the file, although the threads beside it go on; afterwards both again."""
    file = tmp_path / "state"
    log = tmp_path / "log"
    child = spawn("tests.support.programs.probe", env={
        **_notified(manager, 0.3), "STREAMS_STATE_FILE": str(file), "PROBE_LOG": str(log),
    })  # fmt: skip
    await wait_until(lambda: "READY=1" in manager.heard(), 20)
    async with Streams(settings=Settings(redis_url=streams_env["REDIS_URL"], app=app)) as streams:
        await streams.publish(Probed(n=1, act="block", seconds=2.0))
    await wait_until(lambda: log.exists() and "start" in log.read_text())

    manager.heard()
    quiet_from = len(manager.heard())
    began, renewed = time.time(), file.stat().st_mtime
    await asyncio.sleep(1.0)  # the length of a silence is what is measured

    assert manager.heard()[quiet_from:] == []
    assert file.stat().st_mtime == renewed
    await wait_until(lambda: "WATCHDOG=1" in manager.heard()[quiet_from:])
    assert file.stat().st_mtime > began
    child.terminate()
    assert child.wait() == 0


def test_a_file_that_cannot_be_written_is_a_wrong_setting(streams_env: Mapping[str, str], spawn: Spawn) -> None:
    """It is said at the start, with exit code 2: a probe would wait for it for ever."""
    child = spawn("tests.support.programs.probe", env={"STREAMS_STATE_FILE": "/nowhere/state", "PYTHONPATH": str(ROOT)})

    assert child.wait() == 2
    assert "error: STREAMS_STATE_FILE=/nowhere/state cannot be written: No such file" in child.stderr()


def test_the_links_server_is_ready_when_it_listens(spawn: Spawn, manager: Manager, tmp_path: Path) -> None:
    """And stops with 0."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    child = spawn("processors.shared.storage", env={
        **_notified(manager, 5), "LINKS_PORT": str(port), "STREAMS_HOME": str(tmp_path / "home"),
        "STREAMS_STATE_FILE": str(tmp_path / "state"),
    })  # fmt: skip
    wait_until_sync(lambda: "READY=1" in manager.heard(), 20)
    socket.create_connection(("127.0.0.1", port), 5).close()
    assert (tmp_path / "state").read_text() == "ready\n"
    child.terminate()

    child.wait()
    assert manager.heard()[-1] == "STOPPING=1"


def test_the_relay_reports_its_state(
    streams_env: Mapping[str, str], spawn: Spawn, manager: Manager, tmp_path: Path
) -> None:
    """As a processor does."""
    child = spawn("streams.sql.relay", env={
        **_notified(manager, 5), "DATABASE_URL": f"sqlite:///{tmp_path}/x.db",
        "STREAMS_STATE_FILE": str(tmp_path / "state"),
    })  # fmt: skip
    wait_until_sync(lambda: "READY=1" in manager.heard(), 20)
    assert (tmp_path / "state").read_text() == "ready\n"
    child.terminate()

    assert child.wait() == 0
    assert manager.heard()[-1] == "STOPPING=1"


# In this process --------------------------------------------------------------------------------------------------


async def test_the_variables_of_systemd_are_not_inherited(manager: Manager) -> None:
    """A program that a handler starts would speak for this process."""
    environ = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "5000000", "WATCHDOG_PID": str(os.getpid()), "A": "b"}
    state = ProcessState(environ=environ)
    assert environ == {"A": "b"}
    state.begin()
    state.ready()
    state.end()
    assert manager.heard() == ["WATCHDOG=1", "READY=1"]


@pytest.mark.parametrize("given", [
    {"WATCHDOG_USEC": "5000000", "WATCHDOG_PID": "1"},  # another process is watched
    {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": ""}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "-1"}, {},
])  # fmt: skip
async def test_no_watchdog_is_fed_that_was_not_asked_for(manager: Manager, given: dict[str, str]) -> None:
    """Whatever is in the variables."""
    state = ProcessState(environ={"NOTIFY_SOCKET": manager.address, **given})
    state.begin()
    state.ready()
    state.stopping()
    state.stopping()
    state.ready()
    state.end()
    assert manager.heard() == ["READY=1", "STOPPING=1"]


async def test_an_abstract_socket_and_one_that_is_gone(tmp_path: Path) -> None:
    """Systemd may name either; a manager that is being restarted stops nothing."""
    manager = Manager(f"@streams-test-{os.getpid()}")
    state = ProcessState(environ={"NOTIFY_SOCKET": manager.address})
    state.begin()
    state.ready()
    assert manager.heard() == ["READY=1"]
    manager.close()
    state.stopping()
    state.end()


async def test_a_disk_that_fails_later_stops_nothing(tmp_path: Path) -> None:
    """The probe fails then, which is what it is for; a file that was removed is written again."""
    directory = tmp_path / "run"
    directory.mkdir()
    state = ProcessState(directory / "state", environ={})
    state.begin()
    (directory / "state").unlink()
    state._live()
    assert (directory / "state").read_text() == "starting\n"
    shutil.rmtree(directory)
    state.ready()
    state._live()
    state.stopping()
    state.end()
    with pytest.raises(ConfigurationError, match="STREAMS_STATE_FILE"):
        ProcessState(directory / "state", environ={}).begin()


async def test_nothing_is_done_without_either() -> None:
    """No timer, no socket."""
    state = ProcessState(environ={"WATCHDOG_USEC": "1000000"})
    state.begin()
    state.ready()
    assert state._timer is None
    assert state._socket is None
    state.end()


def test_a_second_signal_ends_it_all_the_same(streams_env: Mapping[str, str], spawn: Spawn, manager: Manager) -> None:
    """With 130, while it reports."""
    child = spawn("tests.support.programs.probe", env=_notified(manager, 5))
    wait_until_sync(lambda: "READY=1" in manager.heard(), 20)
    child.signal(signal.SIGINT)
    wait_until_sync(lambda: "STOPPING=1" in manager.heard() or not child.running, 10)
    assert child.wait() in (0, 130)
