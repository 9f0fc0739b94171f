"""Retire: removes a group that has no consumers any more, with all that it held."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streams.admin import scripts as admin_scripts
from streams.admin.claim_cleanup import release
from streams.admin.trim import _lanes
from streams.errors import NotFound, StreamsError
from streams.inspecting.snapshot_reader import take_snapshot
from streams.messages.claims import MARK
from streams.messages.message import decode
from streams.redis.entries import Entries
from streams.redis.keys import checked_name
from streams.redis.partition import Reads
from streams.redis.refusal import refusing
from streams.settling import scripts as settling_scripts

if TYPE_CHECKING:
    from streams.app import App
    from streams.messages.message import Message
    from streams.redis.partition import Partition


@dataclass(frozen=True, slots=True)
class Retired:
    """What a group gives up, or would: entries it has not read, holds, and that wait to come back to it."""

    group: str
    done: bool
    unread: int
    pending: int
    waiting: int
    dead: int


async def retire(client: App, group: str, *, apply: bool = False) -> Retired:
    """Gives up a group that nobody runs any more, so that it holds no retention; without `apply` only says what that
    would give up.

    It leaves the registry and its streams; what it had not read, held, or waits for it is not delivered. Its dead
    letters stay, and its history. Started again, it begins with what the streams still have. Raises `NotFound` for an
    unknown group, `StreamsError` while a consumer of it is alive.
    """
    checked_name("group", group)
    if apply:
        await client.check()
    groups = (await take_snapshot(client)).groups
    account = next((found for found in groups if found.name == group), None)
    lanes = await _lanes(client, ())
    # A look at all of them first: a consumer that is alive in one partition keeps the group in each.
    found = [await _retire(at, group, lanes[at.number], apply=False) for at in client.partitions]
    if all(done < 0 for done, _, _, _ in found):
        raise NotFound(f"no group {group} in {client.settings.app}; `streams status` lists them")
    if alive := max(alive for _, alive, _, _ in found):
        raise StreamsError(f"{alive} consumer(s) of {group} are alive; stop them first")
    carried: list[Message] = []
    if apply and client.claims is not None:
        carried = [message for at in client.partitions for message in await _claims(at, group)]
    if apply:
        found = [await _retire(at, group, lanes[at.number], apply=True) for at in client.partitions]
        if any(alive for _, alive, _, _ in found):
            raise StreamsError(f"a consumer of {group} started meanwhile; stop it and retire the group again")
    waiting = 0
    for partition in client.partitions:
        with refusing(partition.connections):
            waiting += await _waiting(partition, group, apply=apply)
    await release(client, carried)
    unread = account.lag if account else 0
    dead = account.dead if account else 0
    return Retired(group, any(done > 0 for done, _, _, _ in found), unread, sum(f[2] for f in found), waiting, dead)


async def _retire(partition: Partition, group: str, lanes: list[str], *, apply: bool) -> tuple[int, int, int, int]:
    keys = partition.keys
    redis = partition.redis
    with refusing(partition.connections):
        reads = keys.registry({group.encode(): await redis.hget(keys.groups(), group) or b""}).get(group, [])
        return await admin_scripts.retire_group(
            redis.execute_command,
            keys,
            group=group,
            streams=sorted({*reads, *lanes} - {keys.inbox(group)}),
            alive_ms=round(partition.settings.lease * 1000),
            apply=apply,
        )


async def _waiting(partition: Partition, group: str, *, apply: bool) -> int:
    keys = partition.keys
    count = 0
    async for ids in Reads(partition).waiting(group):
        if ids and apply:
            count += await settling_scripts.drop_waiting(partition.redis.execute_command, keys, group=group, ids=ids)
        else:
            count += len(ids)
    return count


async def _claims(partition: Partition, group: str) -> list[Message]:
    """What is about to go with the group's inbox, or waits to come back to it, and has an object in the claim store."""
    keys = partition.keys
    found = [decode(entry, came_back=True) async for entry in Entries(partition).forward(keys.inbox(group))]
    async for ids in Reads(partition).waiting(group):
        waiting = await settling_scripts.peek_waiting(partition.redis.execute_command, keys, ids)
        found += [decode((b"0-0", fields), came_back=True) for _, _, _, fields in waiting]
    return [message for message in found if message.data.startswith(MARK)]
