"""Cancellation record: what remains of an event that was cancelled before any group had it.

No group has a line in its history for such an event, and no stream has it: without the record no trace of it would be
left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.messages.history import record
from streams.redis.keys import HISTORY_LENGTH

if TYPE_CHECKING:
    from streams.messages.message import Message
    from streams.redis.entries import Entries
    from streams.redis.keys import Keys


def cancelled_record(message: Message, stream: str, *, by: str) -> list[bytes]:
    """The names and values of the record, flat; `stream` is the one that the event was for."""
    return [*record(message, "cancelled", attempt=0, deliveries=0, by=by), b"stream", stream.encode()]


async def find_cancelled(entries: Entries, keys: Keys, id: bytes, start: str) -> dict[str, str] | None:
    """The record of an event, which cannot be older than the entry id `start`; None when there is none."""
    async for _, fields in entries.backward(keys.cancellations(), start=start, most=2 * HISTORY_LENGTH):
        found = dict(zip(fields[::2], fields[1::2], strict=False))
        if found.get(b"id") == id:
            return {name.decode("utf-8", "replace"): text.decode("utf-8", "replace") for name, text in found.items()}
    return None
