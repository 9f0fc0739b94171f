"""Outputs that are closed, full, read by nothing, narrow, or a terminal: what a command prints, and how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest

from streams import Streams
from tests.cli.conftest import Result

pytestmark = pytest.mark.newest_redis

ADA: Final = ("UserRegistered", "user_id=7", "email=ada@example.com", "name=Ada")
LINE: Final = b'{"type": "UserRegistered", "data": {"user_id": 7, "email": "ada@example.com", "name": "Ada"}}\n'
HOSTILE: Final = "\u009b31m\u009d52;c;eA==\u0007 \x7f \u202eevil\u2066 \u061c\u200f \x1b[2J é 日本 \U0001f600"
ODD: Final = "Zo\u00eb \u65e5\u672c \U0001f600"

Written = Callable[..., Coroutine[Any, Any, Result]]


@pytest.fixture
def written(streams_env: Mapping[str, str], tmp_path: Path) -> Written:
    """Runs a command whose stdout is this descriptor, or closed if it is None."""

    async def run(
        stdout: int | None, *arguments: str, stdin: bytes = b"", env: Mapping[str, str] | None = None
    ) -> Result:
        command = (sys.executable, "-m", "streams", *arguments)
        closing = ("/bin/sh", "-c", 'exec "$@" >&-', "sh") if stdout is None else ()
        process = await asyncio.create_subprocess_exec(
            *closing, *command, cwd=tmp_path, env={**streams_env, **(env or {})}, stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL if stdout is None else stdout, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate(stdin)
        assert process.returncode is not None
        return Result(process.returncode, (out or b"").decode("latin-1" if env else "utf-8"), err.decode())

    return run


@contextmanager
def closed() -> Iterator[int | None]:
    """What a shell makes of `>&-`."""
    yield None


@contextmanager
def full() -> Iterator[int | None]:
    """A disk that is full."""
    device = os.open("/dev/full", os.O_WRONLY)
    yield device
    os.close(device)


@contextmanager
def unread() -> Iterator[int | None]:
    """A pipe whose reader is gone."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


OUTPUTS: Final = {"closed": closed, "full": full, "unread": unread}
REASONS: Final = {"closed": "Bad file descriptor", "full": "No space left on device", "unread": "Broken pipe"}


async def length(client: Streams) -> int:
    """How many events are in the stream."""
    return int(await client.redis.xlen(client.keys.stream("users")))


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize(
    ("arguments", "stdin", "count"),
    [
        (ADA, b"", 1),
        ((*ADA, "--count", "1201", "--json"), b"", 1201),
    ],
    ids=["one", "array"],
)
async def test_what_is_published_is_a_success_also_if_no_receipt_can_be_printed(
    written: Written, client: Streams, output: str, arguments: tuple[str, ...], stdin: bytes, count: int
) -> None:
    """A script that publishes again after a failure would publish twice."""
    with OUTPUTS[output]() as stdout:
        result = await written(stdout, "publish", *arguments, stdin=stdin)
    assert result == Result(0, "", f"done, but it cannot be printed: {REASONS[output]}\n")
    assert await length(client) == count


async def test_what_is_not_published_fails_whatever_the_output(written: Written, client: Streams) -> None:
    with full() as stdout:
        (await written(stdout, "publish", *ADA[:3])).refused(2, "name is missing")
        result = await written(stdout, "publish", "--ndjson", "-", "--json", stdin=LINE * 600 + b"{\n")
    assert result.code == 2
    assert "published before it: 600" in result.err
    assert await length(client) == 600


LOOKS: Final = (("status",), ("tail", "users", "--json"), ("tail", "users", "--follow"), ("--help",))


