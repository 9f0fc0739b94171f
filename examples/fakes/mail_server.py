"""MailServer: a mail server on this machine that keeps what it is given and misbehaves by rules.

Tests use the object, the demo the process: `python -m examples.fakes.mail_server --port 0 --dir DIR --script FILE`.
Each mail it takes becomes one `.eml` file in the directory, and each thing that happens one JSON line in `log.jsonl`.
It listens on the loopback interface only and must never be reachable from anywhere else.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import logging
import os
import signal
import socket
import ssl
import sys
import threading
import time
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeVar

import orjson

from .mail_rules import MailRules, Rule
from .smtp_session import SmtpSession

_T = TypeVar("_T")

_HOST: Final = "127.0.0.1"
_PATIENCE: Final = 10.0
_POLL: Final = 0.1


class MailServer:
    """The mail server, in a thread of its own; use it as a context manager, or `start()` and `stop()` it.

    `tls` makes it offer STARTTLS with that context, `login` makes it demand that user and password (after STARTTLS
    if there is one). `port` 0 takes a free port, which stays the same over `stop_listening()` and `listen()`.
    """

    def __init__(
        self,
        directory: Path,
        *,
        port: int = 0,
        rules: MailRules | None = None,
        tls: ssl.SSLContext | None = None,
        login: tuple[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.rules = rules or MailRules()
        self.port = port
        self.tls = tls
        self.login = login
        self.sessions: set[SmtpSession] = set()
        self._used: Counter[str] = Counter()
        self._numbers = itertools.count(1)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="smtp-sink", daemon=True)
        self._server: asyncio.Server | None = None
        self._reserved: socket.socket | None = None
        self._log = -1

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Takes the port and listens, unless the rules say otherwise. Raises `OSError` when the port is in use."""
        self.directory.mkdir(parents=True, exist_ok=True)
        # One write to a descriptor opened with O_APPEND is one whole line, whatever else reads or writes the file.
        self._log = os.open(self.directory / "log.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        # Bound and never listening: keeps the port ours while the server is closed, and connecting to it is refused.
        self._reserved = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reserved.bind((_HOST, self.port))
        self.port = self._reserved.getsockname()[1]
        self._thread.start()
        if self.rules.listening:
            self.listen()

    def stop(self) -> None:
        """Closes everything; calling it twice is fine."""
        if self._thread.is_alive():
            self.stop_listening()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_PATIENCE)
            self._loop.close()
        if self._reserved is not None:
            self._reserved.close()
        if self._log >= 0:
            os.close(self._log)
            self._log = -1

    def listen(self) -> None:
        """Opens the port (again)."""
        self._run(self._listen())

    def stop_listening(self) -> None:
        """Closes the port and cuts every open connection, as a crash of the server would."""
        self._run(self._stop_listening())

    def follow(self, rules: MailRules) -> None:
        """Behaves by other rules from now on. A rule that did not change goes on counting its times."""
        for name, rule in self.rules.recipients.items():
            if rules.recipients.get(name) != rule:
                self._used.pop(name, None)
        self.rules = rules
        if rules.listening:
            self.listen()
        else:
            self.stop_listening()
        self.note("scripted")

    def mails(self) -> list[EmailMessage]:
        """The mails taken so far, oldest first."""
        files = sorted(self.directory.glob("*.eml"))
        return [message_from_bytes(file.read_bytes(), policy=policy.default) for file in files]

    def events(self, event: str | None = None) -> list[dict[str, Any]]:
        """The log so far, or those of its lines that are about `event`."""
        # A read may come in the middle of a write: what has no end of line yet is not there yet.
        written, _, _ = (self.directory / "log.jsonl").read_bytes().rpartition(b"\n")
        lines = map(orjson.loads, written.splitlines())
        return [line for line in lines if event in (None, line["event"])]

    def note(
        self, event: str, code: int = 0, *, message_id: str = "", sender: str = "", recipients: tuple[str, ...] = ()
    ) -> None:
        """Writes one line to the log; `time` is in seconds since 1970."""
        line = {
            "time": time.time(), "event": event, "code": code,
            "message_id": message_id, "from": sender, "recipients": recipients,
        }  # fmt: skip
        os.write(self._log, orjson.dumps(line) + b"\n")

    def keep(self, content: bytes) -> None:
        """Writes one mail; a reader of the directory sees it whole or not at all."""
        name = f"{time.time_ns()}-{next(self._numbers):06d}"
        partial = self.directory / f"{name}.partial"
        partial.write_bytes(content)
        partial.rename(self.directory / f"{name}.eml")

    def rule(self, recipient: str, at: Literal["mail", "rcpt", "data"]) -> Rule | None:
        """The rule that holds for this recipient at this point, counted as used; None when there is none."""
        for name in (recipient, "@" + recipient.rpartition("@")[2], "*"):
            rule = self.rules.recipients.get(name)
            if rule is None:
                continue
            point = "data" if rule.drop else rule.at
            if point != at or (rule.times is not None and self._used[name] >= rule.times):
                return None
            self._used[name] += 1
            return rule
        return None

    async def _listen(self) -> None:
        if self._server is None:
            # With SO_REUSEADDR on both, binding beside the reserved socket is allowed: that one does not listen.
            self._server = await self._loop.create_server(
                lambda: SmtpSession(self), _HOST, self.port, reuse_address=True
            )
            self.note("listening")

    async def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
            self.note("stopped_listening")
        open_sessions = list(self.sessions)
        for session in open_sessions:
            session.cut()
        tasks = [session.task for session in open_sessions if session.task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_PATIENCE)


def _changed(file: Path) -> int:
    with suppress(OSError):
        return file.stat().st_mtime_ns
    return 0


def main() -> None:
    """Runs the server until SIGTERM or SIGINT, following the file of its rules whenever that changes."""
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}.mail_server", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 (the default) takes a free one")
    parser.add_argument("--dir", type=Path, required=True, help="where mails and log.jsonl are written")
    parser.add_argument("--script", type=Path, help="JSON file; it is read again whenever it changes")
    arguments = parser.parse_args()
    logging.getLogger("mail.log").setLevel(logging.ERROR)  # aiosmtpd warns of what this server does on purpose

    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    file: Path | None = arguments.script
    seen = _changed(file) if file else 0
    with MailServer(arguments.dir, port=arguments.port, rules=MailRules.read(file) if file else None) as server:
        sys.stdout.write(orjson.dumps({"host": _HOST, "port": server.port, "dir": str(arguments.dir)}).decode() + "\n")
        sys.stdout.flush()
        while not ended.wait(_POLL):
            if file and (now := _changed(file)) != seen:
                seen = now
                if rules := MailRules.read(file):
                    server.follow(rules)


if __name__ == "__main__":
    main()
