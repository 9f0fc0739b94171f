"""Search: finds the dead letters of one group, in all partitions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from streams.errors import NotFound
from streams.messages.event_ids import made_at
from streams.messages.letter import Letter
from streams.messages.message import FIELDS, ID
from streams.phrases import listed, meant
from streams.redis.entries import Entries, merged, milliseconds, position
from streams.redis.partition import Reads
from streams.redis.refusal import refusing, unless_odd
from streams.redis.untrusted import is_entry_id, text, wire

if TYPE_CHECKING:
    from streams.app import App
    from streams.redis.partition import Partition


_MOST: Final = 100_000  # dead letters that are looked through for an event's id
_CLOCKS: Final = 60_000  # ms that a publisher's clock may be ahead of Redis'


class LetterSearch:
    """The dead letters of one group, to be walked through and to be found."""

    def __init__(self, client: App, group: str) -> None:
        self._client = client
        self._group = group

    async def matching(self, only: Filter, newest: Sequence[str], limit: int | None) -> AsyncIterator[Letter]:
        """Those that match, oldest first, up to the entries `newest` of each partition."""
        parts = [self._part(at, only, end) for at, end in zip(self._client.partitions, newest, strict=True)]
        left = limit
        async for letter in merged(parts, lambda letter: position(letter.entry_id)):
            if left == 0:
                return
            left = None if left is None else left - 1
            yield letter

    async def _part(self, partition: Partition, only: Filter, newest: str) -> AsyncIterator[Letter]:
        """Those of one partition that match; its server's clock counts."""
        now = await Reads(partition).now_ms()
        start = "-" if only.since is None else str(max(0, now - _milliseconds(only.since)))
        end = newest
        if only.older_than is not None:
            end = min(newest, str(max(0, now - _milliseconds(only.older_than))), key=milliseconds)
        async for entry in Entries(partition).forward(partition.keys.dead(self._group), start, end):
            letter = Letter.decode(self._group, entry, partition.mark)
            if only.matches(letter):
                yield letter

    async def named(self, ids: Iterable[str]) -> list[Letter]:
        """The dead letters of these ids, in their order; raises `NotFound` with those that are not there."""
        found: dict[str, Letter] = {}
        wanted = dict.fromkeys(ids)
        for partition in self._client.partitions:
            for id in wanted:
                entry_id = id.removeprefix(partition.mark)
                if (entry_id != id or not partition.mark) and is_entry_id(entry_id):
                    entry = await Entries(partition).get(partition.keys.dead(self._group), entry_id)
                    if entry:
                        found[id] = Letter.decode(self._group, entry, partition.mark)
        missing = {id for id in wanted if id not in found}
        whole = True
        for partition in self._client.partitions:
            if missing:
                whole = await self._by_event(partition, missing, found) and whole
        if missing:
            looked = "" if whole else f" among the {_MOST:,} that were looked through for the event's id (name its own)"
            raise NotFound(
                f"{self._group} has no dead letter {', '.join(sorted(missing)[:5])}{looked}; "
                f"see `streams dead ls {self._group}`",
                whole=whole,
            )
        return [found[id] for id in wanted]

    async def _by_event(self, partition: Partition, missing: set[str], found: dict[str, Letter]) -> bool:
        """Looks for the dead letters of these events; returns whether none can be beyond the bound. Nothing leads from
        an event's id to the entry but a walk: from the time in the ids on, as no letter is older than its event, or
        back from the newest.
        """
        made = [made_at(id) for id in missing]
        start = str(max(0, min(made) - _CLOCKS)) if all(made) else "-"
        async for entry in Entries(partition).search(
            partition.keys.dead(self._group), FIELDS[ID], *map(wire, missing), start=start, most=_MOST,
            backward=not all(made),
        ):  # fmt: skip
            if entry is None:
                return False
            letter = Letter.decode(self._group, entry, partition.mark)
            if letter.event_id in missing:
                found[letter.event_id] = letter
                missing.discard(letter.event_id)
                if not missing:
                    break
        return True

    async def newest(self) -> list[str]:
        """The last entry of each partition, or a beginning where nothing is dead: an empty range."""
        ends = []
        for partition in self._client.partitions:
            backward = Entries(partition).backward(partition.keys.dead(self._group), most=1)
            ends.append(next(iter([entry_id.decode() async for entry_id, _ in backward]), "0-1"))
        return ends

    async def must_exist(self) -> None:
        """Raises `NotFound` for a group that nobody has registered."""
        groups: set[str] = set()
        for partition in self._client.partitions:
            redis = partition.redis
            with refusing(partition.connections):
                groups |= {text(name) for name in await unless_odd(redis.hkeys(partition.keys.groups())) or ()}
                if self._group in groups or await redis.exists(partition.keys.dead(self._group)):
                    return
        hint = meant(self._group, groups, listed(groups))
        raise NotFound(f"no group {self._group} in {self._client.settings.app}; {hint}")


def _milliseconds(duration: timedelta) -> int:
    return round(duration.total_seconds() * 1000)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which dead letters are meant. `type`, `reason` and `fingerprint` are exact, `error` is a part of the text in any
    case; `since`: given up within this time, `older_than`: longer ago than it, both by Redis' clock.
    """

    type: str | None = None
    error: str | None = None
    reason: str | None = None
    since: timedelta | None = None
    older_than: timedelta | None = None
    fingerprint: str | None = None

    def matches(self, letter: Letter) -> bool:
        """Whether all but the times fit; the times are a range of entry ids."""
        return (
            (self.type is None or self.type == letter.type)
            and (self.reason is None or self.reason == letter.reason)
            and (self.error is None or self.error.lower() in letter.error.lower())
            and (self.fingerprint is None or self.fingerprint == letter.fingerprint)
        )


EVERYTHING: Final = Filter()
