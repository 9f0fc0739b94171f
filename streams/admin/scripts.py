"""Scripts: the typed door to those of an operator: trim, retire, replay from history, pause, cancel."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from streams import clock
from streams.redis.keys import CALLS_KEPT, HISTORY_LENGTH, Keys
from streams.redis.script import Call, Script, Value, run
from streams.redis.untrusted import moment, pairs, text

TRIM: Final = Script.load("admin/trim")
RETIRE_GROUP: Final = Script.load("admin/retire_group")
REPLAY_STEP: Final = Script.load("admin/replay_step")
CANCEL: Final = Script.load("admin/cancel")
CANCEL_WAITING: Final = Script.load("admin/cancel_waiting")

_AHEAD_MS: Final = 86_400_000  # as in lua/trim.lua
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}")


class Trimmed(NamedTuple):
    """What one call of `trim` did, and what bounds it: see `lua/trim.lua`."""

    removed: int
    more: bool
    holder: str
    floor: str
    cutoff: str
    told: list[Any]
    age_ms: int = 0
    since: str = ""

    def is_too_old(self, entry: tuple[bytes, list[bytes]]) -> bool:
        """Whether age lets an entry go, by the rule of the script: of an id ahead of the clock its own time counts."""
        if not self.cutoff:
            return False
        entry_id, fields = entry
        milliseconds, cutoff = int(entry_id.partition(b"-")[0]), int(self.cutoff.partition("-")[0])
        if milliseconds < cutoff + self.age_ms + _AHEAD_MS:
            return milliseconds < cutoff
        made = text(pairs(fields).get(b"time", b""))
        return not (_TIME.match(made) and made[:19] >= self.since)


async def trim(
    call: Call,
    stream: str,
    keys: Keys,
    *,
    most: int,
    keep: int | None,
    age_ms: int | None,
    dry_run: bool,
    tell: bytes = b"",
) -> Trimmed:
    """Removes at most `most` entries that every group is through with; with `dry_run` only says what bounds it. Those
    whose data begins with `tell` are told.
    """
    age = "" if age_ms is None else age_ms
    since = "" if age_ms is None else moment(clock.now().timestamp() * 1000 - age_ms).isoformat()[:19]
    arguments = (most, "" if keep is None else keep, age, int(dry_run), tell, since)
    removed, more, holder, floor, cutoff, told = await run(
        call, TRIM, (stream, keys.groups(), keys.ledger()), arguments
    )
    return Trimmed(removed, bool(more), text(holder), floor.decode(), cutoff.decode(), told, age_ms or 0, since)


async def retire_group(
    call: Call, keys: Keys, *, group: str, streams: Sequence[str], alive_ms: int, apply: bool
) -> tuple[int, int, int, int]:
    """Gives a group up; returns (-1 unknown, 0 unchanged, 1 done; consumers alive; pending; entries in the inbox)."""
    names = (
        keys.groups(), keys.consumers(group), keys.inbox(group), keys.paused(), keys.cancelled(group),
        keys.turns(group), keys.limits(group), *streams, keys.ledger(),
    )  # fmt: skip
    done, alive, pending, held = await run(call, RETIRE_GROUP, names, (group, alive_ms, int(apply)))
    return done, alive, pending, held


async def replay_step(
    call: Call, keys: Keys, *, id: str, before: bytes, after: bytes, group: str, messages: Iterable[list[bytes]] = ()
) -> int:
    """Takes a replay from one state to the next; 1 when that was done, 0 when it is in another state, -1: no group."""
    arguments: list[Value] = [id, before, after, group]
    for fields in messages:
        arguments += (len(fields), *fields)
    names = (keys.replays(), keys.inbox(group), keys.groups(), keys.ledger())
    done: int = await run(call, REPLAY_STEP, names, arguments)
    return done


async def cancel(
    call: Call,
    stream: str,
    keys: Keys,
    *,
    entry_id: str,
    groups: Sequence[tuple[str, str, str, str, list[bytes]]],
    unread: Sequence[bytes] = (),
) -> dict[str, str]:
    """Calls off an entry for (group, its calls, its channel, its history, history record) each; returns the state of
    each: `cancelled`, `cancelling` or `delivered`. Empty when the entry is not there. `unread`, instead of groups, is
    the record of one whose stream no group reads: `cancelled` without a name, or empty when one has begun to.
    """
    arguments: list[Value] = [entry_id, CALLS_KEPT, len(unread), *unread]
    for name, calls, channel, history, record in groups:
        arguments += (name, calls, channel, history, HISTORY_LENGTH, len(record), *record)
    names = (stream, keys.cancellations(), keys.ledger())
    answer = [text(part) for part in await run(call, CANCEL, names, arguments)]
    return dict(zip(answer[::2], answer[1::2], strict=True))


async def cancel_waiting(
    call: Call,
    keys: Keys,
    *,
    waiting_id: str,
    records: Sequence[tuple[str, list[bytes]]],
    delayed: Sequence[bytes] = (),
) -> bool:
    """Calls off what waits under an id, with a record in each (history, record), and of a delayed event `delayed` in
    the cancellations; False when it is gone.
    """
    arguments: list[Value] = [waiting_id, HISTORY_LENGTH, len(delayed), *delayed]
    for history, record in records:
        arguments += (history, len(record), *record)
    names = (keys.due(), keys.waiting(), keys.groups(), keys.cancellations(), keys.ledger())
    return bool(await run(call, CANCEL_WAITING, names, arguments))


PAUSE: Final = Script.load("admin/pause")


async def pause(call: Call, keys: Keys, *, group: str, on: bool) -> bool:
    """Pauses a group or lets it go on; False when it was so already."""
    return bool(await run(call, PAUSE, (keys.paused(),), (group, int(on), keys.control(group))))
