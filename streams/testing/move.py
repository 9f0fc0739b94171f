"""Move: one step that changes the store, with its bookkeeping: what append.lua, books.lua and turns.lua are to Redis.

What is not in here is in no other step either: a step reads its arguments in the order of its script's header.
"""

from __future__ import annotations

from collections import Counter
from hashlib import sha1
from typing import TYPE_CHECKING

from streams.testing.store import Group, Hash, Stream, Waiting, Zset, read_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streams.testing.store import Store


class Arguments:
    """ARGV, taken from the front."""

    def __init__(self, given: Sequence[bytes]) -> None:
        self._given = given
        self._at = 0

    @property
    def left(self) -> bool:
        """Whether there are more."""
        return self._at < len(self._given)

    def take(self) -> bytes:
        """The next one."""
        self._at += 1
        return self._given[self._at - 1]

    def text(self) -> str:
        """The next one as text."""
        return self.take().decode()

    def number(self) -> int:
        """The next one as a number."""
        return int(self.take())

    def several(self, count: int) -> list[bytes]:
        """The next ones."""
        self._at += count
        return list(self._given[self._at - count : self._at])

    def fields(self) -> list[bytes]:
        """FIELDS: their number, then names and values."""
        return self.several(self.number())


class Move:
    """One step. `close` enters it into the books."""

    def __init__(self, store: Store, books: str, registry: str = "") -> None:
        self.store = store
        self.now = store.now()
        self._books = books
        self._registry = registry
        self._noted: Counter[str] = Counter()
        self._added: Counter[str] = Counter()
        self._created: list[str] = []

    def book(self, what: str, number: int) -> None:
        """Notes so many more of something."""
        self._noted[what] += number

    def close(self) -> None:
        """Writes the books."""
        self.store.moves += bool(self._noted.total() or self._added)
        for key, number in self._added.items():
            self.book(f"published {short(key)}", number)
        for key in self._created:
            self.store.make(self._books, Hash).pop(f"removed {short(key)}".encode(), None)
        for what, number in self._noted.items():
            if number:
                self.store.bump(self._books, what.encode(), number)

    def append(self, key: str, fields: list[bytes]) -> bytes:
        """Adds an entry; a stream that this makes has every registered group at 0 first."""
        stream = self.store.find(key, Stream)
        if stream is None:
            stream = self.store.stream(key)
            self._created.append(key)
            for group, sources in self.store.hash(self._registry).items():
                if key in sources.decode().split():
                    stream.groups[group] = Group()
        self._added[key] += 1
        return stream.add(list(fields), self.now)

    def publish(self, key: str, fields: list[bytes]) -> None:
        """Adds a message that is new."""
        self.store.published.append(list(fields))
        self.append(key, fields)

    def note(self, history: str, record: list[bytes]) -> None:
        """Adds a line to a history."""
        if record:
            self.store.stream(history).add(record, self.now)

    def wait(self, due: str, waiting: str, id: bytes, at: int, target: str, fields: list[bytes]) -> None:
        """Lets a message wait for `target` until `at` (ms since 1970)."""
        self.store.make(waiting, Waiting)[id] = (target, list(fields))
        self.book(f"waited {short(target)}", self.store.make(due, Zset).add(id, at))

    def acknowledge(self, source: str, group: bytes, id: bytes, what: str, *, delete: bool) -> None:
        """Takes an entry out of the group's hands, and out of the stream if it is its inbox."""
        stream = self.store.stream(source)
        self.book(f"{what} {group.decode()} {short(source)}", stream.acknowledge(group, read_id(id)))
        if delete:
            stream.delete(read_id(id))

    def park(
        self, group: str, inbox: str, due: str, waiting: str, source: str, entry: tuple[bytes, list[bytes]],
        score: int, more: Sequence[tuple[bytes, bytes]] = (),
    ) -> bytes:  # fmt: skip
        """Lets what is in hand wait for something else than a time, and come back by the inbox; returns its waiting id,
        which is the one a retry of its first delivery had.
        """
        id, found = entry
        origin = field_of(found, b"origin")
        named, fields = _name_of(group, source, id), dict(zip(found[::2], found[1::2], strict=True))
        if not origin:
            fields |= {b"origin": source.encode() + b" " + id, b"failures": b"0", b"deliveries": b"0"}
            fields.setdefault(b"id", id)  # a foreign entry's id is its event id
        elif field_of(found, b"replays") in (b"", b"0"):
            first, _, at = origin.decode().rpartition(" ")
            original = _name_of(group, first, at.encode())
            if original not in self.store.make(waiting, Waiting):
                named = original
        fields |= dict(more)
        self.wait(due, waiting, named, score, inbox, [part for pair in fields.items() for part in pair])
        self.acknowledge(source, group.encode(), id, "returned", delete=source == inbox)
        return named

    def leave_line(self, due: str, waiting: str, id: bytes) -> tuple[str, bytes, list[bytes]] | None:
        """Lets the first in a line go to where it comes back from; None when it was called off meanwhile."""
        found = self.store.make(waiting, Waiting).pop(id, None)
        if found is None:
            return None
        target, fields = found
        entry = self.append(target, fields)
        self.book(f"released {short(target)}", self.store.zset(due).remove(id))
        return target, entry, fields

    def pass_turn(self, due: str, waiting: str, turns: str, key: bytes, whose: bytes) -> None:
        """If it is their turn, the next in line is added to the group's inbox, and it is its turn."""
        holders = self.store.hash(turns)
        if holders.get(key) != whose:
            return
        name = line_of(turns, key)
        line = self.store.make(name, list)
        del holders[key]
        while line and key not in holders:
            if (left := self.leave_line(due, waiting, line.pop(0))) is not None:
                holders[key] = whose_turn(left[2])
        if not line:
            self.store.drop(name)
        if not holders:
            self.store.drop(turns)


def whose_turn(fields: list[bytes], source: str = "", id: bytes = b"") -> bytes:
    """Whose turn of its key a message has: its origin's, and `#N` of its Nth replay."""
    origin, replays = field_of(fields, b"origin"), field_of(fields, b"replays")
    if not origin:
        return source.encode() + b" " + id
    return origin if replays in (b"", b"0") else origin + b"#" + replays


def _name_of(group: str, source: str, id: bytes) -> bytes:
    return f"{group} {short(source).removeprefix('stream:')} ".encode() + id


def line_of(turns: str, key: bytes) -> str:
    """The key of the line behind a turn."""
    return f"{turns}:{sha1(key, usedforsecurity=False).hexdigest()}"


def field_of(fields: list[bytes], name: bytes) -> bytes:
    """The value of a field, empty without one."""
    return next((fields[at + 1] for at in range(0, len(fields), 2) if fields[at] == name), b"")


def short(key: str) -> str:
    """A key without its hash tag, as the books name it."""
    return key.partition("}:")[2] or key
