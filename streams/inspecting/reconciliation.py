"""Reconciliation: compares what was published with what became of it, by stream and group, so that a loss is seen.

Every script that moves messages notes in the books (`Keys.books`) how many, in the step in which it moves them. The
fields of the books:

    published STREAM, removed STREAM, trimmed-to STREAM      added by us; trimmed or cancelled by us; first id kept
    acked|dead|cancelled|expired|returned GROUP PLACE        settled from a stream or the group's inbox; `returned` goes
                                                             on to wait, or to the inbox
    missed GROUP STREAM                                      was gone before the group was made
    began GROUP STREAM                                       the first entry id it is given; `(ID`: those after it
    waited|released|unwaited TARGET                          into `due`, out of it when due, out of it otherwise
    discarded|revived|edited dead:GROUP                      dropped, replayed, replaced by a corrected one
    replayed GROUP, given-up inbox:GROUP                     copies added from history; what a retired group left
    accepted PLACE, seen GROUP                               gaps that somebody knows of; when it was last alive (s)

What a stream was given is Redis' own count of entries added, which has the foreign ones too; after a stream was deleted
that count begins anew, and ours does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from streams.inspecting.counting import count_unread
from streams.inspecting.ledger import Gap, GroupAccount, StreamAccount
from streams.redis.entries import Entries, position
from streams.redis.partition import Reads
from streams.redis.refusal import refusing
from streams.redis.script import Call, Script, run
from streams.redis.untrusted import texts, whole

if TYPE_CHECKING:
    from streams.app import App
    from streams.redis.keys import Keys
    from streams.redis.partition import Partition

_LOOKS: Final = 3
_VANISHED: Final = 10_000
_SETTLED: Final = ("acked", "dead", "cancelled", "expired", "returned")


@dataclass(frozen=True, slots=True)
class Accounts:
    """All groups' accounts at one moment, and what is missing among what waits for any of them. `cancelled` counts the
    delayed events that were cancelled before they came to a stream: they are in no group's account.
    """

    groups: tuple[GroupAccount, ...]
    due: tuple[Gap, ...]
    cancelled: int = 0

    @classmethod
    async def take(cls, client: App) -> Accounts:
        """Reads them. A difference is looked at again before it is told: counting what is unread takes a moment, in
        which a trim may pass. Raises `Unreachable` or `Refused`.
        """
        found = [await cls._take(partition) for partition in client.partitions]
        if len(found) == 1:
            return found[0]
        groups: dict[str, GroupAccount] = {}
        for group in (group for accounts in found for group in accounts.groups):
            groups[group.group] = group.with_those_of(groups.get(group.group))
        due = tuple(gap for accounts in found for gap in accounts.due)
        cancelled = sum(accounts.cancelled for accounts in found)
        return cls(tuple(groups[name] for name in sorted(groups)), due, cancelled)

    @classmethod
    async def _take(cls, partition: Partition) -> Accounts:
        with refusing(partition.connections):
            best = await _Look(partition).take()
            for _ in range(_LOOKS - 1):
                if not any(best.gaps()):
                    break
                again = await _Look(partition).take()
                if sum(abs(gap.count) for gap in again.gaps()) <= sum(abs(gap.count) for gap in best.gaps()):
                    best = again
        return best

    def gaps(self) -> Iterator[Gap]:
        """Everything that is unaccounted for."""
        for group in self.groups:
            yield from group.gaps
        yield from self.due

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values, with the gap of each group."""
        document = asdict(self)
        for shown, group in zip(document["groups"], self.groups, strict=True):
            shown["gap"] = group.gap
        return document

    async def accept(self, client: App, group: str = "") -> int:
        """Takes the gaps of a group (of all, without one) for known, so that only further ones are told; how many."""
        by_partition: dict[int, list[tuple[str, int]]] = {}
        for gap in self.gaps():
            if group in ("", gap.group):
                by_partition.setdefault(gap.partition, []).append((gap.place, gap.count))
        if not by_partition:
            return 0
        await client.check()
        taken = 0
        for number, gaps in by_partition.items():
            at = client.partitions[number]
            with refusing(at.connections):
                taken += await accept_gap(at.redis.execute_command, at.keys, gaps=gaps)
        return taken


