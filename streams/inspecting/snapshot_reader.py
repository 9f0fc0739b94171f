"""Snapshot reader: takes a snapshot.

Read only, and cheap enough to be done every second: three round trips, plus counting where Redis has no exact answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from streams.app import registered as registered_partitions
from streams.inspecting.counting import count_unread, count_waiting
from streams.inspecting.reconciliation import Accounts
from streams.inspecting.snapshot import ConsumerState, GroupState, Snapshot, StreamPosition, StreamState, Waiting, join
from streams.redis.entries import Entries, milliseconds, position
from streams.redis.keys import LIMITED_MS, NEVER_MS, PRIORITIES, is_name
from streams.redis.partition import clock_ms, known_streams
from streams.redis.refusal import refusing, unless_missing, unless_odd
from streams.redis.server import Server
from streams.redis.untrusted import scores, text

if TYPE_CHECKING:
    from streams.app import App
    from streams.redis.partition import Partition


async def take_snapshot(client: App) -> Snapshot:
    """Looks at everything. Raises `Unreachable` or `Refused` when Redis does not let it."""
    parts = await snapshot_each(client)
    return replace(join(parts, await Accounts.take(client)), registered=await registered_partitions(client))


async def snapshot_each(client: App) -> list[Snapshot]:
    """Looks at each partition by itself, without the accounts."""
    parts = []
    for partition in client.partitions:
        with refusing(partition.connections):
            parts.append(await _Look(partition).take())
    return parts


class _Look:
    def __init__(self, partition: Partition) -> None:
        self._partition, self._keys = partition, partition.keys
        self._redis = partition.redis
        self._entries = Entries(partition)
        self._now = 0

    async def take(self) -> Snapshot:
        keys = self._keys
        head = self._redis.pipeline(transaction=False)
        head.time()
        head.info("everything")
        head.hgetall(keys.groups())
        head.zcard(keys.due())
        head.zrange(keys.due(), 0, 0, withscores=True)
        head.zcount(keys.due(), LIMITED_MS, "+inf")
        time, info, *rest = await head.execute(raise_on_error=False)
        registry, total, first, queued = map(unless_missing, rest)  # a key that is damaged is as one that is missing
        total, queued = total or 0, queued or 0
        self._now = clock_ms(time)
        overdue = await unless_odd(self._redis.zcount(keys.due(), "-inf", self._now - 1)) or 0
        read = keys.registry(registry or {})
        lanes = self._lanes(read)
        infos, groups = await self._streams([*lanes, *map(keys.inbox, read)])
        for key in lanes:  # groups that somebody made by hand are in no registry
            for name in groups.get(key, {}):
                if key not in read.setdefault(name, []):
                    read[name].append(key)
        counts = await count_waiting(self._redis, keys.due(), total)
        states = [await self._group(name, read[name], infos, groups, counts.get(name, 0)) for name in sorted(read)]
        next_due = (min(max(first[0][1], 0), NEVER_MS) - self._now) / 1000 if total > queued and first else None
        server = await Server.read(self._partition, info)
        return Snapshot(
            datetime.fromtimestamp(self._now / 1000, UTC),
            self._partition.settings.app,
            server,
            tuple(self._stream(key, infos[key]) for key in lanes if key in infos),
            tuple(states),
            Waiting(total, counts.get("", 0), overdue, next_due, queued),
            Accounts((), ()),
            (server,),
        )

    def _lanes(self, read: Mapping[str, list[str]]) -> list[str]:
        known = known_streams(self._keys, read)
        order: dict[str, int] = {lane: number for number, lane in enumerate(PRIORITIES)}
        placed = {key: self._name_and_priority(key) for key in known}
        return sorted(known, key=lambda key: (placed[key][0], order.get(placed[key][1], len(order))))

    async def _streams(self, keys: list[str]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        pipe = self._redis.pipeline(transaction=False)
        for key in keys:
            pipe.xinfo_stream(key)
            pipe.xinfo_groups(key)
        replies = await pipe.execute(raise_on_error=False)
        infos = {key: unless_missing(info) for key, info in zip(keys, replies[::2], strict=True)}
        groups = {
            key: {text(group["name"]): group for group in unless_missing(found) or ()}
            for key, found in zip(keys, replies[1::2], strict=True)
        }
        return {key: info for key, info in infos.items() if info is not None}, groups

    def _stream(self, key: str, info: dict[str, Any]) -> StreamState:
        first = info.get("first-entry")
        return StreamState(*self._name_and_priority(key), info["length"], self._age(first[0]) if first else None)

    def _name_and_priority(self, key: str) -> tuple[str, str]:
        name, _, lane = self._keys.short(key).partition(":")
        return name, lane or "normal"

    async def _group(
        self, name: str, sources: list[str], infos: dict[str, Any], groups: dict[str, dict[str, Any]], waiting: int
    ) -> GroupState:
        own = is_name(name)  # a group that was made by hand may have any name: it has its places in streams, no more
        inbox = self._keys.inbox(name) if own else ""
        lanes = [key for key in sources if key != inbox]
        readings = [await self._reading(key, infos.get(key), groups.get(key, {}).get(name)) for key in lanes]
        pipe = self._redis.pipeline(transaction=False)
        if own:
            pipe.xlen(self._keys.dead(name))
            pipe.zrange(self._keys.consumers(name), 0, -1, withscores=True)
        for key in (inbox, *lanes):
            if (found := groups.get(key, {}).get(name)) is not None:
                pipe.xinfo_consumers(key, found["name"])
        replies = await pipe.execute(raise_on_error=False)
        dead, beats, *held = replies if own else (0, (), *replies)
        return GroupState(
            name,
            tuple(readings),
            await self._reading(inbox, infos.get(inbox), groups.get(inbox, {}).get(name)),
            waiting,
            unless_missing(dead) or 0,
            self._consumers(scores(unless_missing(beats) or ()), held),
        )

    async def _reading(self, key: str, info: dict[str, Any] | None, found: dict[str, Any] | None) -> StreamPosition:
        short = self._keys.short(key)
        if info is None:
            return StreamPosition(short, 0, None, 0, None)
        after = found["last-delivered-id"].decode() if found else "0-0"
        lag = await self._lag(key, info, found, after)
        unread = [entry async for entry in self._entries.forward(key, f"({after}", most=1)] if lag else []
        pending = found["pending"] if found else 0
        # By position, not by IDLE: an IDLE filter makes Redis walk the whole pending list (70 ms at a million).
        oldest = await self._redis.xpending_range(key, found["name"], "-", "+", 1) if found and pending else []
        return StreamPosition(
            short,
            lag,
            self._age(unread[0][0]) if unread else None,
            pending,
            oldest[0]["time_since_delivered"] / 1000 if oldest else None,
        )

    async def _lag(self, key: str, info: dict[str, Any], found: dict[str, Any] | None, after: str) -> int:
        length: int = info["length"]
        first, last = info.get("first-entry"), info.get("last-entry")
        if not first or not last or position(last[0]) <= position(after):
            return 0
        if position(after) < position(first[0]):
            return length
        untouched = info["max-deleted-entry-id"] == b"0-0" and info["entries-added"] == length
        if untouched and found and found.get("lag") is not None:
            return int(found["lag"])
        # Something was deleted or trimmed: Redis then answers nil, and some versions a wrong number.
        return await count_unread(self._entries, key, after=after, last=last[0].decode(), length=length)

    def _consumers(self, beats: dict[str, float], held: list[Any]) -> tuple[ConsumerState, ...]:
        pending: dict[str, int] = dict.fromkeys(beats, 0)
        for consumers in held:
            for consumer in unless_missing(consumers) or ():
                name = text(consumer["name"])
                pending[name] = pending.get(name, 0) + consumer["pending"]
        states = []
        for name, count in pending.items():
            age = (self._now - beats[name]) / 1000 if name in beats else None
            states.append(ConsumerState(name, age, count, age is not None and age <= self._partition.settings.lease))
        return tuple(sorted(states, key=lambda state: (not state.alive, state.name)))

    def _age(self, entry_id: bytes) -> float:
        return max(0.0, (self._now - milliseconds(entry_id)) / 1000)
