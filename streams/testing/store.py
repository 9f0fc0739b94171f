"""Store: what Redis would hold, as Python's own types: streams and their groups, sorted sets, hashes, sets, strings."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, TypeVar

from redis.exceptions import ResponseError

Id = tuple[int, int]
"""An entry id: ms since 1970 and a number within it."""

ZERO: Final[Id] = (0, 0)
LAST: Final[Id] = (2**64 - 1, 2**64 - 1)

T = TypeVar("T", bound="Stream | Zset | Hash | Waiting | Names | bytes | list[bytes]")


class Hash(dict[bytes, bytes]):
    """A hash."""


class Waiting(dict[bytes, tuple[str, list[bytes]]]):
    """The hash of what waits: waiting id -> where it goes, and its fields."""


class Names(set[bytes]):
    """A set."""


class Zset:
    """A sorted set."""

    def __init__(self) -> None:
        self.scores: dict[bytes, int] = {}
        self._sorted: list[tuple[int, bytes]] = []

    def add(self, member: bytes, score: int) -> int:
        """Puts a member at a score; returns 1 when it is new."""
        is_new = not self.remove(member)
        self.scores[member] = score
        insort(self._sorted, (score, member))
        return int(is_new)

    def remove(self, member: bytes) -> int:
        """Takes a member out; returns how many there were."""
        score = self.scores.pop(member, None)
        if score is None:
            return 0
        del self._sorted[bisect_left(self._sorted, (score, member))]
        return 1

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        return iter(self._sorted)

    def __len__(self) -> int:
        return len(self._sorted)


@dataclass(slots=True)
class Pending:
    """An entry in somebody's hands: whose, since when (ms), and how often it was handed over."""

    consumer: bytes
    at: int
    count: int


@dataclass(slots=True)
class Group:
    """A consumer group's place in one stream."""

    last: Id = ZERO
    pending: dict[Id, Pending] = field(default_factory=dict)


class Stream:
    """A stream: entries in the order of their ids, and the groups that read it."""

    def __init__(self) -> None:
        self.ids: list[Id] = []
        self.entries: dict[Id, list[bytes]] = {}
        self.groups: dict[bytes, Group] = {}
        self.last = ZERO
        self.deleted = ZERO
        self.added = 0

    def add(self, fields: list[bytes], ms: int) -> bytes:
        """Appends an entry; returns its id."""
        self.last = (ms, 0) if ms > self.last[0] else (self.last[0], self.last[1] + 1)
        self.ids.append(self.last)
        self.entries[self.last] = fields
        self.added += 1
        return write_id(self.last)

    def delete(self, id: Id) -> int:
        """Removes an entry; returns how many there were."""
        if id not in self.entries:
            return 0
        del self.entries[id], self.ids[bisect_left(self.ids, id)]
        self.deleted = max(self.deleted, id)
        return 1

    def between(self, first: Id, last: Id) -> list[Id]:
        """The ids from `first` to `last`, both included."""
        return self.ids[bisect_left(self.ids, first) : bisect_right(self.ids, last)]

    def group(self, name: bytes, key: str) -> Group:
        """A group; raises what Redis answers for one that is not there."""
        if name not in self.groups:
            raise ResponseError(f"NOGROUP No such consumer group '{name.decode()}' for key name '{key}'")
        return self.groups[name]

    def acknowledge(self, group: bytes, id: Id) -> int:
        """Takes an entry out of a group's hands; returns how many it was."""
        found = self.groups.get(group)
        return int(found is not None and found.pending.pop(id, None) is not None)


class Store:
    """All keys; `now` says the ms since 1970."""

    def __init__(self, now: Callable[[], int]) -> None:
        self.now = now
        self.keys: dict[str, Stream | Zset | Hash | Waiting | Names | bytes | list[bytes]] = {}
        self.until: dict[str, int] = {}  # ms since 1970 at which a key ends
        self.moves = 0  # steps that changed something
        self.published: list[list[bytes]] = []  # every message that somebody published, in order

    def is_there(self, key: str) -> bool:
        """Whether there is anything at a key."""
        if key in self.until and self.until[key] <= self.now():
            self.drop(key)
        return key in self.keys

    def find(self, key: str, kind: type[T]) -> T | None:
        """What is at a key, or None. Raises what Redis answers when it is of another kind."""
        found = self.keys[key] if self.is_there(key) else None
        if found is not None and not isinstance(found, kind):
            raise ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")
        return found

    def make(self, key: str, kind: type[T]) -> T:
        """What is at a key, made if it is missing."""
        found = self.find(key, kind)
        if found is None:
            found = self.keys[key] = kind()
        return found

    def drop(self, key: str) -> int:
        """Removes a key; returns how many there were."""
        self.until.pop(key, None)
        return int(self.keys.pop(key, None) is not None)

    def stream(self, key: str) -> Stream:
        """A stream, made if it is missing."""
        return self.make(key, Stream)

    def hash(self, key: str) -> Hash:
        """A hash; one that is missing reads as empty, and is not made."""
        return self.find(key, Hash) or Hash()

    def zset(self, key: str) -> Zset:
        """A sorted set, made if it is missing."""
        return self.make(key, Zset)

    def bump(self, key: str, name: bytes, by: int) -> int:
        """Adds to a number in a hash; returns it."""
        found = self.make(key, Hash)
        number = int(found.get(name, b"0")) + by
        found[name] = b"%d" % number
        return number


def read_id(text: bytes | str, missing: int = 0) -> Id:
    """An entry id from its text; what is left out of it is `missing`."""
    first, _, second = (text.decode() if isinstance(text, bytes) else text).partition("-")
    return int(first), int(second) if second else missing


def read_range(first: bytes, last: bytes) -> tuple[Id, Id]:
    """The ids at the ends of a range, as XRANGE takes them: `-`, `+`, `(ID`."""
    low = ZERO if first == b"-" else read_id(first.lstrip(b"("))
    high = LAST if last == b"+" else read_id(last.lstrip(b"("), 2**64 - 1)
    if first.startswith(b"("):
        low = (low[0], low[1] + 1)
    if last.startswith(b"("):
        high = (high[0], high[1] - 1) if high[1] else (high[0] - 1, 2**64 - 1)
    return low, high


def write_id(id: Id) -> bytes:
    """The text of an entry id."""
    return b"%d-%d" % id
