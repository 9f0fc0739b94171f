"""Trim: removes what every group has finished, by number and by age.

Nothing that is unread or unsettled in any group goes, whatever the policy says: the bound is worked out inside the
script (`lua/trim.lua`), in the step that removes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from streams.admin import scripts as admin_scripts
from streams.admin.claim_cleanup import release
from streams.errors import NotFound, StreamsError
from streams.events.event import registered, registered_types
from streams.messages.claims import MARK
from streams.messages.message import decode
from streams.redis.entries import Entries
from streams.redis.keys import PRIORITIES, checked_name
from streams.redis.partition import Reads
from streams.redis.refusal import refusing

if TYPE_CHECKING:
    from streams.app import App
    from streams.redis.partition import Partition

_STEP: Final = 1000  # entries in one script call: about 1 ms in which Redis serves nobody else
_SCAN: Final = 1000


@dataclass(frozen=True, slots=True)
class Trimmed:
    """What was removed from one lane of a stream, or would be; `held_by` is the group that keeps more from going."""

    stream: str
    removed: int
    kept: int
    held_by: str

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return asdict(self)

    def with_those_of(self, other: Trimmed | None) -> Trimmed:
        """Together with the same lane of another partition."""
        if other is None:
            return self
        return Trimmed(self.stream, self.removed + other.removed, self.kept + other.kept, other.held_by or self.held_by)


Progress = Callable[[str, int], None]


async def trim(
    client: App,
    streams: Sequence[str] = (),
    *,
    keep: int | None = None,
    older_than: timedelta | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> list[Trimmed]:
    """Removes the oldest entries of each lane of `streams` (all, without one): those beyond the newest `keep`, and
    those older than `older_than` by Redis' clock; with both, what either lets go.

    Only what is settled in every group: a lane that a group has not finished, or that a registered group is not yet
    on, keeps it. At most 1,000 in a script call, so others are served between. `progress(stream, removed so far)`.
    Raises `StreamsError` without a policy, `NotFound` for a stream nobody knows.
    """
    if keep is None and older_than is None:
        raise StreamsError("name a limit: keep= (how many entries of each priority stay) or older_than=")
    if keep is not None and keep < 0:
        raise StreamsError(f"keep={keep} must not be below 0")
    if not dry_run:
        await client.check()
    lanes = await _lanes(client, streams)
    done: dict[str, Trimmed] = {}
    for partition in client.partitions:
        with refusing(partition.connections):
            for key in lanes[partition.number]:
                step = await _trim(client, partition, key, keep, older_than, dry_run, progress)
                done[step.stream] = step.with_those_of(done.get(step.stream))
    return list(done.values())


async def _trim(
    client: App,
    partition: Partition,
    key: str,
    keep: int | None,
    older_than: timedelta | None,
    dry_run: bool,
    progress: Progress | None,
) -> Trimmed:
    redis = partition.redis
    age = None if older_than is None else round(older_than.total_seconds() * 1000)
    removed, most = 0, await redis.xlen(key)  # what is published meanwhile is for the next trim
    while True:
        step = await admin_scripts.trim(
            redis.execute_command,
            key,
            partition.keys,
            most=_STEP,
            keep=keep,
            age_ms=age,
            dry_run=dry_run,
            tell=MARK if client.claims is not None else b"",
        )
        await release(client, [decode((entry_id, fields)) for entry_id, fields in step.told])
        removed += step.removed
        if progress is not None:
            progress(partition.keys.short(key), removed)
        if not step.more or removed >= most:
            break
        await asyncio.sleep(0)
    length: int = await redis.xlen(key)
    if dry_run:
        removed = await _would_go(partition, key, step, length, keep)
    left = length - removed if dry_run else length
    wanted = left and ((keep is not None and left > keep) or await _is_old(partition, key, step, removed, dry_run))
    return Trimmed(partition.keys.short(key), removed, left, step.holder if wanted else "")


async def _would_go(partition: Partition, key: str, step: admin_scripts.Trimmed, length: int, keep: int | None) -> int:
    """Counts what a trim would remove: what lies below the floor, and is too many or too old."""
    surplus = max(0, length - keep) if keep is not None else 0
    count = 0
    entries = Entries(partition)
    if not step.floor:
        return 0
    async for entry in entries.forward(key, "-", f"({step.floor}"):
        if count >= surplus and not step.is_too_old(entry):
            break
        count += 1
    return count


async def _is_old(partition: Partition, key: str, step: admin_scripts.Trimmed, removed: int, dry_run: bool) -> bool:
    """Whether something that is too old stays, because a group is not through with it."""
    if not step.cutoff:
        return False
    seen = 0
    async for entry in Entries(partition).forward(key, most=removed + 1 if dry_run else 1):
        seen += 1
        if seen > (removed if dry_run else 0):
            return step.is_too_old(entry)
    return False


async def _lanes(client: App, streams: Iterable[str]) -> list[list[str]]:
    """The keys of the lanes that exist, of these streams or of all, by partition."""
    known = {event.stream for event in filter(None, map(registered, registered_types()))}
    existing: list[set[str]] = []  # the short names, by partition
    for partition in client.partitions:
        keys = partition.keys
        registry = await Reads(partition).registry()
        with refusing(partition.connections):
            read = {key for found in registry.values() for key in found if keys.is_stream(key)}
            known |= {keys.short(key).partition(":")[0] for key in read}
            asked = {checked_name("stream", name.partition(":")[0]) for name in streams}
            lanes = [key for name in known | asked for key in keys.by_priority(name)]
            existing.append({keys.short(key) for key in lanes if await partition.redis.exists(key)})
    wanted = _wanted(client, list(streams), known, set().union(*existing))
    return [
        [partition.keys.named(short) for short in wanted if short in there]
        for partition, there in zip(client.partitions, existing, strict=True)
    ]


def _wanted(client: App, streams: list[str], known: set[str], existing: set[str]) -> list[str]:
    """The lanes that are meant, by their short names. Raises `NotFound` for one that nobody knows."""
    keys = client.keys
    names = [name.partition(":")[0] for name in streams] or sorted(known)
    for name in names:
        if name not in known and not existing & {keys.short(key) for key in keys.by_priority(name)}:
            raise NotFound(f"no stream {name} in {client.settings.app}; there are: {', '.join(sorted(known))}")
    lanes = [keys.short(key) for name in dict.fromkeys(names) for key in keys.by_priority(name)]
    if unknown := [name for name in streams if ":" in name and name not in lanes]:
        raise NotFound(
            f"no priority {unknown[0]}; the priorities are NAME:{', NAME:'.join(set(PRIORITIES) - {'normal'})} and NAME"
        )
    if not streams:
        return lanes
    return [lane for lane in lanes if lane in streams or lane.partition(":")[0] in streams]