@pytest.mark.parametrize("arguments", LOOKS, ids=" ".join)
async def test_what_cannot_be_shown_is_a_failure_with_its_reason(
    written: Written, client: Streams, arguments: tuple[str, ...]
) -> None:
    await dead_letter(client, "oops")
    for output in ("closed", "full"):
        with OUTPUTS[output]() as stdout:
            result = await written(stdout, *arguments)
        result.refused(1, f"the output cannot be written: {REASONS[output]}")
    with unread() as stdout:
        result = await written(stdout, *arguments)
    assert result == Result(1 if arguments == ("--help",) else 141, "", "")  # the help is typer's


async def dead_letter(client: Streams, text: str) -> None:
    """One event in `users`, and a dead letter of it, with this text in all that is shown."""
    body = json.dumps({"user_id": 7, "email": "ada@example.com", "name": text})
    fields: dict[Any, Any] = {"id": f"id {text}", "type": "UserRegistered", "data": body, "partitionkey": text}
    await client.redis.xadd(client.keys.stream("users"), fields)
    await client.redis.hset(client.keys.groups(), "email", client.keys.stream("users"))
    letter = {**fields, "reason": "failed", "error": text, "errortype": "ValueError", "traceback": text}
    await client.redis.xadd(client.keys.dead("email"), letter)


async def test_no_line_of_a_traceback_is_taken_for_one_of_the_command(written: Written, client: Streams) -> None:
    """Each is marked; what is no traceback is one line."""
    await dead_letter(client, "first\ndeliver it again:  curl evil")
    letters: Any = await client.redis.xrange(client.keys.dead("email"))
    (id,) = [entry_id.decode() for entry_id, _ in letters]
    out = (await written(asyncio.subprocess.PIPE, "dead", "show", "email", id)).out.splitlines()
    (begins,) = [number for number, line in enumerate(out) if line.startswith("traceback")]
    assert out[begins].removeprefix("traceback").strip() == "| first"
    assert out[begins + 1].strip() == "| deliver it again:  curl evil"
    (error,) = [line for line in out if line.startswith("error")]
    assert "|" not in error
    assert not any(line.startswith("deliver it again:  curl") for line in out)


NARROW: Final[dict[str, dict[str, str]]] = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "LC_ALL=C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}
SHOWS: Final = (("status",), ("dead", "ls", "email"), ("tail", "users", "--reveal"), ("event", f"id {ODD}", "--reveal"))


@pytest.mark.parametrize("encoding", NARROW)
async def test_an_output_that_is_not_utf8_gets_escapes(written: Written, client: Streams, encoding: str) -> None:
    await dead_letter(client, ODD)
    for arguments in SHOWS if encoding == "ascii" else SHOWS[1:3]:
        result = await written(asyncio.subprocess.PIPE, *arguments, env=NARROW[encoding])
        assert (result.code, result.err) == (0, ""), (arguments, result)
        assert arguments == ("status",) or r"\u65e5\u672c \U0001f600" in result.out, (arguments, result)
    result = await written(asyncio.subprocess.PIPE, "tail", "users", "--reveal", "--json", env=NARROW[encoding])
    assert result.out.isascii()
    assert result.json()[0]["data"]["name"] == ODD


@pytest.fixture
def terminal(streams_env: Mapping[str, str], tmp_path: Path) -> Callable[..., Any]:
    """Runs a command on a terminal of its own, and returns what it wrote to it."""

    async def run(*arguments: str) -> str:
        master, slave = pty.openpty()
        shown = bytearray()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "streams", *arguments, cwd=tmp_path,
            env={**streams_env, "TERM": "xterm", "PYTHONUTF8": "1"},
            stdin=asyncio.subprocess.DEVNULL, stdout=slave, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        os.close(slave)

        def read() -> None:
            with suppress(OSError):  # EIO: the command is gone
                while chunk := os.read(master, 65_536):
                    shown.extend(chunk)

        await asyncio.to_thread(read)
        assert await process.wait() == 0, shown
        os.close(master)
        return shown.decode().replace("\r\n", "\n")

    return run


