"""Cancel: cancels one event wherever it is: waiting, unread, running or between two attempts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from streams.admin import scripts as admin_scripts
from streams.admin.claim_cleanup import release
from streams.errors import StreamsError
from streams.inspecting.event_status import EventStatus
from streams.messages.cancellation_record import cancelled_record
from streams.messages.history import operator, record
from streams.messages.message import Message, decode
from streams.redis.entries import Entries
from streams.redis.refusal import refusing
from streams.settling import scripts as settling_scripts

if TYPE_CHECKING:
    from streams.app import App
    from streams.inspecting.group_status import GroupStatus
    from streams.inspecting.states import State
    from streams.redis.partition import Partition

_LOOKS: Final = 20  # an event that moves (due, delivered, retried) between the look and the script is looked for again


@dataclass(frozen=True, slots=True)
class Cancellation:
    """The state of the event in each group, after it was cancelled.

    `cancelled`: it will not be handled. `running`: it has been delivered, and its consumer is asked to stop it; how
    that ended is in its status (`streams event ID`): `cancelled`, or `acked` if the handler was done first. `acked`,
    `dead`, `expired`, `skipped`: it was settled before, and nothing changed. `groups` is empty if no group has ever
    read the stream: the event is gone then, and `before` says that it was before.
    """

    id: str
    groups: dict[str, State]
    before: bool = False

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return asdict(self)


async def cancel(client: App, id: str, *, by: str = "") -> Cancellation:
    """Cancels the event with this id in every group that has not finished it.

    Raises `NotFound`, `Unreachable` or `Refused`; `StreamsError` when the event kept moving for 20 looks.
    """
    for _ in range(_LOOKS):
        trail = await EventStatus.find(client, id)
        if trail.cancelled is not None and not trail.groups:
            return Cancellation(id, {}, before=True)
        partition = client.partitions[trail.partition]
        attempt = _Attempt(partition, trail, by or operator())
        with refusing(partition.connections):
            done = await attempt.run()
        if done is not None:
            if attempt.message is not None:
                await release(client, [attempt.message])
            return Cancellation(id, done)
    raise StreamsError(f"event {id} moved at every look; try again")


class _Attempt:
    def __init__(self, partition: Partition, trail: EventStatus, by: str) -> None:
        self._partition = partition
        self._keys = partition.keys
        self._call = partition.redis.execute_command
        self._trail = trail
        self.message = trail.message
        self._by = by
        self._done: dict[str, State] = {}

    async def run(self) -> dict[str, State] | None:
        """The state of each group, or None when the event was not where the trail had seen it."""
        if self._trail.due_in is not None:
            groups = [group.group for group in self._trail.groups]
            if self.message is None or not await self._cancel_waiting(
                self._trail.id, self.message, groups, delayed=self._note(self.message)
            ):
                return None
            self._done = dict.fromkeys(groups, "cancelled")
            return self._done
        open_groups: list[GroupStatus] = []
        for group in self._trail.groups:
            if group.is_settled:
                self._done[group.group] = group.state
            else:
                open_groups.append(group)
        self.message = message = self.message or await self._kept_by(open_groups)
        if message is None:
            return None if open_groups else self._done
        at_place = [group for group in open_groups if group.where == f"{self._trail.stream} {self._trail.entry_id}"]
        steps = []
        if self._trail.entry_id:
            steps.append(await self._cancel_entry(f"{self._trail.stream} {self._trail.entry_id}", message, at_place))
        for group in open_groups:
            if group in at_place:
                continue
            if group.waiting_id:
                steps.append(await self._cancel_waiting(group.waiting_id, message, [group.group], group))
                self._done[group.group] = "cancelled"
            else:
                steps.append(await self._cancel_entry(group.where, message, [group]))
        return self._done if all(steps) else None

    async def _kept_by(self, groups: list[GroupStatus]) -> Message | None:
        """What the event is, from a group it comes back to: its stream may have been trimmed in the meantime."""
        for group in groups:
            if group.waiting_id:
                waiting = await settling_scripts.peek_waiting(self._call, self._keys, [group.waiting_id])
                if waiting:
                    return Message.decode(b"0-0", waiting[0][3])
            elif group.where.startswith("inbox:"):
                short, _, entry_id = group.where.partition(" ")
                entry = await Entries(self._partition).get(f"{self._keys.tag}:{short}", entry_id)
                if entry is not None:
                    return decode(entry)
        return None

    async def _cancel_waiting(
        self,
        waiting_id: str,
        message: Message,
        groups: list[str],
        at: GroupStatus | None = None,
        delayed: Sequence[bytes] = (),
    ) -> bool:
        records = [(self._keys.history(group), self._record(message, at)) for group in groups]
        return await admin_scripts.cancel_waiting(
            self._call, self._keys, waiting_id=waiting_id, delayed=delayed, records=records
        )

    async def _cancel_entry(self, where: str, message: Message, groups: list[GroupStatus]) -> bool:
        if not groups and where.startswith("inbox:"):
            return True
        short, _, entry_id = where.partition(" ")
        key = self._keys.source(short)
        calls = [
            (
                group.group,
                self._keys.cancelled(group.group),
                self._keys.control(group.group),
                self._keys.history(group.group),
                self._record(message, group),
            )
            for group in groups
        ]
        if not calls and any(self._done.values()):
            return True  # every group was through with it before
        unread = [] if self._trail.groups else self._note(message)
        states = await admin_scripts.cancel(self._call, key, self._keys, entry_id=entry_id, groups=calls, unread=unread)
        if unread:
            return bool(states)  # or a group has begun to read its stream
        for group, state in states.items():
            if state == "delivered":
                return False
            self._done[group] = "cancelled" if state == "cancelled" else "running"
        return len(states) == len(calls)

    def _note(self, message: Message) -> list[bytes]:
        return cancelled_record(message, self._trail.stream, by=self._by)

    def _record(self, message: Message, at: GroupStatus | None) -> list[bytes]:
        attempt, deliveries = (at.attempts, at.deliveries) if at else (0, 0)
        return record(message, "cancelled", attempt=attempt, deliveries=deliveries, by=self._by)
