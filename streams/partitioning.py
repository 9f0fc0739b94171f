"""Partitioning: how many partitions an app has, on which all its processes must agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams import chores
from streams.entries import refusing
from streams.errors import Refused
from streams.missing import unless_odd
from streams.tolerant import whole

if TYPE_CHECKING:
    from streams.app import App


async def agree(client: App) -> None:
    """Raises `Refused` when `STREAMS_PARTITIONS` is not what the app has; a new app has what its first process says."""
    number = client.settings.partitions
    holds = await settle_on(client, number)
    if holds != number:
        raise Refused(
            f"{client.settings.app} has {holds} partition(s), not {number}: set STREAMS_PARTITIONS={holds}, or change "
            f"it with `streams partitions --set {number}`"
        )


async def registered(client: App) -> int:
    """How many the app has; what the settings say where nothing was ever published."""
    first = client.partitions[0]
    with refusing(first.connections):
        noted = whole(await unless_odd(first.redis.get(first.keys.partitions())))
        if noted > 0:
            return noted
        return 1 if await first.redis.exists(first.keys.books()) else client.settings.partitions


async def settle_on(client: App, number: int, *, change: bool = False) -> int:
    """The number that holds: `number` if the app is new, or to be changed."""
    first = client.partitions[0]
    with refusing(first.connections):
        return await chores.agree_partitions(
            first.redis.execute_command,
            partitions=first.keys.partitions(), books=first.keys.books(), number=number, change=change,
        )  # fmt: skip
