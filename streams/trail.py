"""Trail: where one event is: in which stream, and in each group waiting, unread, running, retried, acked or dead.

Nothing indexes events by id: an index would cost a key per event. It is found because a UUIDv7 begins with the time it
was made at; what is looked through beyond that is bounded, and the trail says so.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from schemas.event import registered, registered_types
from streams import scripts
from streams.entries import Entries, Entry, decode, milliseconds, refusing
from streams.errors import NotFound
from streams.keys import HISTORY_LENGTH, partition_of
from streams.message import CAUSATION, FIELDS, ID
from streams.reached import Reached
from streams.whereabouts import GroupTrail, Whereabouts

if TYPE_CHECKING:
    from streams.client import Streams
    from streams.message import Message
    from streams.partition import Partition

_BEFORE: Final = 5_000  # ms that a publisher's clock may be ahead of Redis'
_AFTER: Final = 60_000  # ms that it may be behind, or a publish may have taken
_SCAN: Final = 100_000  # entries of one stream looked through beyond that window, and for follow-ups
_TIMED_UUID: Final = re.compile(r"([0-9a-f]{8})-([0-9a-f]{4})-[78][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_ENTRY: Final = re.compile(r"\d{1,20}-\d{1,20}")


@dataclass(frozen=True, slots=True)
class FollowUp:
    """An event that the handling of this one published."""

    id: str
    type: str
    stream: str
    time: str


@dataclass(frozen=True, slots=True)
class Trail:
    """Where the event is. `stream` and `entry_id` are empty while it waits or when its stream was trimmed since;
    `due_in` is in seconds, for an event that is delayed; `searched` says what was looked through.
    """

    id: str
    message: Message | None
    stream: str
    entry_id: str
    due_in: float | None
    groups: tuple[GroupTrail, ...]
    follow_ups: tuple[FollowUp, ...]
    searched: str
    complete: bool = field(default=True)
    partition: int = 0

    @classmethod
    async def find(cls, client: Streams, id: str) -> Trail:
        """Finds an event by its id (or, for a foreign entry, its entry id). Raises `NotFound`, naming what was looked
        through, `Unreachable` or `Refused`.
        """
        likely = partition_of(id, len(client.partitions))
        parts = sorted(client.partitions, key=lambda partition: partition.number != likely)
        searches = [_Search(partition, id) for partition in parts]
        found = [search for search in searches if await search.soon()]
        found = found or [search for search in searches if await search.late()]
        trails = [trail for search in found or searches if (trail := await search.trail()) is not None]
        if not trails:
            raise NotFound(f"no event {id} in {client.settings.app}; looked through {searches[0].told()}")
        trail = trails[0]
        if len(searches) > 1 and trail.due_in is None:  # a handler may have published into any partition
            others = [search for search in searches if search.number != trail.partition]
            more = [one for search in others for one in await search.follow_ups_of(trail.id)]
            trail = replace(trail, follow_ups=(*trail.follow_ups, *more))
        return trail

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values, without the body."""
        message = self.message
        return {
            "id": self.id,
            "type": message.type if message is not None else "",
            "source": message.source if message is not None else "",
            "time": message.time if message is not None else "",
            "version": message.version if message is not None else None,
            "stream": self.stream,
            "entry_id": self.entry_id,
            "partition": self.partition,
            "due_in": self.due_in,
            "key": message.key if message is not None else "",
            "correlation_id": message.correlation_id if message is not None else "",
            "causation_id": message.causation_id if message is not None else "",
            "traceparent": message.traceparent if message is not None else "",
            "groups": [asdict(group) for group in self.groups],
            "follow_ups": [asdict(follow_up) for follow_up in self.follow_ups],
            "searched": self.searched,
            "complete": self.complete,
        }


