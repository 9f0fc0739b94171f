"""Environment: everything the demo runs: Redis, servers, a trace collector, consumers. It ends what it started."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import orjson

from streams.errors import StreamsError
from streams.redis.embedded import EmbeddedRedis, find_servers

from ..fakes import otlp_collector
from ..fakes.mail_rules import MailRules
from . import reaper
from .child_process import GRACE, ChildProcess
from .mail_log import MailLog

FAKES: Final = otlp_collector.__package__
"""The package of the fakes: a wheel has it under another name than a checkout."""

PREFIX: Final = "demo"
"""The demo's own `QUEUE_PREFIX`."""

LEASE: Final = 2.0
"""Seconds until the work of a killed consumer is taken over: short, so that it is seen."""

CONCURRENCY: Final = "16"
"""Mails that one consumer sends at once."""

STOCK_ALERTS_TO: Final = "stock@example.com"

SUPPLIER: Final = "acme"
"""What the inventory processor calls the supplier's system."""

SUPPLIED: Final = 500
"""Products the supplier has."""

_SETTINGS: Final = (
    "REDIS_", "STREAMS_", "QUEUE_", "SMTP_", "EMAIL_", "OTEL_", "LOG_", "APP_",
    "DATABASE_", "STORAGE_", "UPLOAD_", "EXPORTS_", "REPORTS_", "REPORT_", "FILE_", "MAX_FILE_", "LINK", "INVENTORY_",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY",  # what is exported goes to this machine, not to a proxy
)  # fmt: skip
_START_SECONDS: Final = 30.0


