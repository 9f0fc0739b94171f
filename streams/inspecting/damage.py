"""Damage: keys of the engine's that hold what it did not write.

It keeps nothing else from going on, so it would stay unseen: `doctor` looks for it. Changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from streams.redis.keys import is_name
from streams.redis.partition import Reads, clock_ms
from streams.redis.refusal import refusing, unless_missing, unless_odd
from streams.redis.untrusted import text, whole
from streams.settling import scripts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streams.app import App
    from streams.redis.partition import Partition

_AHEAD_MS: Final = 86_400_000  # that an entry id may be ahead of Redis' clock: clocks are set back by less
_LAST: Final = b"18446744073709551615-18446744073709551615"
_DUE: Final = 1_000  # of what waits, due first: what cannot be moved is due again within a minute
_AT_ONCE: Final = 100
_COUNTS: Final = (
    "published ", "removed ", "acked ", "dead ", "cancelled ", "expired ", "returned ", "missed ", "waited ",
    "released ", "unwaited ", "discarded ", "revived ", "edited ", "replayed ", "given-up ", "accepted ", "seen ",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that is wrong with a key. `severe` when something cannot be written or delivered because of it."""

    key: str
    what: str
    remedy: str
    severe: bool


async def damage(client: App) -> list[Damage]:
    """What is wrong, in all partitions. Raises `Unreachable` or `Refused`."""
    found: list[Damage] = []
    for partition in client.partitions:
        with refusing(partition.connections):
            look = _Look(partition)
            found += [each async for each in look.types()]
            found += [each async for each in look.waiting()]
            found += [each async for each in look.registry()]
            found += [each async for each in look.ledger()]
    return found


class _Look:
    def __init__(self, partition: Partition) -> None:
        self._keys = partition.keys
        self._redis = partition.redis
        self._reads = Reads(partition)

    async def types(self) -> Any:
        """Keys of another type, and streams whose last id leaves no room, or is ahead of the clock."""
        groups = await self._reads.registry()
        wanted = dict(self._wanted(groups))
        pipe = self._redis.pipeline(transaction=False)
        pipe.time()
        for key in wanted:
            pipe.type(key)
        now, *kinds = await pipe.execute()
        for (key, kind), found in zip(wanted.items(), kinds, strict=True):
            if text(found) not in (kind, "none"):
                yield Damage(
                    key, f"it holds a {text(found)}, not a {kind}", f"redis-cli RENAME '{key}' '{key}:damaged'", True
                )
        streams = [
            key for (key, kind), found in zip(wanted.items(), kinds, strict=True) if kind == text(found) == "stream"
        ]
        pipe = self._redis.pipeline(transaction=False)
        for key in streams:
            pipe.xinfo_stream(key)
        for key, reply in zip(streams, await pipe.execute(raise_on_error=False), strict=True):
            info = unless_missing(reply)
            if info is not None and (problem := self._ahead(key, info["last-generated-id"], clock_ms(now))):
                yield problem

    def _wanted(self, groups: dict[str, list[str]]) -> Iterator[tuple[str, str]]:
        keys = self._keys
        yield from (
            (keys.due(), "zset"), (keys.waiting(), "hash"), (keys.groups(), "hash"), (keys.paused(), "set"),
            (keys.schedules(), "hash"), (keys.slots(), "hash"), (keys.ledger(), "hash"), (keys.replays(), "hash"),
        )  # fmt: skip
        if keys.partition == 0:
            yield keys.partitions(), "string"
        for group, sources in sorted(groups.items()):
            yield from ((key, "stream") for key in sources)
            yield from ((key, "stream") for key in (keys.inbox(group), keys.dead(group), keys.history(group)))
            yield from ((key, "zset") for key in (keys.consumers(group), keys.cancelled(group), keys.limits(group)))
            yield from ((key, "hash") for key in (keys.turns(group), keys.reports(group)))

    def _ahead(self, key: str, last: bytes, now: int) -> Damage | None:
        short = self._keys.short(key)
        aside = f"redis-cli RENAME '{key}' '{key}:full'"
        if last == _LAST:
            what = f"{short} takes no more entries: its last id is the last possible one"
            return Damage(
                key, what, f"{aside}, when nothing in it is needed any more; the next entry makes it anew", True
            )
        ahead = int(last.partition(b"-")[0]) - now
        if ahead < _AHEAD_MS:
            return None
        what = f"the last id of {short} is {_span(ahead)} ahead: it was chosen by a publisher, and later ones follow it"
        return Damage(key, what, f"{aside}, when every group has finished it", False)

    async def waiting(self) -> Any:
        """What waits and cannot be read: it is tried again each minute."""
        keys = self._keys
        soon = await self._reads.now_ms() + 120_000
        ids = await unless_odd(self._redis.zrangebyscore(keys.due(), "-inf", soon, start=0, num=_DUE)) or []
        broken: list[bytes] = []
        for at in range(0, len(ids), _AT_ONCE):
            found = await scripts.peek_waiting(self._redis.execute_command, keys, ids=ids[at : at + _AT_ONCE])
            broken += [waiting_id for waiting_id, _, key, _ in found if not key]
        if broken:
            first = text(broken[0])[:200]
            yield Damage(
                keys.due(), f"{len(broken):,} that wait cannot be read, the first is {first!r}",
                f"look with redis-cli HGET '{keys.waiting()}', then HDEL it there and ZREM it in '{keys.due()}'", True,
            )  # fmt: skip

    async def registry(self) -> Any:
        """Names in the registry that no group can have."""
        key = self._keys.groups()
        for name in await unless_odd(self._redis.hkeys(key)) or ():
            if not is_name(text(name)):
                yield _to_delete(key, f"{text(name)[:128]!r} is no name of a group")

    async def ledger(self) -> Any:
        """Counts that are none."""
        key = self._keys.ledger()
        noted = await unless_odd(self._redis.hgetall(key)) or {}
        odd = [text(name) for name, value in noted.items() if text(name).startswith(_COUNTS) and whole(value, -1) == -1]
        if odd := [name for name in odd if noted.get(name.encode()) != b"-1"]:
            what = f"{len(odd):,} counts of the ledger are no numbers, the first is {odd[0][:128]!r}"
            yield _to_delete(key, what, "; then streams gaps --accept all")


def _to_delete(key: str, what: str, then: str = "") -> Damage:
    """A field of a hash that means nothing, and keeps nothing else from going on."""
    return Damage(key, what, f"redis-cli HDEL '{key}' and that name{then}", severe=False)


def _span(milliseconds: int) -> str:
    days = milliseconds // _AHEAD_MS
    return f"{days // 365:,} years" if days > 730 else f"{days:,} days"
