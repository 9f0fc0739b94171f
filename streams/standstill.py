"""Standstill: asks every consumer that is alive and holds something whether it does anything with it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from streams.entries import refusing
from streams.report import Question, Report, ask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streams.app import App
    from streams.partition import Partition
    from streams.snapshot import GroupState, Snapshot

_NOTHING = Question("", "", "")


class Answer(NamedTuple):
    """What one consumer of a group says in one partition; None when it does not answer though its heartbeat goes on."""

    group: str
    consumer: str
    report: Report | None


async def ask_holders(client: App, parts: Sequence[Snapshot]) -> list[Answer]:
    """Asks in each partition those that hold something, all at once: one message a group, at most 2 s. One that has
    missed two heartbeats is not asked: it was stopped or killed, and others have what it held in a moment. Raises
    `Unreachable` or `Refused`.
    """
    asked = [
        _ask(partition, group.name, holders)
        for partition, part in zip(client.partitions, parts, strict=True)
        for group in part.groups
        if (holders := _holders(group, client.settings.lease / 2))
    ]
    return [answer for answers in await asyncio.gather(*asked) for answer in answers]


def _holders(group: GroupState, lately: float) -> list[str]:
    beating = [each for each in group.consumers if each.heartbeat is not None and each.heartbeat <= lately]
    return [consumer.name for consumer in beating if consumer.pending]


async def _ask(partition: Partition, group: str, holders: list[str]) -> list[Answer]:
    with refusing(partition.connections):
        reports = await ask(partition, group, _NOTHING, holders)
    return [Answer(group, name, reports.get(name)) for name in holders]
