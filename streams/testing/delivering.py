"""Delivering: the steps on the way of an event, each doing what the Lua script of its name says in its header."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from streams.testing.limiting import Limits
from streams.testing.move import Arguments, Move, field_of, line_of, short, whose_turn
from streams.testing.store import Group, Hash, Pending, Stream, Waiting, Zset, read_id, write_id

if TYPE_CHECKING:
    from streams.testing.store import Store

_SETTLED: Final = ("acked", "dead", "cancelled", "expired", "returned")


def publish(store: Store, keys: list[str], given: list[bytes]) -> list[Any]:
    """publish.lua."""
    producer, due, waiting, registry, *streams, books = keys
    arguments, move = Arguments(given), Move(store, books, registry)
    sequence = arguments.take()
    arguments.several(2)
    names = arguments.several(arguments.number())
    taken: list[Any] = []
    position = 0
    while arguments.left:
        key, when, once, ttl = streams[arguments.number() - 1], arguments.take(), arguments.text(), arguments.take()
        values = arguments.several(len(names))
        fields = [part for pair in zip(names, values, strict=True) for part in pair]
        if not values[-1]:
            del fields[-2:]
        id, position = values[1], position + 1
        if once:
            first = store.find(once, bytes)
            if first is not None:
                taken += [position, first]
                continue
            store.keys[once], store.until[once] = id, move.now + int(ttl)
        if not when:
            move.publish(key, fields)
            continue
        store.published.append(list(fields))
        at = int(when[1:]) + (move.now if when.startswith(b"+") else 0)
        move.wait(due, waiting, id, at, key, fields)
    move.close()
    store.keys[producer] = sequence
    return taken


def settle(store: Store, keys: list[str], given: list[bytes]) -> list[int]:
    """settle.lua."""
    return _Settling(store, keys, Arguments(given)).run()


class _Settling:
    def __init__(self, store: Store, keys: list[str], arguments: Arguments) -> None:
        self.due, self.waiting, self.dead, self.history, registry, *self.streams, books = keys
        self.store = store
        self.arguments = arguments
        self.move = Move(store, books, registry)
        self.group, self.consumer = arguments.take(), arguments.take()
        arguments.take()  # how long a history may be: here, as long as the test is
        self.turns, self.limits = arguments.text(), arguments.text()
        self.left: set[str] = set()  # limits that somebody has left
        self.position = 0
        self.lost: list[int] = []
        self.shared: list[tuple[str, list[bytes]]] = []

    def run(self) -> list[int]:
        take = self.arguments
        while take.left:
            source, delete = self._stream(), take.take() == b"1"
            take.several(2)
            for _ in range(take.number()):
                count = take.number()
                for id in take.several(take.number()):
                    if self._is_mine(source, id, count):
                        self.move.acknowledge(source, self.group, id, "acked", delete=delete)
            for _ in range(take.number()):
                self._one(source, delete=delete)
        for name in self.left:
            Limits(self.move, self.due, self.waiting, self.limits).serve(name)
        self.move.close()
        return self.lost

    def _stream(self) -> str:
        return self.streams[self.arguments.number() - 1]

    def _is_mine(self, source: str, id: bytes, count: int) -> bool:
        self.position += 1
        stream = self.store.find(source, Stream)
        group = stream.groups.get(self.group) if stream else None
        held = group.pending.get(read_id(id)) if group else None
        mine = held is not None and (held.consumer, held.count) == (self.consumer, count)
        if not mine:
            self.lost.append(self.position)
        return mine

    def _one(self, source: str, *, delete: bool) -> None:
        take, move = self.arguments, self.move
        id, count = take.take(), take.number()
        key, whose = (take.take(), take.take()) if self.turns else (b"", b"")
        limit = take.text() if self.limits else ""
        operation, mine = take.take(), self._is_mine(source, id, count)
        what, over = "acked", operation not in (b"w", b"b")
        match operation:
            case b"c":
                what = "cancelled"
            case b"x":
                what = "expired"
            case b"f":
                follow_ups = [(self._stream(), take.fields()) for _ in range(take.number())]
                if mine:
                    self._publish(follow_ups)
            case b"g":
                number = take.number()
                if number:
                    self.shared = [(self._stream(), take.fields()) for _ in range(number)]
                if mine:
                    self._publish(self.shared)
                    self.shared = []
            case b"w":
                what = "returned"
                at, waiting_id, (target, *fields) = move.now + take.number(), take.take(), take.fields()
                if mine:
                    move.wait(self.due, self.waiting, waiting_id, at, target.decode(), fields)
            case b"d":
                what, fields = "dead", take.fields()
                if mine:
                    self.store.stream(self.dead).add(fields, move.now)
            case _:
                what, inbox, fields = "returned", self._stream(), take.fields()
                if mine:
                    move.append(inbox, fields)
        record = take.fields()
        if mine:
            move.note(self.history, record)
            if over and key:
                move.pass_turn(self.due, self.waiting, self.turns, key, whose)
            move.acknowledge(source, self.group, id, what, delete=delete)
            if limit and Limits(move, self.due, self.waiting, self.limits).leave(limit, source, id):
                self.left.add(limit)

    def _publish(self, messages: list[tuple[str, list[bytes]]]) -> None:
        for key, fields in messages:
            self.move.publish(key, fields)


def release_due(store: Store, keys: list[str], given: list[bytes]) -> list[Any]:
    """release_due.lua."""
    due, waiting, registry, books = keys
    move, set, held = Move(store, books, registry), store.zset(due), store.make(waiting, Waiting)
    ready = [member for at, member in list(set)[: int(given[0])] if at <= move.now]
    for member in ready:
        target, fields = held.pop(member)
        move.append(target, fields)
        move.book(f"released {short(target)}", set.remove(member))
    move.close()
    at, head = next(iter(set), (move.now - 1, b""))
    return [len(ready), max(-1, at - move.now), 0, head]


def read_group(
    store: Store, group: bytes, consumer: bytes, sources: list[str], most: int
) -> list[tuple[str, list[list[Any]]]]:
    """XREADGROUP with `>`: what nobody in the group has read, into a consumer's hands."""
    found = []
    for source in sources:
        stream = store.stream(source)
        held = stream.group(group, source)
        ids = stream.between((held.last[0], held.last[1] + 1), (2**64, 0))[:most]
        for id in ids:
            held.pending[id] = Pending(consumer, store.now(), 1)
            held.last = id
        if ids:
            found.append((source, [[write_id(id), list(stream.entries[id])] for id in ids]))
    return found