class _Search:
    """The search in one partition: `soon` where it is most likely, `late` everywhere else, then `trail`."""

    def __init__(self, partition: Partition, id: str) -> None:
        self.number = partition.number
        self._partition = partition
        self._redis: Any = partition.redis  # redis-py's annotations are unions over both protocols
        self._keys = partition.keys
        self._entries = Entries(partition)
        self._id = id
        self._wire_id = id.encode()
        self._made = made_at(id)
        self._searched: list[str] = []
        self._complete = True
        self._read: dict[str, list[str]] = {}
        self._known: list[str] = []
        self._entry: tuple[str, Entry] | None = None
        self._waiting: tuple[Message, float, str] | None = None

    async def soon(self) -> bool:
        """Looks near the time it was made at, and at what waits."""
        with refusing(self._partition.connections):
            self._read = {
                name.decode(): sources.decode().split()
                for name, sources in (await self._redis.hgetall(self._keys.groups())).items()
            }
            self._known = self._streams(self._read)
            self._entry = await self._by_entry_id(self._known)
            if self._entry is None and self._made:
                self._entry = await self._near(self._known)
            if self._entry is None:
                self._waiting = await self._delayed()
        return self._entry is not None or self._waiting is not None

    async def late(self) -> bool:
        """Looks through the streams."""
        with refusing(self._partition.connections):
            # It may have been released between the two looks, so the streams are looked at once more.
            self._entry = (await self._near(self._known) if self._made else None) or await self._far(self._known)
        return self._entry is not None

    async def trail(self) -> Trail | None:
        """What there is to say of it; None if that is nothing."""
        with refusing(self._partition.connections):
            return await self._trail()

    async def _trail(self) -> Trail | None:
        number = self._partition.number
        if self._waiting is not None:
            delayed, due_in, target = self._waiting
            short = self._keys.short(target)
            # Every group that reads the stream it will come to waits for it.
            waiting = tuple(
                GroupTrail(name, "waiting", "due", 0, 0, due_in=due_in, waiting_id=self._id)
                for name, sources in sorted(self._read.items())
                if target in sources
            )
            return Trail(self._id, delayed, short, "", due_in, waiting, (), "what waits", partition=number)
        key, found = self._entry or ("", None)
        message = decode(found) if found else None
        start = str(max(0, (self._made or milliseconds(found[0] if found else "0")) - _BEFORE))
        event_id = message.id if message is not None else self._id
        whereabouts = Whereabouts(self._partition, event_id, start)
        if found:
            names = {name for name, sources in self._read.items() if key in sources} | await self._groups_on(key)
            places = [(key, found[0])]
        else:
            names, places = set(self._read), []
        groups = await asyncio.gather(*(whereabouts.find(name, places) for name in sorted(names)))
        reached = await Reached.of(self._partition, event_id)
        known = tuple(replace(group, progress=reached.get(group.group)) for group in groups if group is not None)
        if not found and not known:
            return None
        follow_ups = await self._follow_ups(self._known, event_id.encode(), start)
        return Trail(
            event_id,
            message,
            self._keys.short(key),
            found[0].decode() if found else "",
            None,
            known,
            follow_ups,
            self.told(),
            self._complete and whereabouts.complete,
            number,
        )

    async def follow_ups_of(self, event_id: str) -> tuple[FollowUp, ...]:
        """What the handling of an event of another partition published into this one."""
        with refusing(self._partition.connections):
            return await self._follow_ups(self._known, event_id.encode(), str(max(0, self._made - _BEFORE)))

    def _streams(self, read: dict[str, list[str]]) -> list[str]:
        known = {key for sources in read.values() for key in sources if ":stream:" in key}
        for event in filter(None, map(registered, registered_types())):
            known.update(self._keys.lanes(event.stream))
        return sorted(known)

    async def _by_entry_id(self, streams: list[str]) -> tuple[str, Entry] | None:
        if not _ENTRY.fullmatch(self._id):
            return None
        self._searched.append("the entry of that id in every stream")
        for key in streams:
            entry = await self._entries.get(key, self._id)
            if entry is not None:
                return key, entry
        return None

    async def _near(self, streams: list[str]) -> tuple[str, Entry] | None:
        start, end = str(max(0, self._made - _BEFORE)), str(self._made + _AFTER)
        self._searched.append("every stream from 5 s before to 60 s after the event was made")
        for key in streams:
            async for entry in self._entries.search(key, FIELDS[ID], self._wire_id, start=start, end=end):
                if entry is not None:
                    return key, entry
        return None

    async def _delayed(self) -> tuple[Message, float, str] | None:
        self._searched.append("what waits")
        found = await scripts.peek_waiting(
            self._redis.execute_command, due=self._keys.due(), waiting=self._keys.waiting(), ids=[self._wire_id]
        )
        if not found:
            return None
        _, due, key, fields = found[0]
        seconds, microseconds = await self._redis.time()
        now = seconds * 1000 + microseconds // 1000
        return decode((b"0-0", fields)), (due - now) / 1000, key.decode()

    async def _far(self, streams: list[str]) -> tuple[str, Entry] | None:
        """A delayed event is in its stream when it was due, an id of another system says nothing about its time."""
        if _ENTRY.fullmatch(self._id):
            return None
        newest = "" if self._made else "the newest "
        self._searched.append(f"{newest}{_SCAN:,} entries of every stream{' beyond that' if self._made else ''}")
        for key in streams:
            async for entry in self._beyond(key):
                if entry is not None:
                    return key, entry
                self._complete = False
        return None

    def _beyond(self, key: str) -> AsyncIterator[Entry | None]:
        if self._made:
            start = str(self._made + _AFTER)
            return self._entries.search(key, FIELDS[ID], self._wire_id, start=start, most=_SCAN)
        return self._entries.search(key, FIELDS[ID], self._wire_id, most=_SCAN, backward=True)

    async def _groups_on(self, key: str) -> set[str]:
        return {group["name"].decode() for group in await self._redis.xinfo_groups(key)}

    async def _follow_ups(self, streams: list[str], cause: bytes, start: str) -> tuple[FollowUp, ...]:
        found = []
        for key in streams:
            async for entry in self._entries.search(key, FIELDS[CAUSATION], cause, start=start, most=_SCAN):
                if entry is None:
                    self._complete = False
                    break
                message = decode(entry)
                found.append(FollowUp(message.id, message.type, self._keys.short(key), message.time))
        self._searched.append(f"{_SCAN:,} entries of every stream for follow-ups")
        return tuple(found)

    def told(self) -> str:
        """What was looked through."""
        return f"{'; '.join(self._searched)}; the newest {HISTORY_LENGTH:,} lines of each history"


def made_at(id: str) -> int:
    """The ms since 1970 in a UUIDv7, or in the UUIDv8 of a schedule's event; 0 for any other id."""
    found = _TIMED_UUID.fullmatch(id.lower())
    return int(found[1] + found[2], 16) if found else 0
