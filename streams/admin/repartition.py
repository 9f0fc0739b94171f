"""Repartition: gives an app another number of partitions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from streams.app import registered, settle_on
from streams.errors import StreamsError
from streams.inspecting.snapshot_reader import snapshot_each

if TYPE_CHECKING:
    from streams.app import App

_MOST: Final = 1024


async def repartition(client: App, to: int) -> int:
    """Gives the app `to` partitions; returns how many it had. All processes are to be restarted with that number.

    More: any time. Fewer: only when those that go have nothing left that somebody may miss (no unread, pending, waiting
    or dead letter) and nobody consumes; raises `StreamsError` otherwise. What changes with the number: an event's
    partition, so order per key and `once=` names hold from then on, not across the change.
    """
    if not 1 <= to <= _MOST:
        raise StreamsError(f"an app has 1 to {_MOST} partitions, not {to}")
    had = await registered(client)
    settings = client.settings.model_copy(update={"partitions": max(had, to)})
    async with type(client)(settings=settings) as whole:
        if to < had:
            for part in await snapshot_each(whole):
                alive = sum(group.alive for group in part.groups)
                if alive:
                    raise StreamsError(f"{alive} consumer(s) are alive; stop every process before there are fewer")
            for number, part in enumerate(await snapshot_each(whole)):
                left = part.waiting.total + sum(group.lag + group.pending + group.dead for group in part.groups)
                if number >= to and left:
                    raise StreamsError(
                        f"partition {number} still holds {left} (unread, pending, waiting or dead): let the consumers "
                        "finish, and replay or discard the dead letters"
                    )
        await settle_on(whole, to, change=True)
    return had
