"""Postgres: a real PostgreSQL cluster that belongs to a test session; databases in it belong to tests."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from tests.support.waiting import wait_until_sync

PATTERNS = ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin", "opt/homebrew/opt/postgresql@*/bin")


def find_postgres() -> Path | None:
    """The directory of the newest PostgreSQL's programs, Debian's (which is not on PATH) included; None without one."""
    found = [path for pattern in PATTERNS for path in Path("/").glob(pattern)]
    on_path = shutil.which("initdb")
    found += [Path(on_path).resolve().parent] if on_path else []
    usable = [path for path in found if (path / "initdb").exists() and (path / "postgres").exists()]
    return max(usable, key=lambda path: int("0" + "".join(filter(str.isdigit, path.parts[-2]))), default=None)


class Postgres:
    """One cluster, on a unix socket in a directory of its own. Nothing is synced to disk: its power is never cut."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        # Not below pytest's own directory: a socket path may have 107 bytes, and the server's user must reach it.
        self.directory = Path(tempfile.mkdtemp(prefix="streams-pg-", dir="/tmp"))
        # It refuses to run as root, who may give it away to somebody without rights (Debian's package makes postgres).
        self._user: str | None = _unprivileged() if os.geteuid() == 0 else None
        if self._user:
            shutil.chown(self.directory, self._user)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Postgres:
        """Makes the cluster if there is none, starts it and waits until it answers."""
        data = self.directory / "data"
        if not data.exists():
            command = ["initdb", "-D", data, "-U", "streams", "-A", "trust", "-E", "UTF8", "--no-locale", "-N"]
            self._run(*command)
        log = (self.directory / "log").open("ab")
        options = {
            "listen_addresses": "", "unix_socket_directories": self.directory, "fsync": "off", "jit": "off",
            "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "60", "shared_buffers": "16MB",
            "deadlock_timeout": "100ms",
        }  # fmt: skip
        self._process = subprocess.Popen(
            [self._programs / "postgres", "-D", data, *(f"-c{name}={value}" for name, value in options.items())],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, user=self._user, cwd=self.directory,
        )  # fmt: skip
        log.close()
        wait_until_sync(self._answers, 30, lambda: (self.directory / "log").read_text()[-2000:])
        return self

    def create(self) -> str:
        """Makes an empty database and returns its URL."""
        name = f"t{secrets.token_hex(6)}"
        self.sql(f"CREATE DATABASE {name}")
        return f"postgresql://streams@/{name}?host={self.directory}"

    def drop(self, url: str) -> None:
        """Removes a database, whoever is connected to it."""
        name = url.rpartition("?")[0].rpartition("/")[2]
        self.sql(f"DROP DATABASE {name} WITH (FORCE)")

    def sql(self, statement: str) -> str:
        """Runs one statement as `psql` does."""
        return self._run("psql", "-h", self.directory, "-U", "streams", "-d", "postgres", "-Atqc", statement)

    def stop(self) -> None:
        """Ends it in order, cutting every connection, and waits."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(30)
            self._process = None

    def remove(self) -> None:
        """Ends it and removes its files."""
        self.stop()
        shutil.rmtree(self.directory)

    def _answers(self) -> bool:
        command = [self._programs / "pg_isready", "-q", "-h", self.directory]
        return subprocess.run(command, check=False, stdin=subprocess.DEVNULL).returncode == 0

    def _run(self, program: str, *arguments: str | Path) -> str:
        ended = subprocess.run(
            [self._programs / program, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            user=self._user, cwd=self.directory, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, f"{program}: {ended.stderr}"
        return ended.stdout.strip()


def _unprivileged() -> str:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise AssertionError("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")
