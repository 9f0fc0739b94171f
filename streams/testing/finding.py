"""Finding: where one event is in a harness, as `Trail.find` tells it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.entries import Entry, decode
from streams.errors import NotFound
from streams.letter import Letter
from streams.message import CAUSATION, Message
from streams.testing.memory import NEVER, Memory, fields_of
from streams.trail import FollowUp, Trail
from streams.whereabouts import GroupTrail

if TYPE_CHECKING:
    from collections.abc import Iterator


def find(memory: Memory, id: str) -> Trail:
    """The trail of an event by its id, or by its entry id; raises `NotFound`."""
    if id in memory.waiting:
        target, fields = memory.waiting[id]
        due_in = (memory.due[id] - memory.now()) / 1000
        groups = tuple(
            GroupTrail(group, "waiting", "due", 0, 0, due_in=due_in, waiting_id=id)
            for group, sources in sorted(memory.groups.items())
            if target in sources
        )
        return Trail(id, decode((b"0-0", fields)), memory.keys.short(target), "", due_in, groups, (), "what waits")
    for key, entry in _published(memory):
        message = decode(entry)
        if id in (message.id, entry[0].decode()):
            readers = sorted(group for group, sources in memory.groups.items() if key in sources)
            return Trail(
                message.id, message, memory.keys.short(key), entry[0].decode(), None,
                tuple(_Whereabouts(memory, group, message).find(key, entry[0]) for group in readers),
                tuple(_follow_ups(memory, message)), "the memory of the harness",
            )  # fmt: skip
    raise NotFound(f"no event {id} in {memory.keys.app}; looked through the memory of the harness")


def _published(memory: Memory) -> Iterator[tuple[str, Entry]]:
    for key in memory.lanes():
        for entry in memory.entries(key):
            yield key, entry


def _follow_ups(memory: Memory, cause: Message) -> Iterator[FollowUp]:
    for key, entry in _published(memory):
        message = decode(entry)
        if message.values[CAUSATION].decode() == cause.id:
            yield FollowUp(message.id, message.type, memory.keys.short(key), message.time)


class _Whereabouts:
    """Where one group has one event."""

    def __init__(self, memory: Memory, group: str, message: Message) -> None:
        self._memory = memory
        self._group = group
        self._id = message.id
        self._history = tuple(
            {name.decode(): value.decode("utf-8", "replace") for name, value in record.items() if name != b"original"}
            | {"entry_id": entry[0].decode()}
            for entry in memory.entries(memory.keys.history(group))
            if (record := fields_of(entry))[b"id"] == message.id.encode()
        )

    def find(self, key: str, entry_id: bytes) -> GroupTrail:
        memory, inbox = self._memory, self._memory.keys.inbox(self._group)
        came_back = [entry for entry in memory.entries(inbox) if decode(entry).id == self._id]
        for entry in reversed(came_back):
            if (found := self._held(inbox, entry[0], decode(entry))) is not None:
                return found
        return self._held(key, entry_id, None) or self._waits() or self._dead() or self._settled()

    def _held(self, key: str, entry_id: bytes, message: Message | None) -> GroupTrail | None:
        memory, group = self._memory, self._group
        where = f"{memory.keys.short(key)} {entry_id.decode()}"
        carried = message.carried if message else None
        failures, before, replays = (carried.failures, carried.deliveries, carried.replays) if carried else (0, 0, 0)
        errors = tuple(carried.errors) if carried else ()
        if memory.is_unread(group, key, entry_id):
            state = "retrying" if failures else "unread"
            return GroupTrail(group, state, where, failures, before, replays, errors=errors, history=self._history)
        if count := memory.pending(group, key, entry_id):
            return GroupTrail(
                group, "running", where, failures + 1, before + count, replays, "harness", 0.0,
                errors=errors, history=self._history,
            )  # fmt: skip
        return None

    def _waits(self) -> GroupTrail | None:
        memory, last = self._memory, self._history[-1] if self._history else {}
        for waiting_id, (target, fields) in memory.waiting.items():
            message = decode((b"0-0", fields))
            if target != memory.keys.inbox(self._group) or message.id != self._id:
                continue
            carried, due = message.carried, memory.due[waiting_id]
            assert carried is not None
            state = "in line" if due >= NEVER else "snoozed" if last.get("outcome") == "snoozed" else "retrying"
            return GroupTrail(
                self._group, state, "due", carried.failures, carried.deliveries, carried.replays,
                due_in=None if due >= NEVER else (due - memory.now()) / 1000, reason=last.get("reason", ""),
                error=last.get("error", ""), errors=tuple(carried.errors), history=self._history,
                waiting_id=waiting_id,
            )  # fmt: skip
        return None

    def _dead(self) -> GroupTrail | None:
        for entry in reversed(self._memory.entries(self._memory.keys.dead(self._group))):
            letter = Letter.decode(self._group, entry)
            if letter.event_id == self._id:
                return GroupTrail(
                    self._group, "dead", f"dead:{self._group} {letter.id}", letter.attempts, letter.deliveries,
                    letter.carried.replays, dead_letter=letter.id, reason=letter.reason, error=letter.error,
                    errors=tuple(letter.carried.errors), history=self._history,
                )  # fmt: skip
        return None

    def _settled(self) -> GroupTrail:
        last = self._history[-1] if self._history else {}
        ended = last.get("outcome", "")
        state = ended if ended in ("discarded", "cancelled", "expired") else "acked"
        record = last if ended != "replayed" else {}  # after a replay it began anew
        told = record if state != "acked" else {}
        return GroupTrail(
            self._group, state, "", int(record.get("attempt") or 1), int(record.get("deliveries") or 1),
            sum(line["outcome"] == "replayed" for line in self._history),
            reason=told.get("reason", ""), error=told.get("error", ""), history=self._history,
        )  # fmt: skip
