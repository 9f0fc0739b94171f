"""`python -m benchmarks.mail`: mails, 50 at once on reused connections, against bare loops of aiosmtplib.

The mailer is given finished mails, and so is its floor. The processor makes its mails from events, and its floor makes
them with `EmailMessage` from two texts that are ready but for a name. Each runs in a process of its own, one after the
other, several times. So does the server: it speaks SMTP, takes everything and keeps nothing, and what is measured is
the client. CPU is that of the sending process alone, which others on the machine change least.
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
from email import policy
from email.message import EmailMessage
from email.utils import formatdate
from pathlib import Path
from typing import Final, NamedTuple, Self

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
from streams.errors import exit_on_error
from streams.redis.embedded import EmbeddedRedis, find_servers

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


class Measured(NamedTuple):
    """Mails a second, seconds of CPU a mail, and connections."""

    rate: float
    cpu: float
    connections: int


def _cpu(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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

    def until(self, count: int, sender: subprocess.Popen[bytes]) -> Measured:
        """Waits until it has so many mails."""
        deadline = time.monotonic() + _PATIENCE
        began: tuple[int, float] | None = None
        while time.monotonic() < deadline and sender.poll() is None:
            taken, seconds, opened = self._ask()
            used = _cpu(sender.pid)
            if taken >= count:
                assert taken == count, f"{taken} mails of {count}"
                first, before = began or (0, 0.0)
                return Measured(count / seconds, (used - before) / (count - first), opened)
            if taken and began is None:
                began = taken, used
            time.sleep(0.02)
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
    """The users to welcome."""
    return [UserRegistered(user_id=n, email=f"user{n}@example.com", name=f"User {n}") for n in range(count)]


def mail_to(user: UserRegistered) -> Mail:
    """The mail that the processor would make."""
    settings = EmailSettings.load()
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


async def send_made(port: int, count: int) -> None:
    """The floor of a sender that has to make the mails first, each as small as it can be."""
    model = render("welcome", name="{name}", link=EmailSettings.load().link("/"))
    users = iter(people(count))

    async def loop() -> None:
        async with SMTP(hostname="127.0.0.1", port=port, start_tls=False) as client:
            for user in users:
                message = EmailMessage(policy=policy.SMTP)
                message["From"], message["To"], message["Subject"] = "bord@example.com", user.email, model.subject
                message["Message-ID"], message["Date"] = f"<{user.user_id}@example.com>", formatdate()
                message.set_content(model.text.replace("{name}", user.name))
                message.add_alternative(model.html.replace("{name}", user.name), subtype="html")
                await client.send_message(message)

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


BY_ITSELF: Final = {"bare": send_barely, "mailer": send_finished, "made": send_made}
SIDES: Final = {
    "bare": ("floor: finished mails", "bare"),
    "mailer": ("mailer: finished mails", "bare"),
    "made": ("floor: EmailMessage, then the mail", "made"),
    "processor": ("processor: events to mails", "made"),
}


def measure(side: str, count: int, latency: float, redis_url: str) -> Measured:
    """One side, once."""
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
        sender = subprocess.Popen([sys.executable, *command], env=env, stdin=subprocess.PIPE)
        try:
            return server.until(count, sender)
        finally:
            sender.terminate()
            sender.communicate(timeout=30)


async def publish(env: Mapping[str, str], count: int) -> None:
    """What the processor finds when it starts."""
    settings = Settings(
        redis_url=SecretStr(env["REDIS_URL"]), app=env["STREAMS_APP"], accept_risk=frozenset({"no-aof"})
    )
    async with Streams(settings=settings) as streams:
        await streams.publish_many(people(count))


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mails", type=int, default=2_000)
    parser.add_argument("--runs", type=int, default=3, help="of each side, alternating; the medians count")
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
        asyncio.run(BY_ITSELF[side](int(port), int(count)))
        sys.stdin.read()  # its CPU is looked at afterwards
        return
    found: dict[str, list[Measured]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory(prefix="bench-mail-") as directory:
        server = EmbeddedRedis(Path(directory), max(find_servers(), key=lambda one: one.version))
        try:
            url = server.start()
            for _ in range(options.runs):
                for side in SIDES:
                    found[side].append(measure(side, options.mails, options.latency / 1000, url))
        finally:
            server.stop()
    title = f"{options.mails} mails, {AT_ONCE} at once, {options.latency:g} ms a reply, medians of {options.runs}"
    table = Table("work", "mails/s", "of its floor", "CPU ms/mail", "connections", title=title)
    for side, (name, floor) in SIDES.items():
        rate, below = (statistics.median(one.rate for one in found[which]) for which in (side, floor))
        cpu = statistics.median(one.cpu for one in found[side]) * 1000
        table.add_row(name, f"{rate:.0f}", f"{rate / below:.2f}", f"{cpu:.2f}", str(found[side][-1].connections))
        if rate / below < LEAST_RATIO:
            print(f"MISSED: {name}: {rate / below:.2f} of its floor (at least {LEAST_RATIO})")
    Console().print(table)


if __name__ == "__main__":
    with exit_on_error():
        Settings.load()  # a wrong setting is one line, before anything is started
        main()
