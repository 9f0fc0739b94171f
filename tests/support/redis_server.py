"""RedisServer: a real redis-server that belongs to a test, which may kill it, pause it and start it again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from tests.support.waiting import wait_until_sync

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from streams.redis.embedded import ServerBinary

PORTS_TRIED = 5


class RedisServer:
    """One server as the project wants it: append-only file on, nothing evicted, on loopback or a unix socket.

    It keeps its directory and its port over `kill` and `start`. `args` are further redis-server arguments; with a
    `config` file only that and `args` say how it keeps its data.
    """

    def __init__(
        self,
        binary: ServerBinary,
        directory: Path,
        *,
        unix: bool = False,
        password: str = "",
        appendfsync: str = "",
        config: Path | None = None,
        args: Sequence[str] = (),
        tls: tuple[Path, Path] | None = None,
    ) -> None:
        self.binary = binary
        self.directory = directory
        self.socket = directory / "redis.sock" if unix else None
        self.port = 0
        self.password = password
        self.tls = tls  # certificate, which is its own CA, and key; clients must show it too
        self.log = directory / "redis.log"
        # A configuration file speaks for itself: the defaults below would hide what it says.
        kept = ["--appendonly", "yes", "--save", "", "--maxmemory-policy", "noeviction"]
        self._arguments = [str(config)] if config else kept
        self._arguments += ["--appendfsync", appendfsync] if appendfsync else []
        self._arguments += args
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is, with its password, for `REDIS_URL`."""
        login = f":{quote(self.password, safe='')}@" if self.password else ""
        if self.socket:
            return f"unix://{login}{self.socket}?db=0"
        return f"{'rediss' if self.tls else 'redis'}://{login}127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """Its process id; the server must be running."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether its process lives (paused counts as living)."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> RedisServer:
        """Starts it and waits until it answers; on a port that is free now, and the same one ever after."""
        if self.running:
            raise AssertionError("the server is running")
        for _ in range(PORTS_TRIED):
            fresh = self.socket is None and self.port == 0
            self.port = _free_port() if fresh else self.port
            self._process = subprocess.Popen(
                self._command(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            try:
                wait_until_sync(lambda: self._answers() or not self.running, 20, f"{self.binary} answers: {self.log}")
            except AssertionError:
                self.kill()
                raise
            if self._process.poll() is None:
                return self
            if not (fresh and "Address already in use" in self.log.read_text()):
                break
            self.port = 0  # somebody took it between the look and the start
        raise AssertionError(f"{self.binary} did not start: {self.log.read_text()[-2000:]}")

    def kill(self) -> None:
        """Ends it with SIGKILL: what was not in its append-only file is gone."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ends it in order; does nothing when it is not running."""
        if self.running:
            self.resume()
            self._end(signal.SIGTERM)

    def pause(self) -> None:
        """Stops it in its tracks: connections stay open and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Lets a paused server go on."""
        os.kill(self.pid, signal.SIGCONT)

    def cli(self, *command: Any) -> Any:
        """Runs one command on a connection of its own, as `redis-cli` would; strings in replies are bytes."""
        with self.client() as client:
            return client.execute_command(*command)

    @contextmanager
    def clients(self) -> Iterator[list[redis.Redis]]:
        """As a list, for who deals with a cluster as well."""
        with self.client() as client:
            yield [client]

    def client(self) -> redis.Redis:
        """A plain client that does not retry; use it in a `with`."""
        options: dict[str, Any] = {}
        if self.tls:
            file, key = map(str, self.tls)
            options = {"ssl_ca_certs": file, "ssl_certfile": file, "ssl_keyfile": key}
        return redis.from_url(self.url, retry=Retry(NoBackoff(), 0), socket_timeout=10, protocol=2, **options)

    def _command(self) -> list[str]:
        place = (
            ["--port", "0", "--unixsocket", str(self.socket), "--unixsocketperm", "600"]
            if self.socket
            else ["--tls-port" if self.tls else "--port", str(self.port), "--bind", "127.0.0.1"]
        )
        if self.tls:
            file, key = map(str, self.tls)
            place += ["--port", "0", "--tls-cert-file", file, "--tls-key-file", key, "--tls-ca-cert-file", file]
        login = ["--requirepass", self.password] if self.password else []
        files = ["--dir", str(self.directory), "--logfile", str(self.log)]
        return [str(self.binary.path), *self._arguments, *place, *login, *files]

    def _answers(self) -> bool:
        try:
            # Its own pid: on a port that somebody else took, that one would answer.
            return bool(self.cli("PING")) and self.cli("INFO", "server")["process_id"] == self.pid
        except (RedisError, OSError):
            return False

    def _end(self, number: signal.Signals) -> None:
        assert self._process is not None, "the server is not running"
        self._process.send_signal(number)
        self._process.wait(timeout=20)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
