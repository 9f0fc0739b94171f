"""Diagnosis: gathers the facts from which it is explained, group by group, why an event is not done."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from streams.durations import format_duration
from streams.errors import NotFound
from streams.events.event import registered
from streams.inspecting.consumer_report import Question, ask
from streams.inspecting.event_status import EventStatus
from streams.inspecting.explanation import delayed, explain
from streams.inspecting.states import Facts, Reason
from streams.messages.event_ids import made_at
from streams.phrases import counted
from streams.redis.entries import Entries, milliseconds, position
from streams.redis.partition import Reads, clock_ms
from streams.redis.refusal import refusing, unless_missing, unless_odd
from streams.redis.untrusted import is_entry_id, scores, text, texts, whole

if TYPE_CHECKING:
    from streams.app import App
    from streams.inspecting.group_status import GroupStatus
    from streams.redis.partition import Partition

_AHEAD_MOST: Final = 200_000  # unread entries that are counted
_SAMPLE: Final = 0.5  # seconds over which the rate of a group is measured
_SKEW_MS: Final = 5_000  # that a publisher's clock may be ahead of Redis'
_FULL: Final = 0.99


async def why(client: App, id: str) -> tuple[Reason, ...]:
    """One reason for every group that reads the event's stream; for an event that cannot be found, or that nobody
    reads, one with no group. Asks the consumers that hold it, which may take 2 s. Raises `Unreachable` or `Refused`.
    """
    try:
        trail = await EventStatus.find(client, id)
    except NotFound:
        return (await _unknown(client, id),)
    partition = client.partitions[trail.partition]
    with refusing(partition.connections):
        return await _Inquiry(partition, trail).run()


class _Inquiry:
    """The inquiry in the partition that has the event."""

    def __init__(self, partition: Partition, trail: EventStatus) -> None:
        self._partition = partition
        self._settings = partition.settings
        self._keys = partition.keys
        self._redis = partition.redis
        self._trail = trail
        self._now = 0
        self._noted: dict[str, str] = {}
        self._read: dict[str, list[str]] = {}
        self._paused: set[str] = set()

    async def run(self) -> tuple[Reason, ...]:
        trail = self._trail
        await self._look()
        key = self._stream_of(trail)
        subscribed = [name for name, sources in self._read.items() if key in sources]
        if trail.due_in is not None:
            if not trail.groups:
                return (_unsubscribed(trail, delay=trail.due_in),)
            return tuple([delayed(group, await self._facts(group.group, trail)) for group in trail.groups])
        known = {group.group: group for group in trail.groups}
        reasons = await asyncio.gather(*(self._reason(trail, known[name]) for name in sorted(known)))
        gone = []  # one that was cancelled before any group had it was not trimmed
        if trail.cancelled is None:
            gone = [self._gone(trail, name, key) for name in sorted(set(subscribed) - known.keys())]
        return (*reasons, *gone) or (_cancelled(trail.cancelled) if trail.cancelled else _unsubscribed(trail),)

    async def _look(self) -> None:
        pipe = self._redis.pipeline(transaction=False)
        pipe.time()
        pipe.hgetall(self._keys.ledger())
        pipe.hgetall(self._keys.groups())
        pipe.smembers(self._keys.paused())
        now, *read = await pipe.execute(raise_on_error=False)
        ledger, registry, paused = (unless_missing(reply) or {} for reply in read)
        self._now = clock_ms(now)
        self._noted = texts(ledger)
        self._read = self._keys.registry(registry)
        self._paused = {text(name) for name in paused}

    def _stream_of(self, trail: EventStatus) -> str:
        """The key of its stream; of an event whose entry is gone, the normal lane of where its type lives."""
        if trail.stream:
            return self._keys.named(trail.stream)
        types = [line["type"] for group in trail.groups for line in group.history if line.get("type")]
        event = registered(types[0]) if types else None
        return self._keys.stream(event.stream) if event is not None else ""

    async def _reason(self, trail: EventStatus, group: GroupStatus) -> Reason:
        return explain(group, await self._facts(group.group, trail, group))

    async def _facts(self, name: str, trail: EventStatus, group: GroupStatus | None = None) -> Facts:
        keys, message = self._keys, trail.message
        beats = await self._beats(name)
        short, _, entry_id = group.where.partition(" ") if group is not None and group.where != "due" else ("", "", "")
        source = keys.source(short) if short else ""
        facts: dict[str, Any] = {}
        alive = [who for who, age in beats.items() if age <= self._settings.lease]
        if group is not None and (group.state == "acked" or not group.is_settled) and group.where != "due":
            question = Question(message.type if message else "", source, entry_id)
            facts["reports"] = await ask(self._partition, name, question, alive)
            beats = await self._beats(name)
        if group is not None and not group.is_settled and source:
            call = f"{source} {entry_id}"
            facts["cancelled"] = await unless_odd(self._redis.zscore(keys.cancelled(name), call)) is not None
        if source and group is not None and group.state != "running" and facts.get("reports"):
            facts["ahead"], facts["rate"] = await self._ahead(name, source, entry_id)
        seen = whole(self._noted.get(f"seen {name}"))
        return Facts(
            trail.id,
            message.type if message else "",
            message.version if message else 0,
            trail.stream,
            self._settings.lease,
            self._settings.deliveries,
            reads=self._stream_of(trail) in self._read.get(name, ()),
            paused=name in self._paused,
            beats=beats,
            last_seen=self._now / 1000 - seen if seen else None,
            **facts,
        )

    async def _beats(self, name: str) -> dict[str, float]:
        pipe = self._redis.pipeline(transaction=False)
        pipe.time()
        pipe.zrange(self._keys.consumers(name), 0, -1, withscores=True)
        time, beats = await pipe.execute(raise_on_error=False)
        now = clock_ms(time)
        return {who: max(0.0, (now - at) / 1000) for who, at in scores(unless_missing(beats) or ()).items()}

    async def _ahead(self, name: str, source: str, entry_id: str) -> tuple[int, float]:
        """How many unread entries stand before it, and how many a second the group reads there."""
        first = await self._delivered(name, source)
        if first is None or position(entry_id) <= position(first):
            return 0, 0.0
        began = asyncio.get_running_loop().time()
        ahead = await self._count(source, first, entry_id)
        await asyncio.sleep(max(0.0, _SAMPLE - (asyncio.get_running_loop().time() - began)))
        second = await self._delivered(name, source) or first
        elapsed = asyncio.get_running_loop().time() - began
        read = await self._count(source, first, second) if second != first else -1
        return max(0, ahead), (read + 1) / elapsed

    async def _delivered(self, name: str, source: str) -> str | None:
        for found in await unless_odd(self._redis.xinfo_groups(source)) or ():
            if found["name"] == name.encode():
                return str(found["last-delivered-id"].decode())
        return None

    async def _count(self, source: str, after: str, before: str) -> int:
        count = 0
        async for _ in Entries(self._partition).forward(source, f"({after}", f"({before}", most=_AHEAD_MOST):
            count += 1
        return count

    def _gone(self, trail: EventStatus, name: str, key: str) -> Reason:
        """Of an event that is known by other groups' history alone: what this group had to do with it."""
        place = key.removeprefix(f"{self._keys.tag}:")
        began = self._noted.get(f"began {name} {place}", "")
        made = made_at(trail.id)
        if made and made < whole(began.lstrip("(").partition("-")[0]):
            text = f"{name} began when it had been trimmed from {self._keys.short(key)}: it never received it"
            return Reason(name, "skipped", "missed", text, "publish it anew, if it must be handled")
        text = f"it was trimmed from {self._keys.short(key)}, which removes only what every group has finished"
        return Reason(name, "acked", "trimmed", text)