class _Look:
    def __init__(self, partition: Partition) -> None:
        self._partition = partition
        self._keys = partition.keys
        self._redis = partition.redis
        self._entries = Entries(partition)
        self._noted: dict[str, str] = {}
        self._held: dict[str, StreamCounts | None] = {}

    async def take(self) -> Accounts:
        keys = self._keys
        registry = await Reads(self._partition).registry()
        read = {name: [key for key in registry[name] if keys.is_stream(key)] for name in sorted(registry)}
        named = list(dict.fromkeys(key for sources in read.values() for key in sources))
        named += [key for group in read for key in (keys.inbox(group), keys.dead(group))]
        self._noted, waiting, held = await accounts(self._redis.execute_command, keys, sources=named)
        self._held = dict(zip(named, held, strict=True))
        groups = [await self._group(group, sources) for group, sources in read.items()]
        cancelled = sum(int(count) for name, count in self._noted.items() if name.startswith("unwaited stream:"))
        return Accounts(tuple(groups), self._due(waiting), cancelled)

    def _count(self, field: str) -> int:
        return whole(self._noted.get(field))

    def _settled(self, group: str, key: str) -> dict[str, int]:
        place = self._place(key)
        return {what: self._count(f"{what} {group} {place}") for what in _SETTLED}

    def _place(self, key: str) -> str:
        return key.removeprefix(f"{self._keys.tag}:")

    async def _group(self, group: str, sources: list[str]) -> GroupAccount:
        inbox, dead = self._keys.inbox(group), self._keys.dead(group)
        streams: list[StreamAccount] = []
        gaps: list[Gap] = []
        for key in sources:
            account, gap = await self._stream(group, key)
            streams.append(account)
            gaps += [gap] if gap else []
        back, back_pending, back_length, gap = self._inbox(group, inbox)
        gaps += [gap] if gap else []
        dead_now, gap = self._dead(group, dead, streams, back["dead"])
        gaps += [gap] if gap else []
        unwaited = self._count(f"unwaited {self._place(inbox)}")
        waited, released = (self._count(f"{what} {self._place(inbox)}") for what in ("waited", "released"))
        return GroupAccount(
            group,
            sum(stream.published for stream in streams),
            self._count(f"replayed {group}"),
            back["acked"] + sum(stream.acked for stream in streams),
            dead_now,
            self._count(f"discarded {self._place(dead)}"),
            back["cancelled"] + unwaited + sum(stream.cancelled for stream in streams),
            back["expired"] + sum(stream.expired for stream in streams),
            waited - released - unwaited,
            back_pending + sum(stream.pending for stream in streams),
            back_length - back_pending + sum(stream.unread for stream in streams),
            tuple(streams),
            tuple(gaps),
            self._count(f"seen {group}"),
        )

    async def _stream(self, group: str, key: str) -> tuple[StreamAccount, Gap | None]:
        place, settled, holds = self._place(key), self._settled(group, key), self._held[key]
        added = max(self._count(f"published {place}"), holds.added if holds else 0)
        published = added - self._count(f"missed {group} {place}")
        pending, unread, vanished = await self._where(group, key, holds)
        gap = published - sum(settled.values()) - pending - unread
        account = StreamAccount(self._keys.short(key), published, **settled, pending=pending, unread=unread, gap=gap)
        if vanished and len(vanished) == gap:
            after, before = vanished[0], vanished[-1]
        else:
            after, before = self._noted.get(f"trimmed-to {place}", "0-0"), _upper(holds)
        return account, self._gap(group, self._keys.short(key), gap, after, before, f"{group} {place}")

    async def _where(self, group: str, key: str, holds: StreamCounts | None) -> tuple[int, int, list[str]]:
        """What the group has pending and unread there, and the ids that are pending without their entries."""
        if holds is None:
            return 0, 0, []
        found = dict(zip(holds.groups[::4], zip(*(holds.groups[at::4] for at in (1, 2, 3)), strict=True), strict=True))
        pending, after, lag = found.get(group.encode(), (0, b"0-0", b""))
        foreign = holds.added - holds.length - self._count(f"removed {self._place(key)}")
        if not foreign and holds.deleted == "0-0" and lag != b"":
            return pending, lag, []
        vanished: list[str] = []
        if pending and foreign:
            vanished = await self._vanished(group, key, holds)
        unread = await count_unread(self._entries, key, after=after.decode(), last=holds.last, length=holds.length)
        return pending - len(vanished), unread, vanished

    async def _vanished(self, group: str, key: str, holds: StreamCounts) -> list[str]:
        """What is pending without its entry: below the first one all of it, up to the last that was deleted some."""
        below = f"({holds.first}" if holds.first else "+"
        listed = await self._redis.xpending_range(key, group, "-", below, _VANISHED)
        vanished = [entry["message_id"].decode() for entry in listed]
        if holds.first and position(holds.first) < position(holds.deleted):
            listed = await self._redis.xpending_range(key, group, holds.first, holds.deleted, _VANISHED)
            pipe = self._redis.pipeline(transaction=False)
            for entry in listed:
                pipe.xrange(key, entry["message_id"], entry["message_id"])
            found = await pipe.execute()
            vanished += [entry["message_id"].decode() for entry, kept in zip(listed, found, strict=True) if not kept]
        return vanished

    def _inbox(self, group: str, inbox: str) -> tuple[dict[str, int], int, int, Gap | None]:
        place, settled, holds = self._place(inbox), self._settled(group, inbox), self._held[inbox]
        added = max(self._count(f"published {place}"), holds.added if holds else 0)
        length = holds.length if holds else 0
        pending = dict(zip(holds.groups[::4], holds.groups[1::4], strict=True)).get(group.encode(), 0) if holds else 0
        gap = added - sum(settled.values()) - length - self._count(f"given-up {place}")
        return settled, min(pending, length), length, self._gap(group, place, gap, "0-0", _upper(holds), place)

    def _dead(self, group: str, dead: str, streams: list[StreamAccount], back: int) -> tuple[int, Gap | None]:
        place, holds = self._place(dead), self._held[dead]
        edited = self._count(f"edited {place}")
        given = max(back + sum(stream.dead for stream in streams), holds.added - edited if holds else 0)
        length = holds.length if holds else 0
        gap = given - length - self._count(f"discarded {place}") - self._count(f"revived {place}")
        return length, self._gap(group, place, gap, "0-0", holds.last if holds else "", place)

    def _due(self, waiting: int) -> tuple[Gap, ...]:
        given = sum(whole(count) for field, count in self._noted.items() if field.startswith("waited "))
        gone = sum(whole(n) for field, n in self._noted.items() if field.startswith(("released ", "unwaited ")))
        # More than the books know is nothing lost: somebody may put what waits there by hand.
        gap = self._gap("", "due", max(0, given - gone - waiting), "", "", "due")
        return (gap,) if gap else ()

    def _gap(self, group: str, where: str, count: int, after: str, before: str, place: str) -> Gap | None:
        count -= self._count(f"accepted {place}")
        if not count:
            return None
        where = f"{where} (partition {self._partition.number})" if self._partition.mark else where
        return Gap(group, where, count, after, before, place, self._partition.number)


