"""Memory: what Redis and the Lua scripts are to the engine, as dictionaries.

Each method is one move of streams/lua/, by the same arguments and with the same invariant; the conformance suite holds
the two together. There is one process and no crash between two lines, so the fence and the books are not needed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from streams.entries import Entry, position
from streams.message import ID, KEY, Message

if TYPE_CHECKING:
    from streams.keys import Keys
    from streams.testing.clock import VirtualClock

NEVER = 1 << 60
"""The due time of what stands in line: see `Turns`."""

_ONCE_MS = 24 * 3600 * 1000


class Memory:
    """The keys of one partition."""

    def __init__(self, keys: Keys, clock: VirtualClock) -> None:
        self.keys = keys
        self.groups: dict[str, list[str]] = {}  # group: the streams it reads, its inbox last
        self.paused: set[str] = set()
        self.ordered: set[str] = set()
        self.due: dict[str, int] = {}
        self.waiting: dict[str, tuple[str, list[bytes]]] = {}
        self.published: list[Message] = []  # every message that came to a lane, in order
        self._clock = clock
        self._streams: dict[str, dict[bytes, list[bytes]]] = {}
        self._last: dict[str, tuple[int, int]] = {}
        self._read: dict[tuple[str, str], bytes] = {}
        self._pending: dict[tuple[str, str], dict[bytes, int]] = {}
        self._once: dict[str, tuple[bytes, int]] = {}
        self._turns: dict[tuple[str, bytes], str] = {}
        self._lines: dict[tuple[str, bytes], deque[str]] = {}

    def entries(self, key: str) -> list[Entry]:
        """The entries of a stream, oldest first."""
        return list(self._streams.get(key, {}).items())

    def lanes(self) -> list[str]:
        """The lanes of all domain streams."""
        return sorted(key for key in self._streams if ":stream:" in key)

    def entry(self, key: str, entry_id: bytes) -> Entry | None:
        """One entry, or None."""
        fields = self._streams.get(key, {}).get(entry_id)
        return None if fields is None else (entry_id, fields)

    def append(self, key: str, fields: Sequence[bytes]) -> bytes:
        """XADD: ids never go back, as Redis makes them."""
        ms, sequence = self._last.get(key, (0, -1))
        ms, sequence = (self._clock.ms, 0) if self._clock.ms > ms else (ms, sequence + 1)
        self._last[key] = ms, sequence
        entry_id = b"%d-%d" % (ms, sequence)
        self._streams.setdefault(key, {})[entry_id] = list(fields)
        if ":stream:" in key:
            self.published.append(Message.decode(entry_id, list(fields)))
        return entry_id

    def delete(self, key: str, entry_id: bytes) -> None:
        """XDEL."""
        self._streams.get(key, {}).pop(entry_id, None)

    def publish(self, messages: Sequence[Message]) -> None:
        """publish.lua: a name that is taken leaves the message out, which then has the id of the first."""
        for message in messages:
            if message.once:
                first, until = self._once.get(message.once, (b"", 0))
                if until > self._clock.ms:
                    message.values[ID] = first
                    continue
                self._once[message.once] = message.values[ID], self._clock.ms + _ONCE_MS
            if message.when:
                offset = self._clock.ms if message.when.startswith("+") else 0
                self.wait(message.id, offset + int(message.when[1:]), message.target, message.encode())
            else:
                self.append(message.target, message.encode())

    def wait(self, waiting_id: str, due: int, target: str, fields: Sequence[bytes]) -> None:
        """Holds a message until it is due."""
        self.waiting[waiting_id] = target, list(fields)
        self.due[waiting_id] = due

    def unwait(self, waiting_id: str) -> tuple[str, list[bytes]]:
        """Takes out what waits."""
        del self.due[waiting_id]
        return self.waiting.pop(waiting_id)

    def release_due(self) -> bool:
        """release_due.lua: never early, in the order of the due times."""
        due = sorted((at, waiting_id) for waiting_id, at in self.due.items() if at <= self._clock.ms)
        for _, waiting_id in due:
            self.append(*self.unwait(waiting_id))
        return bool(due)

    def next_due(self) -> int | None:
        """When the next one is due; None when nothing is."""
        return min((at for at in self.due.values() if at < NEVER), default=None)

    def read(self, group: str) -> list[tuple[str, Entry]]:
        """XREADGROUP, or read_in_turn.lua: all that is new to the group and whose turn it is, by source."""
        found = []
        for source in self.groups[group]:
            last = self._read.get((group, source), b"0-0")
            for entry_id, fields in self.entries(source):
                if position(entry_id) <= position(last):
                    continue
                self._read[group, source] = entry_id
                if group not in self.ordered or self._takes_turn(group, source, entry_id, fields):
                    self._pending.setdefault((group, source), {})[entry_id] = 1
                    found.append((source, (entry_id, fields)))
        return found

    def is_unread(self, group: str, source: str, entry_id: bytes) -> bool:
        """Whether the group has not come to an entry yet."""
        return position(self._read.get((group, source), b"0-0")) < position(entry_id)

    def pending(self, group: str, source: str, entry_id: bytes) -> int:
        """How often an entry was delivered to the group and is not settled; 0 when it is not pending."""
        return self._pending.get((group, source), {}).get(entry_id, 0)

    def begin(self, group: str, source: str, entry_id: bytes) -> int:
        """begin.lua: counts a delivery; returns the count."""
        self._pending[group, source][entry_id] += 1
        return self._pending[group, source][entry_id]

    def ack(self, group: str, source: str, entry_id: bytes) -> None:
        """XACK, and XDEL in an inbox, which nobody else reads."""
        del self._pending[group, source][entry_id]
        if source == self.keys.inbox(group):
            self.delete(source, entry_id)

    def _takes_turn(self, group: str, source: str, entry_id: bytes, fields: list[bytes]) -> bool:
        message = Message.decode(entry_id, fields)
        key = message.values[KEY]
        if not key:
            return True
        origin = message.carried.origin if message.carried else f"{source} {entry_id.decode()}"
        if self._turns.setdefault((group, key), origin) == origin:
            return True
        if message.carried is None:
            fields = [*fields, b"origin", origin.encode(), b"failures", b"0", b"deliveries", b"0"]
        waiting_id = f"{group} {self.keys.short(source)} {entry_id.decode()}"
        self.wait(waiting_id, NEVER, self.keys.inbox(group), fields)
        self._lines.setdefault((group, key), deque()).append(waiting_id)
        if source == self.keys.inbox(group):
            self.delete(source, entry_id)
        return False

    def pass_turn(self, group: str, key: bytes, origin: str) -> None:
        """turns.lua: gives the turn to the next in line, if it was that of `origin`."""
        if not key or self._turns.get((group, key)) != origin:
            return
        line = self._lines.get((group, key), deque())
        while line:
            waiting_id = line.popleft()
            if waiting_id in self.waiting:  # or it was called off while it stood in line
                target, fields = self.unwait(waiting_id)
                carried = Message.decode(b"0-0", fields).carried
                assert carried is not None
                self._turns[group, key] = carried.origin
                self.append(target, fields)
                return
        del self._turns[group, key]

    def now(self) -> int:
        """The clock, in ms since 1970."""
        return self._clock.ms


def fields_of(entry: Entry) -> dict[bytes, bytes]:
    """An entry's fields by their names."""
    return dict(zip(entry[1][::2], entry[1][1::2], strict=True))


def as_entry(fields: dict[str, Any]) -> list[bytes]:
    """A foreign entry's names and values, flat."""
    return [part for name, value in fields.items() for part in (name.encode(), str(value).encode())]