async def _unknown(client: App, id: str) -> Reason:
    """It is nowhere: whether it was never here, or may have been trimmed, as far as that can be proven."""
    made = made_at(id) or (milliseconds(id) if is_entry_id(id) else 0)
    app, full, holes, now = client.settings.app, "", list[str](), 0
    for partition in client.partitions:
        with refusing(partition.connections):
            now, found = await _Holes(partition).find(made)
            holes += found
            full = full or await _full(partition)
    if made > now + 60_000:
        text = f"no event {id} in {app}: by its id it was made in {format_duration((made - now) / 1000)}"
        return Reason("", "", "unknown", f"{text}, in the future", "check the id, and the clock of its publisher")
    if full:
        full = f"; Redis is full ({full}) and refuses new events"
    if not holes:
        place = client.connections.place
        text = f"it was never published to {app} at {place}: nothing that came after it has been removed{full}"
        remedy = "check the id, REDIS_URL and QUEUE_PREFIX of its publisher, and what publish() raised there"
        return Reason("", "", "unknown", text, "raise maxmemory, then publish it again" if full else remedy)
    text = f"it was never published to {app}, or it is gone: {'; '.join(holes[:3])}{full}"
    return Reason("", "", "trimmed", text, "streams gaps says what went before it was settled")


async def _full(partition: Partition) -> str:
    info = await partition.redis.info("memory")
    limit = info.get("maxmemory", 0)
    used = info.get("used_memory", 0) - info.get("mem_not_counted_for_evict", 0)
    return f"{used / 2**20:,.1f} of {limit / 2**20:,.1f} MB" if limit and used >= _FULL * limit else ""


