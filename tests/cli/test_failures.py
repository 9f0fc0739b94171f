"""How commands end: one line, an exit code, and never a traceback."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from streams import Streams
from tests.cli.conftest import Cli, Command
from tests.cli.consuming import registered
from tests.conftest import RedisFactory
from tests.support.child import Spawn
from tests.support.waiting import wait_until, wait_until_sync

pytestmark = pytest.mark.newest_redis

READING = [["status"], ["event", "1-1"], ["tail", "users"], ["dead", "ls", "email"], ["doctor"]]
PUBLISH = ["publish", "UserRegistered", "user_id=7", "email=a@example.com", "name=x"]


@pytest.mark.parametrize("arguments", [*READING, PUBLISH], ids=lambda arguments: arguments[0])
def test_redis_away(command: Command, arguments: list[str]) -> None:
    nobody = {"REDIS_URL": "redis://127.0.0.1:1/0", "STREAMS_PUBLISH_TIMEOUT": "0.5"}
    command(*arguments, env=nobody).refused(1, "redis://127.0.0.1:1", "REDIS_URL")


@pytest.mark.parametrize("arguments", [*READING, PUBLISH], ids=lambda arguments: arguments[0])
def test_a_wrong_password(command: Command, redis_factory: RedisFactory, arguments: list[str]) -> None:
    server = redis_factory(password="right")
    result = command(*arguments, env={"REDIS_URL": f"redis://:wrong-one@127.0.0.1:{server.port}/0"})
    result.refused(78, "REDIS_PASSWORD")
    assert "wrong-one" not in result.err


async def test_an_unsafe_redis_is_refused_to_publishers_and_shown_to_readers(
    cli: Cli, redis_factory: RedisFactory
) -> None:
    server = redis_factory(args=["--maxmemory-policy", "allkeys-lru"])
    env = {"REDIS_URL": server.url}
    (await cli(*PUBLISH, env=env)).refused(78, "allkeys-lru", "noeviction")
    result = await cli("status", env=env)
    assert (result.code, "allkeys-lru" in result.out) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "env", "code", "parts"),
    [
        (["frobnicate"], {}, 2, ["frobnicate", "streams --help"]),
        (["statsu"], {}, 2, ["status"]),
        (["--nonsense"], {}, 2, ["--nonsense"]),
        (["status"], {"STREAMS_LEASE": "soon"}, 2, ["STREAMS_LEASE"]),
        (["status"], {"REDIS_PORT": "x"}, 2, ["REDIS_PORT"]),
        (["status"], {"QUEUE_PREFIX": "A{B}"}, 2, ["QUEUE_PREFIX"]),
        (["status"], {"REDIS_URL": "ftp://x"}, 2, ["ftp", "redis://"]),
        (["status"], {"STREAMS_EVENTS": "no.such.module"}, 2, ["STREAMS_EVENTS", "no.such.module"]),
        (["schema", "Nope"], {}, 2, ["Nope"]),
        (["event", "nobody"], {}, 1, ["nobody", "looked through"]),
        (["event"], {}, 2, ["event --help"]),
        (["tail", "usres"], {}, 1, ["did you mean users"]),
        (["tail", "us{er}s"], {}, 1, ["us{er}s"]),
        (["tail", "users:urgent"], {}, 2, ["high, normal, low"]),
        (["tail", "users", "--from", "yesterday"], {}, 2, ["-1h"]),
        (["tail", "users", "--from", "-soon"], {}, 2, ["1h30m"]),
        (["dead"], {}, 2, ["dead --help"]),
        (["dead", "ls"], {}, 2, ["dead ls --help"]),
        (["dead", "ls", "email"], {}, 1, ["no group email", "none yet"]),
        (["dead", "ls", "e mail"], {}, 1, ["e mail"]),
        (["dead", "ls", "email", "--since", "x"], {}, 2, ["--since"]),
        (["dead", "replay", "email", "--rate", "0"], {}, 2, ["--rate"]),
        (["dead", "replay", "email", "1-1", "--type", "X"], {}, 2, ["not both"]),
    ],
    ids=range(23),
)
def test_usage(command: Command, arguments: list[str], env: Mapping[str, str], code: int, parts: list[str]) -> None:
    command(*arguments, env=env).refused(code, *parts)


async def test_a_key_of_the_wrong_type(cli: Cli, client: Streams) -> None:
    await client.redis.set(client.keys.stream("users"), "not a stream", ex=60)
    (await cli("tail", "users")).refused(1, "WRONGTYPE")


def test_without_arguments_and_help(command: Command) -> None:
    bare, helped = command(), command("--help")
    assert (bare.code, bare.out) == (0, helped.out)
    for name in ("publish", "status", "event", "tail", "dead", "doctor", "schema"):
        assert f"  {name} " in helped.out
        result = command(name, "--help")
        assert (result.code, result.err) == (0, "")
        assert f"Usage: streams {name}" in result.out


async def test_nobody_reads_the_output(streams_env: Mapping[str, str], client: Streams) -> None:
    await client.publish_many(registered() for _ in range(5000))
    command = f"{sys.executable} -m streams tail users --from 0 | head -n 1; exit ${{PIPESTATUS[0]}}"
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", command, env=dict(streams_env), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert (out.count(b"\n"), err, process.returncode) == (1, b"", 141)


@pytest.mark.parametrize("arguments", [["status", "--watch", "--json"], ["tail", "users", "--follow"]], ids=str)
async def test_interrupted(spawn: Spawn, client: Streams, arguments: list[str]) -> None:
    await client.publish(registered())
    child = spawn("streams", *arguments)
    await wait_until(child.stdout, 20, "it shows something")
    child.signal(signal.SIGINT)
    assert child.wait() == 130
    assert child.stderr() == ""


def test_interrupted_while_it_waits_for_input(streams_env: Mapping[str, str], redis_url: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "streams", "publish", "--ndjson", "-"],
        env=dict(streams_env), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        # It blocks in read(0) as soon as it has connected to nothing: the system call says so.
        wait_until_sync(lambda: _reads_stdin(process.pid), 20, "it waits for a line")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (130, b"", b"")


def _reads_stdin(pid: int) -> bool:
    # read is system call 0 on x86-64 and 63 on AArch64; its first argument is the descriptor.
    return Path(f"/proc/{pid}/syscall").read_text().split()[:2] in (["0", "0x0"], ["63", "0x0"])


async def test_a_terminal_sees_whole_ids_and_no_escape_sequences_of_messages(
    streams_env: Mapping[str, str], client: Streams
) -> None:
    receipt = await client.publish(registered())
    await client.redis.xadd(client.keys.stream("users"), {"type": "\x1b]0;pwned\x07\x1b[2J", "data": "{}"})
    lines = await asyncio.to_thread(_in_terminal, ["event", receipt.id], {**streams_env, "COLUMNS": "60"})
    assert receipt.id in lines
    lines = await asyncio.to_thread(_in_terminal, ["tail", "users"], {**streams_env, "COLUMNS": "60"})
    assert "\x1b" not in lines
    assert "\\x1b]0;pwned\\x07" in lines


def _in_terminal(arguments: list[str], env: Mapping[str, str]) -> str:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "streams", *arguments], env=dict(env), stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 4096):
            shown += chunk
    except OSError:  # Linux' word for the end of a terminal
        pass
    finally:
        os.close(ours)
    assert process.wait(timeout=20) == 0
    return shown.decode()


@pytest.mark.parametrize(
    ("arguments", "code"), [(["publish", "Nope"], 2), (["status", "--json"], 0), (["event", "nobody"], 1)], ids=range(3)
)
async def test_the_exit_code_reaches_the_shell(cli: Cli, arguments: list[str], code: int) -> None:
    result = await cli(*arguments)
    assert (result.code, result.err.count("\n")) == (code, int(code > 0))


async def test_the_engine_is_not_imported_whole(streams_env: Mapping[str, str], redis_url: str) -> None:
    code = (
        "import sys; sys.argv = ['streams', 'status', '--json']\n"
        "from streams.cli import main\n"
        "try: main()\n"
        "finally: print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        code,
        env=dict(streams_env),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    _, err = await process.communicate()
    assert not {"faust", "polars", "aiosmtplib", "jinja2"} & set(err.decode().split())
