"""Damage: what anybody with a login can leave in the engine's keys, drawn at random, family by family."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from hypothesis import strategies as st

from streams.redis import keys as keys_module

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.redis.keys import Keys

GROUPS: Final = ("plain", "lined", "capped")
LAST_ID: Final = f"{2**64 - 1}-{2**64 - 1}"
FUTURE_ID: Final = "253402300800000-0"

ODD_NUMBERS: Final = (
    b"\xc2\xb2", b"nan", b"inf", b"-inf", b"-1", b"1e300", b"9" * 5_000, b"0x10", b"", b" 7", b"7.5",
    b"9223372036854775807",
)  # fmt: skip
ODD_NAMES: Final = (
    b"\xff", b"\xff\xfe x", b"Debug", b"a b c", b"", b" ", b"\x00", b"\n", b"plain", b"plain stream:notes 1-0",
    b"x" * 5_000,
    b"{other:0}:stream:notes", "\u202eevil".encode(), b"\x1b[31m", b"#1", b"plain notes 5-0#2",
)  # fmt: skip

values = st.sampled_from(ODD_NUMBERS) | st.sampled_from(ODD_NAMES) | st.binary(max_size=40)
names = st.sampled_from(ODD_NAMES) | st.binary(max_size=20)
ids = st.sampled_from(["*", "*", FUTURE_ID, LAST_ID])

FIELDS: Final = (
    b"id", b"type", b"data", b"partitionkey", b"origin", b"failures", b"deliveries", b"replays", b"firstfailed",
    b"errors",
    b"dataversion", b"expirytime", b"attempts", b"at", b"limitedby", b"$bytes", b"time", b"outcome", b"\xff",
    b"consumer",
)  # fmt: skip


@dataclass(frozen=True)
class Family:
    """One row of the table in keys.py: its type, the keys of it here, and which of the kinds of work need it whole."""

    kind: str
    keys: Callable[[Keys], list[str]]
    needed_by: frozenset[str] = frozenset()


def _line(keys: Keys, of: str) -> str:
    return f"{keys.turns('lined')}:{hashlib.sha1(of.encode(), usedforsecurity=False).hexdigest()}"


def _limit(keys: Keys, tail: str = "") -> list[str]:
    return [f"{keys.limits('capped')}:victim{tail}"]


def _of_groups(of: Callable[[Keys, str], str]) -> Callable[[Keys], list[str]]:
    return lambda keys: [of(keys, group) for group in GROUPS]


WAITS: Final = frozenset({"retry", "delayed", "lined", "capped"})
FAMILIES: Final[dict[str, Family]] = {
    # Of the streams the one that nothing innocent is published to: all groups read it beside the other.
    "stream:NAME[:high|:low]": Family("stream", lambda keys: [*keys.by_priority("others")]),
    "inbox:GROUP": Family("stream", _of_groups(lambda keys, group: keys.inbox(group)), frozenset(WAITS - {"delayed"})),
    "dead:GROUP": Family("stream", _of_groups(lambda keys, group: keys.dead(group))),
    "due": Family("zset", lambda keys: [keys.due()], WAITS),
    "waiting": Family("hash", lambda keys: [keys.waiting()], WAITS),
    "history:GROUP": Family("stream", _of_groups(lambda keys, group: keys.history(group))),
    "groups": Family("hash", lambda keys: [keys.groups()]),
    "consumers:GROUP": Family("zset", _of_groups(lambda keys, group: keys.consumers(group))),
    "cancellations": Family("stream", lambda keys: [keys.cancellations()]),
    "cancelled:GROUP": Family("zset", _of_groups(lambda keys, group: keys.cancelled(group))),
    "paused": Family("set", lambda keys: [keys.paused()]),
    "turns:GROUP": Family("hash", lambda keys: [keys.turns("lined")], frozenset({"lined"})),
    "turns:GROUP:KEYHASH": Family("list", lambda keys: [_line(keys, "victim")]),
    "reports:GROUP": Family("hash", _of_groups(lambda keys, group: keys.reports(group))),
    "limits:GROUP": Family("zset", lambda keys: [keys.limits("capped")], frozenset({"capped"})),
    "limits:GROUP:LIMIT": Family("hash", _limit),
    "limits:GROUP:LIMIT:held": Family("zset", lambda keys: _limit(keys, ":held")),
    "limits:GROUP:LIMIT:ring": Family("list", lambda keys: _limit(keys, ":ring")),
    "limits:GROUP:LIMIT:line:KEYHASH": Family("list", lambda keys: _limit(keys, ":line:victim")),
    "schedules": Family("hash", lambda keys: [keys.schedules()]),
    "slots": Family("hash", lambda keys: [keys.slots()]),
    "books": Family("hash", lambda keys: [keys.ledger()]),
    "replays": Family("hash", lambda keys: [keys.replays()]),
    "partitions": Family("string", lambda keys: [keys.partitions()]),
    "producer:ID": Family("string", lambda keys: [keys.producer("victim")]),
    "once:NAME": Family("string", lambda keys: [keys.once("victim")]),
    "progress:ID": Family("hash", lambda keys: [keys.progress("victim")]),
    "own:CONCERN:...": Family("string", lambda keys: [keys.own("plain", "victim")]),
}


def families_in_keys() -> set[str]:
    """Those of the table in keys.py."""
    return set(
        re.findall(r"^\| \{app:p\}:(\S.*?) \|", (keys_module.__doc__ or "").replace("[:high|:low]", "[]"), re.MULTILINE)
    )


@dataclass(frozen=True)
class Harm:
    """One piece of damage: commands, the kinds of work that may stand still until then, and the keys to repair."""

    family: str
    commands: list[tuple[Any, ...]]
    stops: frozenset[str] = frozenset()
    repairs: tuple[str, ...] = ()


@st.composite
def harms(draw: st.DrawFn, keys: Keys) -> Harm:
    """Wrong types, odd members and numbers, odd entries and ids, early ends, and removal, in any family."""
    name = draw(st.sampled_from(sorted(FAMILIES)))
    family = FAMILIES[name]
    key = draw(st.sampled_from(family.keys(keys)))
    match draw(st.sampled_from(["type", "member", "member", "member", "ttl", "delete"])):
        case "type":
            other = draw(
                st.sampled_from([k for k in ("string", "hash", "list", "set", "zset", "stream") if k != family.kind])
            )
            return Harm(name, [("DEL", key), _put(other, key, b"x", b"y", "*", [])], family.needed_by, (key,))
        case "ttl":
            return Harm(name, [("PEXPIRE", key, 1)], family.needed_by)
        case "delete":
            return Harm(name, [("DEL", key)], family.needed_by)
    fields = [part for pair in draw(st.lists(st.tuples(st.sampled_from(FIELDS), values), max_size=6)) for part in pair]
    entry_id = draw(ids) if family.kind == "stream" else "*"
    member, value = draw(names), draw(values)
    many = draw(st.booleans()) and family.kind == "stream"
    if many:
        fields += [part for n in range(draw(st.sampled_from([60, 300, 4_100]))) for part in (b"f%d" % n, b"v")]
    if name == "waiting" and draw(st.booleans()):  # what is due, and cannot be moved
        pair = [("HSET", key, member, value), ("ZADD", keys.due(), draw(st.sampled_from(["0", "-inf", "inf"])), member)]
        return Harm(name, pair)
    commands = [_put(family.kind, key, member, value, entry_id, fields)]
    full = entry_id == LAST_ID
    return Harm(name, commands, family.needed_by if full else frozenset(), (key,) if full else ())


def _put(kind: str, key: str, member: bytes, value: bytes, entry_id: str, fields: list[bytes]) -> tuple[Any, ...]:
    match kind:
        case "string":
            return ("SET", key, value)
        case "hash":
            return ("HSET", key, member, value)
        case "list":
            return ("RPUSH", key, member)
        case "set":
            return ("SADD", key, member if member not in (b"plain", b"lined", b"capped") else b"\xff")
        case "zset":
            score = value if value in (b"-inf", b"inf", b"-1", b"1e300", b"7.5") else b"0"
            return ("ZADD", key, score, member)
        case _:
            return ("XADD", key, entry_id, *(fields or [member, value]))
