"""Claim cleanup: removes the objects in a claim store (`ClaimStore`) whose event is gone.

An object goes when the last place that has its event goes: the stream, an inbox, the due set, the dead letters. Code
that removes an event calls `release` right afterwards. A crash between the two, or a retry that is handled after its
stream was trimmed, leaves the object behind: `sweep` finds those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from streams.errors import NotFound, StreamsError
from streams.inspecting.event_status import EventStatus
from streams.logs import get_logger
from streams.messages.claims import MARK
from streams.messages.message import DATA, FIELDS, ID, Message
from streams.messages.outcome import Unavailable
from streams.redis.entries import Entries
from streams.redis.keys import is_name
from streams.redis.refusal import refusing
from streams.redis.untrusted import text

if TYPE_CHECKING:
    from streams.app import App

log = get_logger("streams.orphans")

OLD_ENOUGH: Final = timedelta(days=1)
"""An object is stored before its event is published, and an outbox or inbox may hold the event for a while."""


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep found: objects, those that are orphans, and what they take up in bytes."""

    objects: int
    orphans: int
    bytes: int
    removed: bool

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return asdict(self)


async def release(client: App, messages: Sequence[Message]) -> int:
    """Removes the objects of messages that were removed just now, unless something still has them; returns how many.

    A store that is away is no reason to fail what was done: it is logged, and the objects are left to `sweep`.
    """
    removed = 0
    for message in messages:
        if client.claims is None or not message.values[DATA].startswith(MARK):
            continue
        try:
            removed += not await _is_needed(client, message.id) and await client.claims.remove(message)
        except Unavailable as error:
            log.warning("claims.not_removed", id=message.id, error=str(error)[:300])
    return removed


async def sweep(client: App, *, older_than: timedelta = OLD_ENOUGH, apply: bool = False) -> Swept:
    """Looks for objects that no event of this app has any more; with `apply` removes them.

    Only those stored longer ago than `older_than`. The URL must be this app's alone: another app's objects would look
    like orphans. Objects of events with ids that others made are left. Raises `StreamsError` without a claim store,
    `Unavailable` when it does not answer.
    """
    if client.claims is None:
        raise StreamsError("there is no claim store; set STORAGE_URL")
    objects = orphans = size = 0
    before = datetime.now(UTC) - older_than
    async for stored in client.claims.ls():
        objects += 1
        if stored.at > before or not stored.event_id or await _is_needed(client, stored.event_id):
            continue
        orphans, size = orphans + 1, size + stored.size
        if apply:
            await client.claims.drop(stored)
    return Swept(objects, orphans, size, apply)


async def _is_needed(client: App, event_id: str) -> bool:
    """Whether anything still has the event; when that cannot be told, it is."""
    try:
        trail = await EventStatus.find(client, event_id)
    except NotFound as error:
        return not error.whole or await _is_dead(client, event_id)
    if trail.entry_id or trail.due_in is not None or not trail.complete:
        return True
    return any(not group.is_settled or group.dead_letter for group in trail.groups) or await _is_dead(client, event_id)


async def _is_dead(client: App, event_id: str) -> bool:
    """Whether a group that was retired has it among its dead letters, which stay."""
    for partition in client.partitions:
        redis = partition.redis
        with refusing(partition.connections):
            noted = await redis.hkeys(partition.keys.ledger())
            known = set(await redis.hkeys(partition.keys.groups()))
            named = {text(field.removeprefix(b"seen ")) for field in noted if field.startswith(b"seen ")} - {
                text(name) for name in known
            }
            for group in filter(is_name, named):
                key = partition.keys.dead(group)
                async for _ in Entries(partition).search(key, FIELDS[ID], event_id.encode()):
                    return True
    return False
