"""Follow: yields each change of one event in its groups until it is settled there."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import ResponseError

from streams.errors import NotFound
from streams.handlers.progress import ProgressReport
from streams.inspecting.event_status import EventStatus
from streams.inspecting.states import SETTLED, State
from streams.redis.refusal import refusing

if TYPE_CHECKING:
    from streams.app import App
    from streams.inspecting.group_status import GroupStatus

_SOON: Final = 0.05  # seconds between two looks after something has happened; doubled while nothing does
_LATER: Final = 1.0


@dataclass(frozen=True, slots=True)
class Update:
    """A change: the group's `state` (see `State`), its `attempt`, and how far its handler says it has come."""

    group: str
    state: State
    attempt: int
    reached: ProgressReport | None = None

    @property
    def is_last(self) -> bool:
        """Whether the group is through with the event."""
        return self.state in SETTLED

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values, flat."""
        reached = self.reached
        return {
            "group": self.group,
            "state": self.state,
            "attempt": self.attempt,
            "done": reached.done if reached else None,
            "total": reached.total if reached else None,
            "text": reached.text if reached else "",
            "at": reached.at if reached else None,
        }


async def follow(client: App, id: str, *, group: str = "") -> AsyncGenerator[Update, None]:
    """The steps of an event in every group, or in one, until each is through with it; the last one of each group has
    its final state. While nobody reads its stream it waits. Raises `NotFound`, `Unreachable` or `Refused`.
    """
    trail = await EventStatus.find(client, id)
    partition = client.partitions[trail.partition]
    redis = partition.redis
    watch, pause = _Watch(client, trail, group), _SOON
    with refusing(partition.connections):
        async with redis.pubsub(ignore_subscribe_messages=True) as channel:
            await channel.subscribe(partition.keys.progress(trail.id))
            while True:
                steps = await watch.look()
                for step in steps:
                    yield step
                if watch.is_over:
                    return
                pause = _SOON if steps else min(_LATER, pause * 2)
                told = await channel.get_message(timeout=pause)
                while told is not None:  # what has come in at once, before the next look
                    if (pushed := watch.told(told["data"])) is not None:
                        yield pushed
                    pause = _SOON
                    told = await channel.get_message(timeout=0)


class _Watch:
    """What was seen of an event so far."""

    def __init__(self, client: App, trail: EventStatus, group: str) -> None:
        self._client = client
        self._partition = client.partitions[trail.partition]
        self._trail = trail
        self._group = group
        self._steps: dict[str, Update] = {}
        self._is_looked_up = True
        self.is_over = False

    async def look(self) -> list[Update]:
        """Where the groups are now; returns what is new."""
        if not self._is_looked_up and not await self._still_runs():
            try:
                self._trail = await EventStatus.find(self._client, self._trail.id)
            except NotFound:  # every group was through with it, and it was trimmed
                self.is_over = True
                return []
        self._is_looked_up = False
        reached = await ProgressReport.of(self._partition, self._trail.id)
        groups = self._groups()
        new = [self._note(group.group, group.state, group.attempts, reached.get(group.group)) for group in groups]
        never = self._trail.cancelled is not None and not groups
        self.is_over = never or (bool(groups) and all(group.is_settled for group in groups))
        return [step for step in new if step is not None]

    def _groups(self) -> list[GroupStatus]:
        return [group for group in self._trail.groups if self._group in ("", group.group)]

    def _note(self, group: str, state: State, attempts: int, reached: ProgressReport | None) -> Update | None:
        step = Update(group, state, attempts, reached)
        if self._steps.get(group) == step:
            return None
        self._steps[group] = step
        return step

    def told(self, message: bytes) -> Update | None:
        """A report that was pushed."""
        name, _, report = message.partition(b" ")
        group, reached = name.decode("utf-8", "replace"), ProgressReport.decode(report)
        if reached is None or self._group not in ("", group):
            return None
        return self._note(group, "running", reached.attempt, reached)

    async def _still_runs(self) -> bool:
        """Whether nothing can have changed: a look at one entry for each group, where the trail reads whole streams."""
        groups = self._groups()
        return bool(groups) and all(
            [group.is_settled or (group.state == "running" and await self._holds(group)) for group in groups]
        )

    async def _holds(self, group: GroupStatus) -> bool:
        redis, keys = self._partition.redis, self._partition.keys
        short, _, entry_id = group.where.partition(" ")
        key = keys.source(short)
        try:
            return bool(await redis.xpending_range(key, group.group, entry_id, entry_id, 1))
        except ResponseError:
            return False