def _upper(holds: StreamCounts | None) -> str:
    """The first id above which nothing can have been removed."""
    if holds is None:
        return ""
    ids = [holds.first or holds.last, holds.deleted]
    return max(ids, key=position)


ACCOUNTS: Final = Script.load("inspecting/read_ledger")
ACCEPT_GAP: Final = Script.load("inspecting/accept_gap")


class StreamCounts(NamedTuple):
    """One stream at one moment; `groups` is flat: name, pending, last delivered id, lag (empty when unknown)."""

    length: int
    added: int
    first: str
    last: str
    deleted: str
    groups: list[Any]


async def accounts(
    call: Call, keys: Keys, *, sources: Sequence[str]
) -> tuple[dict[str, str], int, list[StreamCounts | None]]:
    """Reads the books, the length of `due`, and what each of `keys` holds (None: it is not there), at one moment."""
    flat, waiting, rows = await run(call, ACCOUNTS, (keys.ledger(), keys.due(), *sources), ())
    noted = texts(dict(zip(flat[::2], flat[1::2], strict=True)))
    held = [
        StreamCounts(row[0], row[1], row[2].decode(), row[3].decode(), row[4].decode(), row[5]) if row else None
        for row in rows
    ]
    return noted, waiting, held


async def accept_gap(call: Call, keys: Keys, *, gaps: Sequence[tuple[str, int]]) -> int:
    """Takes gaps for known; returns how many."""
    taken: int = await run(call, ACCEPT_GAP, (keys.ledger(),), [part for gap in gaps for part in gap])
    return taken
