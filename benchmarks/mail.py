"""`python -m benchmarks.mail`: mails through a running email processor, 50 at once on reused connections, against a
bare loop of aiosmtplib that is given finished mails. Each in a process of its own, one after the other, several times.

The server is a process too. It speaks SMTP, takes everything and keeps nothing: what is measured is the client.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

import structlog
from aiosmtplib import SMTP
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from processors.email.mail import Mail, compose
from processors.email.mailer import Mailer
from processors.email.rendering import render
from processors.email.settings import EmailSettings
from schemas import UserRegistered
from streams import Settings, Streams
from streams.embedded import EmbeddedRedis, find_servers

AT_ONCE: Final = 50
LEAST_RATIO: Final = 0.7
_PATIENCE: Final = 300.0  # seconds


class Server(asyncio.Protocol):
    """One connection of a mail server that takes whatever it is given; the counts are of all connections together."""

    taken = opened = 0
    first = last = 0.0
    latency = 0.0

    def __init__(self) -> None:
        self._rest = b""
        self._is_content = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greets."""
        Server.opened += 1
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # TCP gives a Transport
        self._say(b"220 bench")

    def data_received(self, data: bytes) -> None:
        """Answers what is complete."""
        self._rest += data
        while True:
            text, found, rest = self._rest.partition(b"\r\n.\r\n" if self._is_content else b"\r\n")
            if not found:
                return
            self._rest = rest
            self._say(self._content() if self._is_content else self._answer(text[:4].upper()))

    def _content(self) -> bytes:
        self._is_content = False
        Server.taken, Server.last = Server.taken + 1, time.perf_counter()
        return b"250 taken"

    def _answer(self, command: bytes) -> bytes:
        if command == b"MAIL" and not Server.first:
            Server.first = time.perf_counter()
        self._is_content = command == b"DATA"
        return b"354 go on" if self._is_content else b"250 OK"

    def _say(self, line: bytes) -> None:
        asyncio.get_running_loop().call_later(Server.latency, self._transport.write, line + b"\r\n")