class Environment:
    """The processes of one demo, whose files are all below `directory`.

    The business is in a SQLite file and its files are in directories there too, unless `database_url` and `storage_url`
    name others. Nothing runs before `start`; after `stop` nothing that was started runs, also when `start` got only
    half way.
    """

    def __init__(self, directory: Path, *, database_url: str = "", storage_url: str = "") -> None:
        self.directory = directory
        self.logs = directory / "logs"
        self.home = directory / "home"
        self.downloads = directory / "downloads"
        self.database_url = database_url
        self.storage_url = storage_url
        self.redis = EmbeddedRedis(directory / "redis", next(iter(find_servers(_chosen_server())), None))
        self.mail_log = MailLog(directory / "mails")
        self.collector = otlp_collector.OtlpCollector()
        self.consumers: list[ChildProcess] = []
        self.servers: list[ChildProcess] = []
        self.helpers: list[ChildProcess] = []  # what ends by itself when its work is done
        self.smtp_url = ""
        self.supplier_url = ""
        self.links_port = 0
        self._rules = directory / "mail-server.json"
        self._collecting = False
        self._left_up = False
        self._reaper: subprocess.Popen[bytes] | None = None

    def start(self, rules: MailRules) -> None:
        """Starts all but the consumers. Raises `StreamsError` when one of them does not come up."""
        # Blocking, and in this thread on purpose: in another one a cancelled demo would leave a start half done.
        self.logs.mkdir(parents=True)
        reaper.record(self.directory, [])
        self._reaper = subprocess.Popen(
            [sys.executable, "-m", reaper.__name__, str(self.directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.redis.start()
        self.collector.__enter__()
        self._collecting = True
        self.follow(rules)
        arguments = ["--port", "0", "--dir", str(self.mail_log.directory), "--script", str(self._rules)]
        server = self._start_server("mail-server", f"{FAKES}.mail_server", arguments, os.environ)
        self.smtp_url = f"smtp://127.0.0.1:{orjson.loads(self._said(server))['port']}"

    def start_business(self) -> ChildProcess:
        """Starts the supplier's system, the server of links, and what fills the business database. That ends by itself,
        and is returned. Raises `StreamsError` when the supplier does not come up.
        """
        arguments = ["--port", "0", "--items", str(SUPPLIED)]
        supplier = self._start_server("supplier", f"{FAKES}.supplier", arguments, os.environ)
        self.supplier_url = self._said(supplier).decode().strip()
        self.links_port = _free_port()
        self._start_server("links", "processors.shared.storage", [], self.variables())
        return self.start_helper("seed", "processors.shared.database", ["seed", "--upgrade", "--seed", "7"])

    def start_helper(self, name: str, module: str, arguments: list[str]) -> ChildProcess:
        """Starts a command that ends by itself."""
        helper = ChildProcess(name, module, arguments, env=self.variables(), logs=self.logs)
        self.helpers.append(helper)
        self._note()
        return helper

    def variables(self, *, traced: bool = True) -> dict[str, str]:
        """What a process needs to take part, and nothing of what the caller has set for other Redis and mail servers.

        Not `traced`: for processes that outlive the collector.
        """
        kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(_SETTINGS)}
        tracing = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.collector.endpoint,
            "OTEL_TRACES_SAMPLER": "always_on",
            "OTEL_BSP_SCHEDULE_DELAY": "200",  # ms: spans are looked at while their processes live
        }
        business = {
            "STREAMS_HOME": str(self.home),
            "LINKS_URL": f"http://127.0.0.1:{self.links_port}",
            "LINKS_PORT": str(self.links_port),
            "INVENTORY_SUPPLIERS": f"{SUPPLIER}={self.supplier_url}",
            "INVENTORY_PRIVATE_HOSTS": urlsplit(self.supplier_url).netloc,  # it is on this machine, without TLS
        }
        stores = {"DATABASE_URL": self.database_url, "STORAGE_URL": self.storage_url}
        business |= {name: url for name, url in stores.items() if url}
        return kept | {
            "REDIS_URL": self.redis.url,
            "QUEUE_PREFIX": PREFIX,
            "STREAMS_LEASE": f"{LEASE:g}",
            "STREAMS_GRACE": f"{GRACE:g}",
            "SMTP_URL": self.smtp_url,
            "EMAIL_STOCK_ALERTS_TO": STOCK_ALERTS_TO,
            "EMAIL_STOCK_GATHER": "0",
            "EMAIL_RETRY_FIRST": "2",  # a demo that takes minutes is too long
            "APP_URL": "http://localhost:8000",
            "LOG_FORMAT": "json",
            **(business if self.supplier_url else {}),
            **(tracing if traced else {"OTEL_SDK_DISABLED": "true"}),
        }

    def start_consumer(self, *, traced: bool = True) -> ChildProcess:
        """Starts one more consumer of the email processor."""
        # As many handlers at once as connections to the mail server: a retry then does not queue behind the crowd.
        return self.start_processor("email", ["--concurrency", CONCURRENCY], traced=traced)

    def start_processor(self, module: str, arguments: Sequence[str] = (), *, traced: bool = True) -> ChildProcess:
        """Starts `python -m processors.MODULE`; its name is `module-1`, `module-2` and so on, in the traces too."""
        kind = module.rpartition(".")[2]
        name = f"{kind}-{1 + sum(consumer.name.startswith(f'{kind}-') for consumer in self.consumers)}"
        env = self.variables(traced=traced) | {"OTEL_SERVICE_NAME": name, "EMAIL_SMTP_CONNECTIONS": CONCURRENCY}
        consumer = ChildProcess(name, f"processors.{module}", arguments, env=env, logs=self.logs)
        self.consumers.append(consumer)
        self._note()
        return consumer

    def follow(self, rules: MailRules) -> None:
        """Lets the mail server behave by other rules, which it notices within a moment."""
        partial = self._rules.with_suffix(".partial")
        partial.write_text(rules.model_dump_json(indent=2), encoding="utf-8")
        partial.rename(self._rules)

    def drain(self) -> list[ChildProcess]:
        """Ends the consumers in peace: they finish what they handle and send their last spans."""
        drained = [consumer for consumer in self.consumers if consumer.running]
        for consumer in drained:
            consumer.terminate()
        for consumer in drained:
            consumer.end()
        self._note()
        return drained

    def leave_up(self) -> None:
        """Lets Redis, the mail server and the consumers outlive this process: `reaper.stop` ends them, not `stop`."""
        self._left_up = True
        self._note()
        self._dismiss_reaper()
        self._stop_collector()

    def stop(self) -> None:
        """Ends everything that was not left up; calling it twice is fine."""
        if self._left_up:
            return
        self.drain()
        others = [process for process in (*self.servers, *self.helpers) if process.running]
        for process in others:
            process.terminate()
        for process in others:
            process.end()
        self._stop_collector()
        if self.redis.directory.exists():
            self.redis.stop()
            if self.redis.socket.parent != self.redis.directory:  # the socket's path would have been too long
                with suppress(OSError):
                    self.redis.socket.parent.rmdir()
        if self.logs.exists():
            self._note()
        self._dismiss_reaper()

    def log_files(self) -> list[Path]:
        """Every log that the processes write."""
        return [*self.logs.iterdir(), self.mail_log.directory / "log.jsonl", self.redis.directory / "redis.log"]

    def processes(self) -> list[ChildProcess]:
        """Every process but Redis that was started, also those that have ended."""
        return [*self.consumers, *self.servers, *self.helpers]

    def running(self) -> list[str]:
        """The names of what runs now."""
        names = [f"{process.name} (pid {process.pid})" for process in self.processes() if process.running]
        pid = self.redis.pid if self.redis.directory.exists() else None
        return names + ([f"redis (pid {pid})"] if pid is not None else [])

    def _note(self) -> None:
        reaper.record(self.directory, self.processes())

    def _start_server(self, name: str, module: str, arguments: list[str], env: Mapping[str, str]) -> ChildProcess:
        server = ChildProcess(name, module, arguments, env=env, logs=self.logs)
        self.servers.append(server)
        self._note()
        return server

    def _said(self, server: ChildProcess) -> bytes:
        """The line that a server says when it can be reached."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and server.running:
            said = server.out.read_bytes()
            if said.endswith(b"\n"):
                return said
            time.sleep(0.02)
        raise StreamsError(f"the {server.name} of the demo did not start; see {server.log}")

    def _stop_collector(self) -> None:
        if self._collecting:
            self._collecting = False
            self.collector.__exit__(None, None, None)

    def _dismiss_reaper(self) -> None:
        if self._reaper is not None and self._reaper.stdin is not None:
            with suppress(OSError):
                self._reaper.stdin.write(reaper.DISMISSED)
                self._reaper.stdin.close()
            self._reaper.wait(10.0)
            self._reaper = None


def _chosen_server() -> Path | None:
    chosen = os.environ.get("STREAMS_REDIS_SERVER")
    return Path(chosen) if chosen else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
