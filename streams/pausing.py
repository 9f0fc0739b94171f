"""Pausing: tells a group's consumers, in every partition, to begin nothing more, or to go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streams import scripts
from streams.entries import refusing
from streams.errors import NotFound

if TYPE_CHECKING:
    from streams.client import Streams


async def pause(client: Streams, group: str, *, on: bool) -> bool:
    """Pauses a group or lets it go on; False if it was so already. Raises `NotFound` for a group nobody has made."""
    changed = known = False
    for partition in client.partitions:
        redis: Any = partition.redis  # redis-py's annotations are unions over both protocols
        keys = partition.keys
        with refusing(partition.connections):
            channel = keys.control(group)
            if await redis.hexists(keys.groups(), group):
                known = True
                changed |= await scripts.pause(
                    redis.execute_command, paused=keys.paused(), group=group, channel=channel, on=on
                )
    if not known:
        raise NotFound(f"no group {group} in {client.settings.app}; streams status lists them")
    return changed