async def serve(latency: float) -> None:
    """Prints its port; then, for each line it reads, how many mails it has, in how many seconds and connections."""
    loop = asyncio.get_running_loop()
    Server.latency = latency
    server = await loop.create_server(Server, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.readline():
        print(Server.taken, Server.last - Server.first, Server.opened, flush=True)
    server.close()


class Running:
    """The server as a process of its own."""

    def __init__(self, latency: float) -> None:
        command = [sys.executable, "-m", "benchmarks.mail", "--serve", str(latency)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self._line())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.communicate(timeout=10)

    def until(self, count: int, sender: subprocess.Popen[bytes]) -> tuple[float, int]:
        """Waits until it has so many mails; how many seconds they took, and how many connections."""
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline and sender.poll() in (None, 0):
            taken, seconds, opened = self._ask()
            if taken >= count:
                assert taken == count, f"{taken} mails of {count}"
                return seconds, opened
            time.sleep(0.1)
        raise AssertionError(f"{self._ask()[0]} of {count} mails, and the sender is at {sender.poll()}")

    def _ask(self) -> tuple[int, float, int]:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        taken, seconds, opened = self._line().split()
        return int(taken), float(seconds), int(opened)

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


def people(count: int) -> list[UserRegistered]:
    """Whom to welcome."""
    return [UserRegistered(user_id=n, email=f"user{n}@example.com", name=f"User {n}") for n in range(count)]


def mail_to(user: UserRegistered) -> Mail:
    """The mail that the processor would make."""
    settings = EmailSettings()
    words = render("welcome", name=user.name, link=settings.link("/"))
    identity = f"event-{user.user_id}"
    return compose(words, event_id=identity, template="welcome", sender=settings.sender(), recipients=(user.email,))


async def send_barely(port: int, count: int) -> None:
    """The floor: finished mails, and as many connections as there are tasks."""
    mails = iter([mail_to(user) for user in people(count)])

    async def loop() -> None:
        async with SMTP(hostname="127.0.0.1", port=port, start_tls=False) as client:
            for mail in mails:
                await client.sendmail(mail.sender, list(mail.recipients), mail.content)

    await asyncio.gather(*(loop() for _ in range(AT_ONCE)))


async def send_finished(port: int, count: int) -> None:
    """The same mails by the processor's own mailer."""
    settings = EmailSettings(smtp_url=SecretStr(f"smtp://127.0.0.1:{port}"), email_smtp_connections=AT_ONCE)
    mailer, mails = Mailer(settings), iter([mail_to(user) for user in people(count)])

    async def loop() -> None:
        for mail in mails:
            await mailer.send(mail)

    await asyncio.gather(*(loop() for _ in range(AT_ONCE)))
    await mailer.close()


def measure(side: str, count: int, latency: float, redis_url: str) -> tuple[float, int]:
    """Mails a second of one side, and its connections."""
    env = {
        **os.environ, "REDIS_URL": redis_url, "STREAMS_APP": f"bench{time.time_ns()}", "STREAMS_ACCEPT_RISK": "no-aof",
        "LOG_LEVEL": "WARNING", "OTEL_SDK_DISABLED": "true", "EMAIL_SMTP_CONNECTIONS": str(AT_ONCE),
    }  # fmt: skip
    with Running(latency) as server:
        env["SMTP_URL"] = f"smtp://127.0.0.1:{server.port}"
        if side == "processor":
            asyncio.run(publish(env, count))
            command = ["-m", "processors.email", "--concurrency", str(AT_ONCE)]
        else:
            command = ["-m", "benchmarks.mail", "--send", side, str(server.port), str(count)]
        sender = subprocess.Popen([sys.executable, *command], env=env)
        try:
            seconds, opened = server.until(count, sender)
        finally:
            sender.terminate()
            sender.wait(30)
    return count / seconds, opened


async def publish(env: Mapping[str, str], count: int) -> None:
    """What the processor finds when it starts."""
    settings = Settings(redis_url=env["REDIS_URL"], app=env["STREAMS_APP"], accept_risk="no-aof")  # type: ignore[arg-type]
    async with Streams(settings=settings) as streams:
        await streams.publish_many(people(count))


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mails", type=int, default=2_000)
    parser.add_argument("--runs", type=int, default=3, help="of each side, in turn; the medians count")
    parser.add_argument("--latency", type=float, default=0.0, help="ms that each reply of the server takes")
    parser.add_argument("--serve", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--send", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        asyncio.run(serve(options.serve))
        return
    if options.send:
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
        side, port, count = options.send
        asyncio.run((send_barely if side == "bare" else send_finished)(int(port), int(count)))
        return
    sides = {
        "bare": "floor: aiosmtplib, finished mails",
        "mailer": "the mailer, finished mails",
        "processor": "the processor: events to mails",
    }
    found: dict[str, list[float]] = {side: [] for side in sides}
    connections = dict.fromkeys(sides, 0)
    with tempfile.TemporaryDirectory(prefix="bench-mail-") as directory:
        server = EmbeddedRedis(Path(directory), max(find_servers(), key=lambda one: one.version))
        try:
            url = server.start()
            for _ in range(options.runs):
                for side in sides:
                    rate, connections[side] = measure(side, options.mails, options.latency / 1000, url)
                    found[side].append(rate)
        finally:
            server.stop()
    title = f"{options.mails} mails, {AT_ONCE} at once, {options.latency:g} ms a reply"
    table = Table("work", "mails/s", "of the floor", "connections", title=title)
    floor = statistics.median(found["bare"])
    for side, told in sides.items():
        rate = statistics.median(found[side])
        table.add_row(told, f"{rate:.0f}", f"{rate / floor:.2f}", str(connections[side]))
        if rate / floor < LEAST_RATIO:
            print(f"MISSED: {told}: {rate / floor:.2f} of the floor (at least {LEAST_RATIO})")
    Console().print(table)


if __name__ == "__main__":
    main()
