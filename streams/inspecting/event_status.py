"""Event status: where one event is: its stream, and in each group waiting, unread, running, retried, acked or dead.

No index of events by id exists: it would cost a key per event. An event is found because a UUIDv7 begins with the time
it was made at; the search beyond that is bounded, and the answer says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from streams.errors import NotFound
from streams.handlers.progress import ProgressReport
from streams.inspecting.group_status import GroupSearch, GroupStatus
from streams.messages.cancellation_record import find_cancelled
from streams.messages.event_ids import made_at
from streams.messages.message import CAUSATION, FIELDS, ID, decode
from streams.redis.entries import Entries, Entry, milliseconds
from streams.redis.keys import HISTORY_LENGTH, is_name, partition_of
from streams.redis.partition import Reads, known_streams
from streams.redis.refusal import refusing, unless_odd
from streams.redis.untrusted import is_entry_id, text, wire
from streams.settling import scripts

if TYPE_CHECKING:
    from streams.app import App
    from streams.messages.message import Message
    from streams.redis.partition import Partition

_BEFORE: Final = 5_000  # ms that a publisher's clock may be ahead of Redis'
_AFTER: Final = 60_000  # ms that it may be behind, or a publish may have taken
_NEAR: Final = 500_000  # entries of one stream looked through in that window
_SCAN: Final = 100_000  # entries of one stream looked through beyond that window, and for follow-ups


@dataclass(frozen=True, slots=True)
class FollowUp:
    """An event that the handling of this one published."""

    id: str
    type: str
    stream: str
    time: str


@dataclass(frozen=True, slots=True)
class EventStatus:
    """Where the event is. `stream` and `entry_id` are empty while it waits or when its stream was trimmed since;
    `due_in` is in seconds, for an event that is delayed; `searched` says what was looked through. `cancelled` has the
    record (`at`, `consumer`: by whom, `type`, `stream`) of one that was cancelled before any group had it.
    """

    id: str
    message: Message | None
    stream: str
    entry_id: str
    due_in: float | None
    groups: tuple[GroupStatus, ...]
    follow_ups: tuple[FollowUp, ...]
    searched: str
    complete: bool = field(default=True)
    partition: int = 0
    cancelled: dict[str, str] | None = None

    @classmethod
    async def find(cls, client: App, id: str, *, follow_ups: bool = False) -> EventStatus:
        """Finds an event by its id (or, for a foreign entry, its entry id) and, which takes most of the time, what it
        led to. Raises `NotFound`, naming what was looked through, `Unreachable` or `Refused`.
        """
        likely = partition_of(id, len(client.partitions))
        parts = sorted(client.partitions, key=lambda partition: partition.number != likely)
        searches = [_Search(partition, id) for partition in parts]
        found = await _first(searches, _Search.soon) or await _first(searches, _Search.late)
        for search in [found] if found else searches:
            trail = await search.trail()
            if trail is not None:
                # A handler may have published into any partition; what is delayed has not been handled.
                return await _with_follow_ups(trail, searches) if follow_ups and trail.due_in is None else trail
        whole = all(search.complete for search in searches)
        rest = "" if whole else ". There is more, which was not looked through"
        raise NotFound(
            f"no event {id} in {client.settings.app}; looked through {searches[0].told()}{rest}", whole=whole
        )

    @property
    def known_type(self) -> str:
        """The event's type, of one that is in no stream any more by the lines that were kept of it."""
        kept = [line.get("type", "") for group in self.groups for line in group.history]
        return self.message.type if self.message else next(filter(None, kept), (self.cancelled or {}).get("type", ""))

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values, without the body."""
        message = self.message
        return {
            "id": self.id,
            "type": self.known_type,
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
            "cancelled": self.cancelled,
        }


async def _first(searches: Sequence[_Search], look: Callable[[_Search], Awaitable[bool]]) -> _Search | None:
    """The first one whose look finds the event. It is in one partition only."""
    for search in searches:
        if await look(search):
            return search
    return None


async def _with_follow_ups(trail: EventStatus, searches: Sequence[_Search]) -> EventStatus:
    """The trail with what its event has led to, in its own partition first."""
    start = str(max(0, (made_at(trail.id) or milliseconds(trail.entry_id or "0")) - _BEFORE))
    follow_ups: list[FollowUp] = []
    complete, searched = trail.complete, f"{trail.searched}; {_SCAN:,} entries of every stream for follow-ups"
    for search in sorted(searches, key=lambda search: search.number != trail.partition):
        found, whole = await search.follow_ups(trail.id, start)
        follow_ups += found
        complete = complete and whole
    return replace(trail, follow_ups=tuple(follow_ups), complete=complete, searched=searched)


class _Search:
    """The search in one partition: `soon` where it is most likely, `late` everywhere else, then `trail`."""

    def __init__(self, partition: Partition, id: str) -> None:
        self.number = partition.number
        self._partition = partition
        self._redis = partition.redis
        self._keys = partition.keys
        self._entries = Entries(partition)
        self._id = id
        self._wire_id = wire(id)
        self._made = made_at(id)
        self._searched: list[str] = []
        self.complete = True  # False when a bound ended a look
        self._read: dict[str, list[str]] = {}  # what each group reads
        self._entry: tuple[str, Entry] | None = None
        self._waiting: tuple[Message, float, str] | None = None

    async def soon(self) -> bool:
        """Looks near the time it was made at, and at what waits."""
        with refusing(self._partition.connections):
            known = await self._streams()
            self._entry = await self._by_entry_id(known)
            if self._entry is None and self._made:
                self._entry = await self._near(known)
            if self._entry is None:
                self._waiting = await self._delayed()
        return self._entry is not None or self._waiting is not None

    async def late(self) -> bool:
        """Looks through the streams."""
        with refusing(self._partition.connections):
            # It may have been released between the two looks, so the streams are looked at once more.
            known = await self._streams()
            self._entry = (await self._near(known) if self._made else None) or await self._far(known)
        return self._entry is not None

    async def trail(self) -> EventStatus | None:
        """What there is to say of it; None if that is nothing."""
        with refusing(self._partition.connections):
            return await self._trail()

    async def _trail(self) -> EventStatus | None:
        number = self._partition.number
        if self._waiting is not None:
            delayed, due_in, target = self._waiting
            short = self._keys.short(target)
            # Every group that reads the stream it will come to waits for it.
            waiting = tuple(
                GroupStatus(name, "waiting", "due", 0, 0, due_in=due_in, waiting_id=self._id)
                for name, sources in sorted(self._read.items())
                if target in sources
            )
            return EventStatus(self._id, delayed, short, "", due_in, waiting, (), "what waits", partition=number)
        key, found = self._entry or ("", None)
        message = decode(found) if found else None
        start = str(max(0, (self._made or milliseconds(found[0] if found else "0")) - _BEFORE))
        event_id = message.id if message is not None else self._id
        whereabouts = GroupSearch(self._partition, event_id, start)
        if found:
            names = {name for name, sources in self._read.items() if key in sources}
            names |= await self._groups_on(key)
            places = [(key, found[0])]
        else:
            names, places = set(self._read), []
        groups = await asyncio.gather(*(whereabouts.find(name, places) for name in sorted(names)))
        reached = await ProgressReport.of(self._partition, event_id)
        known = tuple(replace(group, progress=reached.get(group.group)) for group in groups if group is not None)
        cancelled = None if found else await find_cancelled(self._entries, self._keys, self._wire_id, start)
        if not found and not known and cancelled is None:
            self.complete = self.complete and whereabouts.complete
            return None
        return EventStatus(
            event_id,
            message,
            self._keys.short(key),
            found[0].decode() if found else "",
            None,
            known,
            (),
            self.told(),
            self.complete and whereabouts.complete,
            number,
            cancelled,
        )

    async def _streams(self) -> list[str]:
        """Every stream that somebody reads, or that this code knows."""
        self._read = await Reads(self._partition).registry()
        return known_streams(self._keys, self._read)

    async def _by_entry_id(self, streams: list[str]) -> tuple[str, Entry] | None:
        if not is_entry_id(self._id):
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
        return await self._in_one_of(streams, start=start, end=end, most=_NEAR)

    async def _in_one_of(self, streams: list[str], **bounds: Any) -> tuple[str, Entry] | None:
        for key in streams:
            async for entry in self._entries.search(key, FIELDS[ID], self._wire_id, **bounds):
                if entry is not None:
                    return key, entry
                self.complete = False
        return None

    async def _delayed(self) -> tuple[Message, float, str] | None:
        self._searched.append("what waits")
        found = await scripts.peek_waiting(self._redis.execute_command, self._keys, [self._wire_id])
        if not found or not found[0][2]:
            return None
        _, due, key, fields = found[0]
        return decode((b"0-0", fields)), (due - await Reads(self._partition).now_ms()) / 1000, text(key)

    async def _far(self, streams: list[str]) -> tuple[str, Entry] | None:
        """A delayed event is in its stream when it was due, an id of another system says nothing about its time."""
        if is_entry_id(self._id):
            return None
        newest = "" if self._made else "the newest "
        self._searched.append(f"{newest}{_SCAN:,} entries of every stream{' beyond that' if self._made else ''}")
        start = str(self._made + _AFTER) if self._made else "-"
        return await self._in_one_of(streams, start=start, most=_SCAN, backward=not self._made)

    async def _groups_on(self, key: str) -> set[str]:
        found = await unless_odd(self._redis.xinfo_groups(key)) or ()
        # A group that somebody made by hand may have any name; one that is none has no keys of the engine's.
        return {name for group in found if is_name(name := text(group["name"]))}

    async def follow_ups(self, cause: str, start: str) -> tuple[list[FollowUp], bool]:
        """What the handling of an event published into this partition, and whether all was looked through."""
        found, whole = [], True
        with refusing(self._partition.connections):
            for key in await self._streams():
                search = self._entries.search(key, FIELDS[CAUSATION], wire(cause), start=start, most=_SCAN)
                async for entry in search:
                    if entry is None:
                        whole = False
                        break
                    message = decode(entry)
                    found.append(FollowUp(message.id, message.type, self._keys.short(key), message.time))
        return found, whole

    def told(self) -> str:
        """What was looked through."""
        kept = f"the newest {HISTORY_LENGTH:,} lines of each history and cancellations"
        return "; ".join(dict.fromkeys([*self._searched, kept]))
