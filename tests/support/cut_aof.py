"""Cut AOF: what a server finds again of an append-only file whose end is missing, as a power cut may leave it."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import redis
import redis.asyncio

from streams.redis.embedded import ServerBinary
from tests.support.redis_server import RedisServer

State = dict[str, Any]
Case = Callable[[Any], AsyncGenerator[None]]
"""Makes the state before, yields, and does the one thing that is cut."""

_CHURNED: Final = {"radix-tree-keys", "radix-tree-nodes", "groups"}  # how the tree happens to be split is no state


@dataclass(frozen=True)
class Swept:
    """What one sweep found: how many bytes the case had added, how many cuts were tried, and which were torn."""

    added: int
    cuts: int
    torn: list[int]


def sweep(binary: ServerBinary, home: Path, case: Case, dice: random.Random, most: int) -> Swept:
    """Runs a case, cuts what it added at `most` places (fewer if it has fewer bytes), and loads each rest.

    Half of the places, as far as there are as many, are ends of commands: there a state between would be whole.
    """
    home.mkdir()
    server = RedisServer(binary, home, unix=True, appendfsync="always").start()
    try:
        before, start, after = asyncio.run(_run(server, case))
    finally:
        server.stop()
    assert after != before, "the case changes nothing"
    written = _file(home).read_bytes()
    inner = [start + end for end in _ends(written[start:])][:-1]
    between = sorted(set(range(start + 1, len(written))) - set(inner))
    ends = dice.sample(inner, min(len(inner), most // 2))
    cuts = [start, *ends, *dice.sample(between, min(len(between), most - 2 - len(ends))), len(written)]
    torn = []
    for cut in sorted(cuts):
        found = _load(binary, home, written[:cut])
        if cut in (start, len(written)):
            expected = before if cut == start else after
            assert found == expected, f"what was confirmed is not what is loaded: {_difference(expected, found)}"
        elif found not in (before, after):
            torn.append(cut)
    return Swept(len(written) - start, len(cuts), torn)


async def _run(server: RedisServer, case: Case) -> tuple[State, int, State]:
    """The state before, how long the file was then, and the state after."""
    client = redis.asyncio.from_url(server.url, protocol=2)
    steps = case(client)
    try:
        await anext(steps)
        before, start = _dump(server), _file(server.directory).stat().st_size
        async for _ in steps:
            raise AssertionError("a case yields once")
        return before, start, _dump(server)
    finally:
        await client.aclose()


def _load(binary: ServerBinary, home: Path, rest: bytes) -> State:
    """What a server has that starts with the rest of the file."""
    copy = home / "copy"
    shutil.copytree(home / "appendonlydir", copy / "appendonlydir")
    _file(copy).write_bytes(rest)
    server = RedisServer(binary, copy, unix=True, args=["--aof-load-truncated", "yes"]).start()
    try:
        return _dump(server)
    finally:
        server.kill()
        shutil.rmtree(copy)


def _file(directory: Path) -> Path:
    (found,) = (directory / "appendonlydir").glob("*.incr.aof")
    return found


def _ends(commands: bytes) -> list[int]:
    """Where each command ends."""
    ends, at = [], 0
    while at < len(commands):
        line = commands.index(b"\r\n", at)
        count, at = int(commands[at + 1 : line]), line + 2
        for _ in range(count):
            line = commands.index(b"\r\n", at)
            at = line + 2 + int(commands[at + 1 : line]) + 2
        ends.append(at)
    return ends


def _dump(server: RedisServer) -> State:
    """Everything in a server in a form that can be compared. Of a TTL only whether there is one: a lost one leaks."""
    with server.client() as client:
        return {
            key.decode(): (_content(client, key), client.pttl(key) >= 0) for key in sorted(client.scan_iter(count=1000))
        }


def _content(client: Any, key: bytes) -> Any:
    match client.type(key):
        case b"string":
            return client.get(key)
        case b"hash":
            return client.hgetall(key)
        case b"set":
            return client.smembers(key)
        case b"zset":
            return client.zrange(key, 0, -1, withscores=True)
        case b"list":
            return client.lrange(key, 0, -1)
        case b"stream":
            return _stream(client.execute_command("XINFO", "STREAM", key, "FULL", "COUNT", 0))
        case kind:
            raise AssertionError(f"{key!r} is a {kind!r}")


def _stream(info: list[Any]) -> dict[str, Any]:
    told = _pairs(info)
    groups = []
    for group in map(_pairs, told["groups"]):
        # Redis does not write down everything: how many entries were read of a stream, when a reading is written as
        # XCLAIM; and a consumer that holds nothing. It reckons the one anew, and makes the other when it reads again.
        pending = group["pending"] if "pending" in group else group["pel"]
        groups.append((group["name"], group["last-delivered-id"], pending))
    return {name: value for name, value in told.items() if name not in _CHURNED} | {"groups": groups}


def _pairs(flat: list[Any]) -> dict[str, Any]:
    return {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}


def _difference(expected: State, found: State) -> str:
    changed = [key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key)]
    return "; ".join(f"{key}: {expected.get(key)} became {found.get(key)}" for key in changed)
