"""Pause: stops a group's consumers, in every partition, from starting anything more, and lets them go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.admin import scripts
from streams.errors import NotFound
from streams.redis.refusal import refusing

if TYPE_CHECKING:
    from streams.app import App


async def pause(client: App, group: str, *, on: bool) -> bool:
    """Pauses a group or lets it go on; False if it was so already. Raises `NotFound` for a group nobody has made."""
    known = changed = False
    for partition in client.partitions:
        redis = partition.redis
        with refusing(partition.connections):
            known = known or await redis.hexists(partition.keys.groups(), group)
    if not known:
        raise NotFound(f"no group {group} in {client.settings.app}; streams status lists them")
    for partition in client.partitions:  # in all of them: a consumer that starts looks into each
        keys = partition.keys
        with refusing(partition.connections):
            changed |= await scripts.pause(partition.redis.execute_command, keys, group=group, on=on)
    return changed