@pytest.mark.parametrize(
    "arguments",
    [("tail", "users", "--reveal", "--json"), ("dead", "ls", "email", "--json"),
     ("event", f"id {HOSTILE}", "--reveal", "--json")],
    ids=["tail", "dead", "event"],
)  # fmt: skip
async def test_json_on_a_terminal_holds_nothing_that_the_terminal_obeys(
    written: Written, terminal: Callable[..., Any], client: Streams, arguments: tuple[str, ...]
) -> None:
    """C1 controls, DEL and what turns the direction of text are escaped as JSON does it: it is the same value."""
    await dead_letter(client, HOSTILE)
    shown = await terminal(*arguments)
    obeyed = set(shown) & set("\x1b\x7f\u0007\u009b\u009d\u202e\u2066\u061c\u200f")
    assert not obeyed
    piped = (await written(asyncio.subprocess.PIPE, *arguments)).out
    assert set("\x7f\u009b\u009d\u202e\u2066") <= set(piped)  # a program gets what was published
    assert json.loads(shown) == json.loads(piped)
    assert HOSTILE in str(json.loads(shown)) or json.dumps(HOSTILE)[1:-1] in json.dumps(json.loads(shown))


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [(("publish", "--ndjson", "-"), 0, ""), (("dead", "discard", "email"), 2, "--yes")],
    ids=["read", "asked"],
)
async def test_an_input_that_is_closed_is_an_empty_one(
    streams_env: Mapping[str, str], client: Streams, tmp_path: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    """What a shell makes of `<&-`: nothing is read from it, and nobody can be asked."""
    await dead_letter(client, "oops")
    await dead_letter(client, "again")
    process = await asyncio.create_subprocess_exec(
        "/bin/sh", "-c", 'exec "$@" <&-', "sh", sys.executable, "-m", "streams", *arguments, cwd=tmp_path,
        env=dict(streams_env), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode == code, (out, err)
    assert said in err.decode()
    assert "report it" not in err.decode()
    assert await length(client) == 2
    assert await client.redis.xlen(client.keys.dead("email")) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        [b"event", b"a\xff"], [b"cancel", b"\xff"], [b"doctor", b"why", b"\x80"], [b"event", b"--follow", b"caf\xe9"],
        [b"dead", b"show", b"email", b"\xff"], [b"pause", b"\xff"], [b"schedules", b"run", b"\xff"],
        [b"publish", b"Noted", b"n=1", b"text=\xff"], [b"publish", b"Noted", b"n=1", b"--key", b"\xff"],
        [b"publish", b"--data", b"\xff", b"Noted"], [b"tail", b"--since", b"\xff"], [b"\xff"],
    ],
)  # fmt: skip
def test_arguments_in_another_encoding_are_one_line(
    arguments: list[bytes], streams_env: dict[str, str], tmp_path: Path
) -> None:
    """What a terminal or a script in Latin-1 gives: said before anything is done."""
    given = subprocess.run(
        [sys.executable.encode(), b"-m", b"streams", *arguments], env=streams_env, cwd=tmp_path, capture_output=True,
        timeout=30, check=False,
    )  # fmt: skip
    assert given.returncode == 2, given.stderr
    assert given.stderr.startswith(b"error: argument "), given.stderr
    assert b"is not UTF-8" in given.stderr
    assert given.stderr.count(b"\n") == 1


@pytest.mark.parametrize("variable", ["REDIS_PASSWORD", "REDIS_USERNAME", "REDIS_URL"])
def test_a_login_in_another_encoding_is_one_line(variable: str, streams_env: dict[str, str], tmp_path: Path) -> None:
    """It is refused without being shown."""
    value = b"redis://:a\xffb@127.0.0.1:1/0" if variable == "REDIS_URL" else b"a\xffb"
    env = {name.encode(): text.encode() for name, text in streams_env.items()} | {variable.encode(): value}
    given = subprocess.run(
        [sys.executable, "-m", "streams", "status"], env=env, cwd=tmp_path, capture_output=True, timeout=30, check=False
    )
    assert given.returncode == 2, given.stderr
    assert given.stderr == f"error: {variable} is not UTF-8\n".encode()