def read_in_turn(store: Store, keys: list[str], given: list[bytes]) -> list[Any]:
    """read_in_turn.lua."""
    due, waiting, turns, inbox, *sources, books = keys
    group, consumer, most, never = given
    move, number, found = Move(store, books), 0, []
    for source, entries in read_group(store, group, consumer, sources, int(most)):
        kept = []
        for id, fields in entries:
            number += 1
            key, own = field_of(fields, b"partitionkey"), whose_turn(fields, source, id)
            if not key or store.make(turns, Hash).setdefault(key, own) == own:
                kept.append([id, fields])
                continue
            waiting_id = move.park(group.decode(), inbox, due, waiting, source, (id, fields), int(never))
            store.make(line_of(turns, key), list).append(waiting_id)
        if kept:
            found.append([source.encode(), kept])
    move.close()
    return [number, found, []]


def ensure_groups(store: Store, keys: list[str], given: list[bytes]) -> int:
    """ensure_groups.lua; a stream that somebody else made is there for the group from its beginning."""
    registry, *streams, books = keys
    group, made = given[0], 0
    for key in streams:
        stream = store.stream(key)
        if group not in stream.groups:
            stream.groups[group] = Group()
            made += 1
            if ":stream:" in key:
                noted, place = store.make(books, Hash), short(key)
                settled = sum(int(noted.get(f"{w} {group.decode()} {place}".encode(), 0)) for w in _SETTLED)
                missed = stream.added - len(stream.ids) - settled
                noted[f"missed {group.decode()} {place}".encode()] = b"%d" % missed
                if missed and stream.ids:
                    noted[f"began {group.decode()} {place}".encode()] = write_id(stream.ids[0])
    store.make(registry, Hash)[group] = " ".join(streams).encode()
    store.make(books, Hash)[b"seen " + group] = b"%d" % (store.now() // 1000)
    return made


def reclaim(store: Store, keys: list[str], given: list[bytes]) -> list[Any]:
    """reclaim.lua, of everything that others hold: here nobody else is alive."""
    group, consumer, _, _, _, suspect = given
    stream, taken = store.stream(keys[0]), []
    for id, held in stream.group(group, keys[0]).pending.items():
        if held.consumer == consumer:
            continue
        fields = stream.entries[id]
        failures, deliveries = (int(field_of(fields, name) or 0) for name in (b"failures", b"deliveries"))
        counted = int(held.count + max(0, deliveries - failures) < int(suspect))
        held.consumer, held.at, held.count = consumer, store.now(), held.count + counted
        taken.append([write_id(id), held.count, counted, list(fields)])
    return [b"0-0", [], taken]


def begin(store: Store, keys: list[str], given: list[bytes]) -> int:
    """begin.lua."""
    group, consumer, id, count = given
    held = store.stream(keys[0]).group(group, keys[0]).pending.get(read_id(id))
    if held is None or (held.consumer, held.count) != (consumer, int(count)):
        return 0
    held.count += 1
    return 1


def due_of(store: Store, due: str) -> int | None:
    """The ms since 1970 at which the next message that waits is due; None without one."""
    set = store.find(due, Zset)
    return next((at for at, _ in set), None) if set is not None else None
