"""Every command of `streams`, run by the role that docs/operate/users.acl has for it: none of them
is denied anything.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Self

import pytest

from streams import Consumer, Streams
from streams.cli.application import Plugin, application
from tests.cli.conftest import Result
from tests.cli.consuming import Desk, registered
from tests.faults.test_users import As, role, server
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

__all__ = ["role", "server"]

ROOT = Path(__file__).parents[2]
NEEDS_NO_REDIS = {"schema"}


def _commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """The commands that there are, `dead ls` as well as `status`; those of other packages speak for themselves."""
    if not hasattr(group, "commands"):
        yield " ".join(path)
        return
    if path and group.invoke_without_command:
        yield " ".join(path)
    for name, command in group.commands.items():
        if not isinstance(command, Plugin):
            yield from _commands(command, (*path, name))


class CommandLine:
    """The command line as one user; notes which commands were run, and what each printed."""

    def __init__(self, environment: dict[str, str], directory: Path) -> None:
        self.ran: set[str] = set()
        self._known = sorted(_commands(application()), key=len, reverse=True)
        self._environment = environment
        self._directory = directory
        self._process: asyncio.subprocess.Process | None = None

    async def __call__(self, *arguments: str, codes: tuple[int, ...] = (0,)) -> Result:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = " ".join(arguments)
        self.ran.add(next(command for command in self._known if f"{line} ".startswith(f"{command} ")))
        self._process.stdin.write(json.dumps(arguments).encode() + b"\n")
        answer = await asyncio.wait_for(self._process.stdout.readline(), 20)
        result = Result(*json.loads(answer))
        assert result.code in codes, (arguments, result)
        for word in ("NOPERM", "ermission", "may not do this"):
            assert word not in result.out + result.err, (arguments, result)
        return result

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.support.programs.rows_of_commands",
            cwd=self._directory, env=self._environment,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.kill()
        await self._process.communicate()


def _environment(server: RedisServer, app: str, directory: Path, user: str) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}",
        "REDIS_URL": f"redis://127.0.0.1:{server.port}/0",
        "REDIS_USERNAME": user,
        "REDIS_PASSWORD": user,
        "QUEUE_PREFIX": app,
        "STREAMS_LEASE": "2",
        "STORAGE_URL": f"file://{directory}/claims",
        "NO_COLOR": "1",
        "PYTHONUNBUFFERED": "1",
        "COLUMNS": "200",
    }


@pytest.fixture
async def operator(server: RedisServer, app: str, tmp_path: Path) -> AsyncIterator[CommandLine]:
    """The command line as `operator`."""
    async with CommandLine(_environment(server, app, tmp_path, "operator"), tmp_path) as line:
        yield line


@pytest.fixture
async def desk(role: As) -> AsyncIterator[tuple[Desk, Consumer]]:
    """A group at work, as `processor`, with a schedule."""
    desk = Desk(first=0.05)

    @desk.processor.every(3600, name="hourly")
    def hourly() -> Any:
        return registered(99)

    consumer = Consumer(desk.processor, Streams(settings=role("processor")))
    await consumer.start()
    yield desk, consumer
    desk.let_go.set()
    await consumer.stop()


@pytest.mark.timeout(90)
async def test_an_operator_runs_every_command(
    server: RedisServer, operator: CommandLine, desk: tuple[Desk, Consumer], role: As
) -> None:
    """With data behind it, and the answers that it should have. A new command without a line here fails this test."""
    handlers, consumer = desk
    person = ("email=ada@example.com", "name=Ada")

    async def publish(user_id: int, *options: str) -> str:
        result = await operator("publish", "UserRegistered", f"user_id={user_id}", *person, *options, "--json")
        found = result.json()
        return str((found[0] if isinstance(found, list) else found)["id"])

    async def state(id: str) -> str:
        (group,) = (await operator("event", id, "--json")).json()["groups"] or [{"state": ""}]
        return str(group["state"])

    async def is_(id: str, wanted: str) -> bool:
        return await state(id) == wanted

    done = await publish(7)
    rejected, failing = await publish(Desk.REJECTED), await publish(Desk.FAILING)
    running = await publish(Desk.HANGING)
    waiting = await publish(8, "--delay", "1h")
    await publish(9, "--once", "x", "--key", "k", "--priority", "high", "--expires", "5m")
    await publish(10, "--count", "30")
    for id, wanted in ((done, "acked"), (rejected, "dead"), (failing, "dead"), (running, "running")):
        await wait_until(partial(is_, id, wanted))

    assert "email" in (await operator("status")).out
    await operator("status", "--json")
    await operator("event", done, "--follow")
    await operator("event", waiting)
    assert "UserRegistered" in (await operator("tail", "users", "--limit", "2")).out
    await operator("tail", "users", "--from", "-1h", "--reveal", "--json")
    await operator("tail", "inbox:email", codes=(0, 1))
    await operator("doctor", codes=(0, 1))
    await operator("doctor", "--json", codes=(0, 1))
    for id in (done, rejected, running, waiting):
        await operator("doctor", "why", id)
    assert "cancelled" in (await operator("cancel", waiting)).out
    assert "is asked to stop it" in (await operator("cancel", running)).out
    await wait_until(lambda: is_(running, "cancelled"))
    await operator("pause", "email")
    await operator("doctor", "why", await publish(11))
    await operator("resume", "email")

    assert "hourly" in (await operator("schedules", "ls")).out
    await operator("schedules", "pause", "email.hourly")
    await operator("schedules", "resume", "email.hourly")
    assert "published" in (await operator("schedules", "run", "email.hourly")).out

    await operator("dead", "ls", "email")
    await operator("dead", "ls", "email", "--group-by", "fingerprint")
    await operator("dead", "ls", "email", "--error", "mailbox", "--since", "1h", "--json")
    await operator("dead", "show", "email", rejected)
    await operator("dead", "edit", "email", rejected, "--set", "name=Bob")
    handlers.healed = True
    await operator("dead", "replay", "email", "--canary", "--within", "10s", "--yes")
    await wait_until(lambda: is_(failing, "acked"))
    handlers.healed = False
    for _ in range(2):
        await publish(Desk.REJECTED)
    last = await publish(Desk.REJECTED)
    await wait_until(lambda: is_(last, "dead"))
    await operator("dead", "replay", "email", last)
    await operator("dead", "discard", "email", "--reason", "rejected", "--limit", "1", "--yes")
    await operator("dead", "discard", "email", "--yes")

    await operator("replay", "users", "--group", "email", "--from", "-1h", "--dry-run")
    await operator("replay", "users", "--group", "email", "--id", done, "--yes")
    async with Streams(settings=role("operator")) as client:
        planned = await client.replays.plan("users", group="email")
        beginning = asyncio.ensure_future(client.replays.begin(planned, rate=2))
        job = await wait_until(lambda: _unfinished(client))
        beginning.cancel()
        await asyncio.wait({beginning})  # it holds a connection until it has ended
    await operator("replays", "ls")
    await operator("replays", "resume", job)
    await operator("replays", "cancel", job)

    await operator("partitions")
    await operator("orphans")
    await operator("orphans", "--yes")
    await operator("gaps", codes=(0, 1))
    await operator("gaps", "--accept", "all")
    await operator("trim", "users", "--keep", "1", "--dry-run")
    await operator("trim", "users", "--keep", "1")
    await consumer.stop()
    await operator("schedules", "forget", "email.hourly")
    await publish(12)
    await operator("retire", "email", "--yes")
    await operator("doctor", codes=(0, 1))
    await operator("partitions", "--set", "2")
    await operator("partitions", "--set", "1", codes=(0, 1, 2))
    await operator("schema")

    assert server.cli("ACL", "LOG") == []
    assert operator.ran == set(_commands(application())), "each command has its line above"


async def _unfinished(client: Streams) -> str:
    return next((job.id for job in await client.replays.ls() if job.state == "running"), "")


@pytest.mark.timeout(60)
async def test_following_is_the_operators_too(
    server: RedisServer, app: str, tmp_path: Path, desk: tuple[Desk, Consumer], role: As
) -> None:
    """What goes on until it is interrupted or done: a stream, the whole state, an event whose handler runs."""

    async def run(*arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "streams", *arguments,
            cwd=tmp_path, env=_environment(server, app, tmp_path, "operator"),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip

    async with Streams(settings=role("publisher")) as publisher:
        running = (await publisher.publish(registered(Desk.HANGING))).id
        tail, status = await run("tail", "users", "--follow"), await run("status", "--watch", "--json")
        event = await run("event", running, "--follow")
        for process in (tail, status):
            assert process.stdout is not None
            line = asyncio.ensure_future(process.stdout.readline())
            for _ in range(100):
                await publisher.publish(registered(7))
                if (await asyncio.wait({line}, timeout=0.2))[0]:
                    break
            assert await asyncio.wait_for(line, 1)
            process.kill()
            await process.communicate()
        channel = publisher.keys.progress(running)
        await wait_until(lambda: server.cli("PUBSUB", "NUMSUB", channel)[1] == 1)
        desk[0].let_go.set()
        out, err = await asyncio.wait_for(event.communicate(), 20)
        assert event.returncode == 0, err.decode()
        assert b"acked" in out
    assert server.cli("ACL", "LOG") == []


@pytest.mark.parametrize("options", [(), ("--delay", "1h"), ("--once", "x"), ("--count", "3", "--priority", "low")])
async def test_a_publisher_publishes_from_the_command_line(
    server: RedisServer, app: str, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """And nothing else: what shows anything is refused, with the command that was denied."""
    async with CommandLine(_environment(server, app, tmp_path, "publisher"), tmp_path) as line:
        await line("publish", "UserRegistered", "user_id=7", "email=ada@example.com", "name=Ada", *options)
        assert server.cli("ACL", "LOG") == []
