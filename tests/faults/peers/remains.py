"""Remains: what a system still has of its events in Redis when a bout is over, so that late is told from lost."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import redis

_TOKEN: Final = re.compile(rb"event-(\d{6,})")
_PAGE: Final = 1_000
APP: Final = "peers"  # this project's prefix in a bout


@dataclass(frozen=True)
class Remains:
    """Numbers that will be handled yet if nothing more happens, and the ids of what was given up with a word."""

    held: frozenset[int]
    given_up: frozenset[str]


def of_docket(client: redis.Redis) -> Remains:
    """Its stream has the arguments; there is no giving up without a failure."""
    return Remains(_numbers(_open(client, "docket:stream", "docket-workers")), frozenset())


def of_streaq(client: redis.Redis) -> Remains:
    """Its stream has ids; the arguments are in a key of their own until the task is over."""
    entries = _open(client, "streaq:default:queues:normal", "workers")
    ids = [fields[b"task_id"] for fields in entries] + list(
        client.zrange("streaq:default:queues:delayed:normal", 0, -1)
    )
    return Remains(
        _numbers({b"": client.get(b"streaq:default:task:data:" + each) or b""} for each in ids),
        _names(client, "streaq:default:task:results:"),
    )


def of_taskiq(client: redis.Redis) -> Remains:
    """Its stream has everything, also what was acked."""
    return Remains(_numbers(_open(client, "taskiq", "taskiq")), frozenset())


def of_arq(client: redis.Redis) -> Remains:
    """A sorted set has the ids, until the job is over, and a key each the arguments."""
    ids = list(client.zrange("arq:queue", 0, -1))
    return Remains(
        _numbers({b"": client.get(b"arq:job:" + each) or b""} for each in ids), _names(client, "arq:result:")
    )


def of_ours(client: redis.Redis) -> Remains:
    """Streams by lane, the group's inbox, what waits; dead letters are kept with all they were."""
    held: set[int] = set()
    for key in client.scan_iter(f"{{{APP}:*}}:*", count=_PAGE, _type="stream"):
        if b":dead:" not in key:
            held |= _numbers(_open(client, key, "peers"))
    for key in client.scan_iter(f"{{{APP}:*}}:due", count=_PAGE):
        held |= _numbers({b"": member} for member in client.zrange(key, 0, -1))
    dead = [
        fields[b"id"].decode()
        for key in client.scan_iter(f"{{{APP}:*}}:dead:peers", count=_PAGE)
        for _, fields in client.xrange(key)
    ]
    return Remains(frozenset(held), frozenset(dead))


def _open(client: redis.Redis, key: Any, group: str) -> Iterator[dict[bytes, bytes]]:
    """The entries of a stream that are not settled for a group: pending, or not yet delivered."""
    if not client.exists(key):
        return
    last = next(
        (info["last-delivered-id"] for info in client.xinfo_groups(key) if info["name"] == group.encode()), None
    )
    after = b"-" if last is None else b"(" + last
    while page := client.xrange(key, after, count=_PAGE):
        yield from (fields for _, fields in page)
        after = b"(" + page[-1][0]
    after = b"-"
    while last is not None and (pending := client.xpending_range(key, group, after, "+", _PAGE)):
        ids = [entry["message_id"] for entry in pending]
        with client.pipeline(transaction=False) as pipe:
            for each in ids:
                pipe.xrange(key, each, each)
            for found in pipe.execute():
                yield from (fields for _, fields in found)
        after = b"(" + ids[-1]


def _numbers(entries: Any) -> frozenset[int]:
    return frozenset(int(number) for fields in entries for value in fields.values() for number in _TOKEN.findall(value))


def _names(client: redis.Redis, prefix: str) -> frozenset[str]:
    return frozenset(key.decode().removeprefix(prefix) for key in client.scan_iter(f"{prefix}*", count=_PAGE))
