"""Group status: where one group has one event: unread, running, waiting for its retry, acked or dead."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from streams.handlers.progress import ProgressReport
from streams.inspecting.states import SETTLED, State
from streams.messages.letter import Letter
from streams.messages.message import FIELDS, ID, KEY, Message, decode
from streams.redis.entries import Entries, Entry, milliseconds, position
from streams.redis.keys import HISTORY_LENGTH, LIMITED_MS, NEVER_MS
from streams.redis.partition import Reads
from streams.redis.refusal import unless_odd
from streams.redis.untrusted import pairs, text, whole, wire
from streams.settling import scripts

if TYPE_CHECKING:
    from streams.redis.partition import Partition

_MOST: Final = 100_000  # entries of an inbox or of the dead letters looked at
_PEEK: Final = 200  # waiting messages to a script call
_WAITING_MOST: Final = 20_000
_LOOKS: Final = 5
_BEGAN: Final = re.compile(rb"\(?[0-9]{1,20}-[0-9]{1,20}")
_DEAD: Final = ("dead_lettered", "edited")
_ENDED: Final[dict[str, State]] = {
    "dead_lettered": "dead", "edited": "dead", "discarded": "dead", "cancelled": "cancelled", "expired": "expired",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """Where one group has the event.

    `where` is the stream and the entry, or `due`, or empty. `due_in` and `idle` are in seconds. `queued_behind` says
    what a `queued` one waits for: another message of its `key`, or the `limit` of its handler. A `dead` one without a
    `dead_letter` was discarded. `history` holds how earlier deliveries ended, `progress` how far the last one has come,
    if its handler says so.
    """

    group: str
    state: State
    where: str
    attempts: int
    deliveries: int
    replays: int = 0
    consumer: str = ""
    idle: float | None = None
    due_in: float | None = None
    dead_letter: str = ""
    reason: str = ""
    error: str = ""
    errors: tuple[dict[str, Any], ...] = ()
    history: tuple[dict[str, str], ...] = ()
    waiting_id: str = ""
    progress: ProgressReport | None = None
    queued_behind: Literal["", "key", "limit"] = ""

    @property
    def is_settled(self) -> bool:
        """Whether the group has finished with it."""
        return self.state in SETTLED


class GroupSearch:
    """Looks for one event in any group, in one partition. Nothing of it can be older than the entry id `start`."""

    def __init__(self, partition: Partition, event_id: str, start: str) -> None:
        self._mark = partition.mark
        self._keys = partition.keys
        self._redis = partition.redis
        self._reads, self._entries = Reads(partition), Entries(partition)
        self._id = wire(event_id)
        self._start = start
        self.complete = True  # False when a bound ended a search

    async def find(self, group: str, places: list[tuple[str, bytes]]) -> GroupStatus | None:
        """Where `group` has it; `places` is where it was published. None when the group has never seen it.

        The places are looked at one after the other while the event may move from one to the next. It is nowhere only
        if its history says nothing new after the looks, and does not say that it must wait somewhere.
        """
        for _ in range(_LOOKS):
            history, whole = await self._history(group)
            found = await self._look(group, places, history, whole=whole)
            if found is not None and found.where:
                return found
            last = history[-1][1].get("outcome", "") if history else ""
            if last not in ("retried", "snoozed") and (await self._history(group))[0] == history:
                return found
        return found

    async def _look(
        self, group: str, places: list[tuple[str, bytes]], history: list[tuple[str, dict[str, str]]], *, whole: bool
    ) -> GroupStatus | None:
        known = tuple({**record, "entry_id": entry_id} for entry_id, record in history)
        inbox = self._keys.inbox(group)
        came_back = await self._in_inbox(group)
        held: list[tuple[str, Entry | None, bytes]] = [(inbox, entry, entry[0]) for entry in reversed(came_back)]
        held += [(key, None, entry_id) for key, entry_id in places]
        for key, entry, entry_id in held:
            found = await self._held(group, key, entry_id, decode(entry, came_back=True) if entry else None, known)
            if found is not None:
                return found
        last = history[-1][1].get("outcome", "") if history else ""
        if last in ("retried", "snoozed", "replayed") and (found := await self._waits(group, known)) is not None:
            return found
        if last in _DEAD or not whole:
            found = await self._dead(group, history, known)
            if found is not None:
                return found
        if not places and not history and not came_back:
            return None
        return self._settled(group, last, known)

    async def _history(self, group: str) -> tuple[list[tuple[str, dict[str, str]]], bool]:
        """The event's lines in the group's history, oldest first, and whether none can have been trimmed away."""
        key, found = self._keys.history(group), []
        async for entry in self._entries.search(
            key, FIELDS[ID], self._id, start=self._start, most=2 * HISTORY_LENGTH, backward=True
        ):
            if entry is not None:
                # `original` is the body before a correction: private data does not belong into a trail.
                told = {
                    text(name): value.decode("utf-8", "replace")
                    for name, value in pairs(entry[1]).items()
                    if name != b"original"
                }
                found.append((entry[0].decode(), told))
        return found[::-1], await self._reaches_back(key)

    async def _reaches_back(self, history: str) -> bool:
        if (await unless_odd(self._redis.xlen(history)) or 0) < HISTORY_LENGTH:
            return True
        oldest = [entry_id async for entry_id, _ in self._entries.forward(history, most=1)]
        return all(position(entry_id) < position(self._start) for entry_id in oldest)

    async def _in_inbox(self, group: str) -> list[Entry]:
        found, inbox = [], self._keys.inbox(group)
        async for entry in self._entries.search(inbox, FIELDS[ID], self._id, start=self._start, most=_MOST):
            if entry is not None:
                found.append(entry)
            self.complete = self.complete and entry is not None
        return found

    async def _held(
        self, group: str, key: str, entry_id: bytes, message: Message | None, history: tuple[dict[str, str], ...]
    ) -> GroupStatus | None:
        """The group's state by this one entry; None when it is settled there and does not wait because of it."""
        where = f"{self._keys.short(key)} {entry_id.decode()}"
        carried = message.carried if message else None
        failures, before, replays = (carried.failures, carried.deliveries, carried.replays) if carried else (0, 0, 0)
        errors = tuple(carried.errors) if carried else ()
        if await self._is_unread(group, key, entry_id):
            state: State = "retrying" if failures else "unread"
            return GroupStatus(group, state, where, failures, before, replays, errors=errors, history=history)
        pending = await unless_odd(self._redis.xpending_range(key, group, entry_id, entry_id, 1))
        if pending:
            return GroupStatus(
                group,
                "running",
                where,
                failures + 1,
                before + pending[0]["times_delivered"],
                replays,
                pending[0]["consumer"].decode("utf-8", "replace"),
                pending[0]["time_since_delivered"] / 1000,
                errors=errors,
                history=history,
            )
        waiting_id = f"{group} {self._keys.short(key)} {entry_id.decode()}"
        waits = await self._peek(group, [waiting_id], history)
        if waits is None and not history and await self._is_missed(group, key, entry_id):
            return GroupStatus(group, "skipped", where, 0, 0)
        return waits

    async def _is_missed(self, group: str, key: str, entry_id: bytes) -> bool:
        place = key.removeprefix(f"{self._keys.tag}:")
        began = await unless_odd(self._redis.hget(self._keys.ledger(), f"began {group} {place}")) or b""
        if began.startswith(b"(") and _BEGAN.fullmatch(began):
            return position(entry_id) <= position(began[1:])
        return _BEGAN.fullmatch(began) is not None and position(entry_id) < position(began)

    async def _is_unread(self, group: str, key: str, entry_id: bytes) -> bool:
        groups = await unless_odd(self._redis.xinfo_groups(key))
        if groups is None:
            return False
        for found in groups:
            if found["name"] == group.encode():
                return position(found["last-delivered-id"]) < position(entry_id)
        return True  # the group is made at 0 when its first consumer starts: it will be delivered

    async def _waits(self, group: str, history: tuple[dict[str, str], ...]) -> GroupStatus | None:
        """Looks through what waits for the group, for an event whose last entry in the inbox is gone."""
        ids: list[bytes] = []
        async for page in self._reads.waiting(group):
            if len(ids) >= _WAITING_MOST:
                self.complete = False
                break
            ids += page
        for at in range(0, len(ids), _PEEK):
            if (found := await self._peek(group, ids[at : at + _PEEK], history)) is not None:
                return found
        return None

    async def _peek(self, group: str, ids: list[Any], history: tuple[dict[str, str], ...]) -> GroupStatus | None:
        waiting = await scripts.peek_waiting(
            self._redis.execute_command, self._keys, ids, event_id=self._id.decode("utf-8", "replace")
        )
        if not waiting:
            return None
        waiting_id, due, _, fields = waiting[0]
        now = await self._reads.now_ms()
        carried = Message.decode(b"0-0", fields, came_back=True).carried
        last = history[-1] if history else {}
        state: State = "queued"
        behind: Literal["", "key", "limit"] = ""
        if due >= NEVER_MS:
            behind, reason = "key", await self._behind_key(group, fields)
        elif due == LIMITED_MS:
            behind, reason = "limit", await self._at_limit(group, fields, now)
        else:
            state = "snoozed" if last.get("outcome") == "snoozed" else "retrying"
            reason = last.get("reason", "")
        return GroupStatus(
            group,
            state,
            "due",
            carried.failures if carried else 0,
            carried.deliveries if carried else 0,
            carried.replays if carried else 0,
            due_in=(due - now) / 1000 if due < LIMITED_MS else None,
            reason=reason,
            error=last.get("error", ""),
            errors=tuple(carried.errors) if carried else (),
            history=history,
            waiting_id=waiting_id.decode("utf-8", "replace"),
            queued_behind=behind,
        )

    async def _behind_key(self, group: str, fields: list[bytes]) -> str:
        message = Message.decode(b"0-0", fields)
        holder = await unless_odd(self._redis.hget(self._keys.turns(group), message.values[KEY]))
        source, _, entry_id = (holder or b"").decode("utf-8", "replace").partition("#")[0].rpartition(" ")
        return f"it queues behind {self._keys.short(source)} {entry_id} with the same key {message.key}"

    async def _at_limit(self, group: str, fields: list[bytes], now: int) -> str:
        limits = self._keys.limits(group)
        name = pairs(fields).get(b"limitedby", b"").decode("utf-8", "replace")
        what = await unless_odd(self._redis.hget(f"{limits}:{name}", "what"))
        opens = await unless_odd(self._redis.zscore(limits, name))
        held = await unless_odd(self._redis.zcard(f"{limits}:{name}:held")) or 0
        until = "the next one is admitted "
        if opens is None or opens >= NEVER_MS:
            until += f"when one of the {held} that hold a permit ends"
        else:
            until += f"in {max(0.0, (opens - now) / 1000):.1f} s"
        return f"limited: {(what or b'?').decode('utf-8', 'replace')}; {until}"

    async def _dead(
        self, group: str, history: list[tuple[str, dict[str, str]]], known: tuple[dict[str, str], ...]
    ) -> GroupStatus | None:
        letters = (entry_id for entry_id, record in reversed(history) if record.get("outcome") in _DEAD)
        given_up = next(letters, "")
        # The letter and its line in the history are written by one script: within a moment of each other.
        start = str(milliseconds(given_up) - 1000) if given_up else self._start
        end = str(milliseconds(given_up) + 1000) if given_up else "+"
        key = self._keys.dead(group)
        async for entry in self._entries.search(key, FIELDS[ID], self._id, start=start, end=end, most=_MOST):
            self.complete = self.complete and entry is not None
            if entry is not None:
                letter = Letter.decode(group, entry, self._mark)
                return GroupStatus(
                    group, "dead", f"dead:{group} {letter.id}", letter.attempts, letter.deliveries,
                    letter.carried.replays, dead_letter=letter.id, reason=letter.reason, error=letter.error,
                    errors=tuple(letter.carried.errors), history=known,
                )  # fmt: skip
        return None

    def _settled(self, group: str, last: str, history: tuple[dict[str, str], ...]) -> GroupStatus:
        state = _ENDED.get(last, "acked")
        record = history[-1] if history and last != "replayed" else {}  # after a replay it began anew
        attempts = whole(record.get("attempt"), 1) or 1
        replays = sum(line.get("outcome") == "replayed" for line in history)
        return GroupStatus(
            group,
            state,
            "",
            attempts,
            whole(record.get("deliveries"), 1) or 1,
            replays,
            reason=record.get("reason") or (last if last == "discarded" else "") if state != "acked" else "",
            error=record.get("error", "") if state != "acked" else "",
            history=history,
        )