class _Holes:
    """What was removed from the streams of one partition."""

    def __init__(self, partition: Partition) -> None:
        self._partition = partition
        self._keys = partition.keys
        self._redis = partition.redis

    async def find(self, made: int) -> tuple[int, list[str]]:
        """The time, and what was removed that an event made at `made` (0: nobody knows) could have been among."""
        reads = Reads(self._partition)
        now = await reads.now_ms()
        noted = texts(await unless_odd(self._redis.hgetall(self._keys.ledger())))
        known = {key for sources in (await reads.registry()).values() for key in sources if self._keys.is_stream(key)}
        for field in noted:
            if field.startswith("published stream:"):
                known.add(f"{self._keys.tag}:{field.removeprefix('published ')}")
        holes = []
        for key in sorted(known):
            place, short = key.removeprefix(f"{self._keys.tag}:"), self._keys.short(key)
            if whole(noted.get(f"unwaited {place}")):
                holes.append(f"delayed events for {short} were cancelled")
            hole = await self._removed(key, short, whole(noted.get(f"published {place}")), made, now)
            holes += [hole] if hole else []
        return now, holes

    async def _removed(self, key: str, short: str, published: int, made: int, now: int) -> str:
        if not await self._redis.exists(key):
            return f"{short} was deleted" if published else ""
        info = await unless_odd(self._redis.xinfo_stream(key))
        if info is None:
            return f"{short} is no stream any more"
        removed = max(published, info["entries-added"]) - info["length"]
        first = info["first-entry"]
        newest = max(milliseconds(first[0]) if first else now, milliseconds(info["max-deleted-entry-id"]))
        if removed <= 0 or 0 < newest <= made - _SKEW_MS:
            return ""
        ago = format_duration((now - newest) / 1000)
        return f"{counted(removed, 'entry', 'entries')} of {short} up to {ago} ago removed"


def _cancelled(record: dict[str, str]) -> Reason:
    at = record.get("at", "")[:19].replace("T", " ")
    text = f"it was cancelled by {record.get('consumer') or '?'} at {at or '?'} UTC, before any group had it"
    return Reason("", "cancelled", "", text, "publish it anew, if that was wrong")


def _unsubscribed(trail: EventStatus, delay: float | None = None) -> Reason:
    waits = f" (it is due in {format_duration(delay)})" if delay is not None else ""
    text = f"no group reads {trail.stream}{waits}: it is kept, and no group handles it"
    return Reason(
        "",
        "unread" if delay is None else "waiting",
        "unsubscribed",
        text,
        "start a processor that has a handler for its type",
    )
