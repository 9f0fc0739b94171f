"""Cast: everything the demo runs: a Redis, a mail server, a trace receiver, consumers. It ends what it started."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import orjson

from observability.receiver import OtlpReceiver
from processors.demo import guard
from processors.demo.actor import GRACE, Actor
from processors.demo.mailbox import Mailbox
from processors.demo.script import Script
from streams.embedded import EmbeddedRedis, find_servers
from streams.errors import StreamsError

PREFIX: Final = "demo"
"""The demo's own `QUEUE_PREFIX`."""

LEASE: Final = 2.0
"""Seconds until the work of a killed consumer is taken over: short, so that it is seen."""

CONCURRENCY: Final = "16"
"""Mails that one consumer sends at once."""

STOCK_ALERTS_TO: Final = "stock@example.com"

_SETTINGS: Final = (
    "REDIS_", "STREAMS_", "QUEUE_", "SMTP_", "EMAIL_", "OTEL_", "LOG_", "APP_",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY",  # what is exported goes to this machine, not to a proxy
)  # fmt: skip
_SINK_SECONDS: Final = 30.0


class Cast:
    """The processes of one demo, whose files are all below `directory`.

    Nothing runs before `start`; after `stop` nothing that was started runs, also when `start` got only half way.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.logs = directory / "logs"
        self.redis = EmbeddedRedis(directory / "redis", next(iter(find_servers(_chosen_server())), None))
        self.mailbox = Mailbox(directory / "mails")
        self.receiver = OtlpReceiver()
        self.consumers: list[Actor] = []
        self.sink: Actor | None = None
        self.smtp_url = ""
        self._script = directory / "mail-server.json"
        self._receiving = False
        self._left_up = False
        self._guard: subprocess.Popen[bytes] | None = None

    def start(self, script: Script) -> None:
        """Starts all but the consumers. Raises `StreamsError` when one of them does not come up."""
        # Blocking, and in this thread on purpose: in another one a cancelled demo would leave a start half done.
        self.logs.mkdir(parents=True)
        guard.record(self.directory, [])
        self._guard = subprocess.Popen(
            [sys.executable, "-m", "processors.demo.guard", str(self.directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.redis.start()
        self.receiver.__enter__()
        self._receiving = True
        self.follow(script)
        arguments = ["--port", "0", "--dir", str(self.mailbox.directory), "--script", str(self._script)]
        self.sink = Actor("mail-server", "processors.demo.sink", arguments, env=os.environ, logs=self.logs)
        self._note()
        self.smtp_url = f"smtp://127.0.0.1:{self._sink_port(self.sink)}"

    def environment(self, *, traced: bool = True) -> dict[str, str]:
        """What a process needs to take part, and nothing of what the caller has set for other Redis and mail servers.

        Not `traced`: for processes that outlive the receiver.
        """
        kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(_SETTINGS)}
        tracing = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.receiver.endpoint,
            "OTEL_TRACES_SAMPLER": "always_on",
            "OTEL_BSP_SCHEDULE_DELAY": "200",  # ms: spans are looked at while their processes live
        }
        return kept | {
            "REDIS_URL": self.redis.url,
            "QUEUE_PREFIX": PREFIX,
            "STREAMS_LEASE": f"{LEASE:g}",
            "STREAMS_GRACE": f"{GRACE:g}",
            "SMTP_URL": self.smtp_url,
            "EMAIL_STOCK_ALERTS_TO": STOCK_ALERTS_TO,
            "APP_URL": "http://localhost:8000",
            "LOG_FORMAT": "json",
            **(tracing if traced else {"OTEL_SDK_DISABLED": "true"}),
        }

    def start_consumer(self, *, traced: bool = True) -> Actor:
        """Starts one more consumer; its name is `email-1`, `email-2` and so on, in the traces too."""
        name = f"email-{len(self.consumers) + 1}"
        env = self.environment(traced=traced) | {"OTEL_SERVICE_NAME": name}
        # As many handlers at once as connections to the mail server: a retry then does not queue behind the crowd.
        env["EMAIL_SMTP_CONNECTIONS"] = CONCURRENCY
        consumer = Actor(name, "processors.email", ["--concurrency", CONCURRENCY], env=env, logs=self.logs)
        self.consumers.append(consumer)
        self._note()
        return consumer

    def follow(self, script: Script) -> None:
        """Lets the mail server behave by another script, which it notices within a moment."""
        partial = self._script.with_suffix(".partial")
        partial.write_text(script.model_dump_json(indent=2), encoding="utf-8")
        partial.rename(self._script)

    def drain(self) -> list[Actor]:
        """Ends the consumers in peace: they finish what they handle and send their last spans."""
        drained = [consumer for consumer in self.consumers if consumer.running]
        for consumer in drained:
            consumer.terminate()
        for consumer in drained:
            consumer.end()
        self._note()
        return drained

    def leave_up(self) -> None:
        """Lets Redis, the mail server and the consumers outlive this process: `guard.stop` ends them, not `stop`."""
        self._left_up = True
        self._note()
        self._dismiss_guard()
        self._stop_receiver()

    def stop(self) -> None:
        """Ends everything that was not left up; calling it twice is fine."""
        if self._left_up:
            return
        self.drain()
        if self.sink is not None:
            self.sink.terminate()
            self.sink.end()
        self._stop_receiver()
        if self.redis.directory.exists():
            self.redis.stop()
            if self.redis.socket.parent != self.redis.directory:  # the socket's path would have been too long
                with suppress(OSError):
                    self.redis.socket.parent.rmdir()
        if self.logs.exists():
            self._note()
        self._dismiss_guard()

    def log_files(self) -> list[Path]:
        """Every log that the processes write."""
        return [*self.logs.iterdir(), self.mailbox.directory / "log.jsonl", self.redis.directory / "redis.log"]

    def actors(self) -> list[Actor]:
        """Every process but Redis that was started, also those that have ended."""
        return [*self.consumers, *([self.sink] if self.sink else [])]

    def running(self) -> list[str]:
        """The names of what runs now."""
        names = [f"{actor.name} (pid {actor.pid})" for actor in self.actors() if actor.running]
        pid = self.redis.pid if self.redis.directory.exists() else None
        return names + ([f"redis (pid {pid})"] if pid is not None else [])

    def _note(self) -> None:
        guard.record(self.directory, self.actors())

    def _sink_port(self, sink: Actor) -> int:
        deadline = time.monotonic() + _SINK_SECONDS
        while time.monotonic() < deadline and sink.running:
            said = sink.out.read_bytes()
            if said.endswith(b"\n"):
                return int(orjson.loads(said)["port"])
            time.sleep(0.02)
        raise StreamsError(f"the mail server of the demo did not start; see {sink.log}")

    def _stop_receiver(self) -> None:
        if self._receiving:
            self._receiving = False
            self.receiver.__exit__(None, None, None)

    def _dismiss_guard(self) -> None:
        if self._guard is not None and self._guard.stdin is not None:
            with suppress(OSError):
                self._guard.stdin.write(guard.DISMISSED)
                self._guard.stdin.close()
            self._guard.wait(10.0)
            self._guard = None


def _chosen_server() -> Path | None:
    chosen = os.environ.get("STREAMS_REDIS_SERVER")
    return Path(chosen) if chosen else None
