"""Limiting: the steps of handlers with a limit: asking, standing in line, being let in, each as its Lua script says."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from streams.admission import GOOD_FOR
from streams.keys import NEVER_MS
from streams.testing.move import Arguments, Move
from streams.testing.store import Hash, Names, Zset, read_id

if TYPE_CHECKING:
    from streams.testing.store import Store


class Limits:
    """The limits of one group, in one step: limits.lua."""

    def __init__(self, move: Move, due: str, waiting: str, key: str) -> None:
        self._move = move
        self._store = move.store
        self._due, self._waiting, self._key = due, waiting, key

    def declare(self, name: str, what: bytes, interval: bytes, burst: bytes, most: bytes) -> None:
        """Notes what a limit is."""
        told = {b"what": what, b"interval": interval, b"burst": burst, b"most": most}
        self._store.make(self._place(name), Hash).update(told)

    def ask(self, name: str, holder: bytes) -> bool:
        """Whether it may start now. Who holds a place already, since its line was served, may."""
        since = self._held(name).scores.get(holder)
        if since is not None:
            interval, most = self._interval(name), self._number(name, b"most")
            is_good = interval == 0 or self._move.now - since <= max(GOOD_FOR * 1000, interval)
            if not most or not is_good:
                self._held(name).remove(holder)
            if is_good:
                return True
        if self._ring(name) or self._is_full(name) or self._opens_in(name) > 0:
            return False
        if self._number(name, b"most"):
            self._held(name).add(holder, self._move.now)
        self._take_token(name)
        return True

    def join(self, name: str, key: bytes, waiting_id: bytes) -> None:
        """Stands in line."""
        line = self._store.make(self._line(name, key), list)
        line.append(waiting_id)
        if len(line) == 1:
            self._store.make(self._place(name) + ":ring", list).append(key)

    def leave(self, name: str, source: str, id: bytes) -> bool:
        """Gives a place back; says whether it was held."""
        return bool(self._held(name).remove(source.encode() + b" " + id))

    def serve(self, name: str) -> None:
        """Lets in who stands in line, one key after the other, as far as the limit admits."""
        while (ring := self._ring(name)) and not self._is_full(name) and self._opens_in(name) <= 0:
            key = ring.pop(0)
            line = self._store.make(self._line(name, key), list)
            left = self._move.leave_line(self._due, self._waiting, line.pop(0))
            if left is not None:
                target, entry, _ = left
                self._held(name).add(target.encode() + b" " + entry, self._move.now)
                self._take_token(name)
            if line:
                ring.append(key)
            else:
                self._store.drop(self._line(name, key))
            if not ring:
                self._store.drop(self._place(name) + ":ring")
        self._close(name)

    def _close(self, name: str) -> None:
        stands, using = bool(self._ring(name)), self._store.zset(self._key)
        if stands or len(self._held(name)):
            waits = stands and not self._is_full(name)
            using.add(name.encode(), math.ceil(self._move.now + self._opens_in(name)) if waits else NEVER_MS)
        else:
            using.remove(name.encode())

    def opens_at(self) -> int | None:
        """The ms since 1970 at which a line may be served; None when none waits for time to pass."""
        return next((at for at, _ in self._store.zset(self._key) if at < NEVER_MS), None)

    def _place(self, name: str) -> str:
        return f"{self._key}:{name}"

    def _line(self, name: str, key: bytes) -> str:
        return f"{self._place(name)}:line:{key.hex()}"

    def _held(self, name: str) -> Zset:
        return self._store.zset(self._place(name) + ":held")

    def _ring(self, name: str) -> list[bytes]:
        return self._store.find(self._place(name) + ":ring", list) or []

    def _number(self, name: str, field: bytes) -> float:
        return float(self._store.hash(self._place(name)).get(field, b"0"))

    def _interval(self, name: str) -> float:
        return self._number(name, b"interval")

    def _is_full(self, name: str) -> bool:
        most = self._number(name, b"most")
        return 0 < most <= len(self._held(name))

    def _opens_in(self, name: str) -> float:
        if self._interval(name) == 0:
            return 0.0
        ahead = (self._number(name, b"burst") - 1) * self._interval(name)
        return max(0.0, self._number(name, b"tat") - ahead - self._move.now)

    def _take_token(self, name: str) -> None:
        if self._interval(name) > 0:
            tat = max(self._move.now, self._number(name, b"tat")) + self._interval(name)
            self._store.make(self._place(name), Hash)[b"tat"] = repr(tat).encode()


def admit(store: Store, keys: list[str], given: list[bytes]) -> list[int]:
    """admit.lua."""
    due, waiting, registry, inbox, limits_key, *sources, books = keys
    arguments, move = Arguments(given), Move(store, books, registry)
    group, consumer = arguments.text(), arguments.take()
    arguments.take()
    score, names = arguments.number(), list[str]()
    limits = Limits(move, due, waiting, limits_key)
    for _ in range(arguments.number()):
        names.append(arguments.text())
        limits.declare(names[-1], *arguments.several(4))
    answers = []
    while arguments.left:
        source, id, count = sources[arguments.number() - 1], arguments.take(), arguments.number()
        name, key, deliveries = names[arguments.number() - 1], arguments.take(), arguments.take()
        stream = store.stream(source)
        held = stream.group(group.encode(), source).pending.get(read_id(id))
        if held is None or (held.consumer, held.count) != (consumer, count):
            answers.append(-1)
        elif limits.ask(name, source.encode() + b" " + id):
            answers.append(1)
        else:
            fields = stream.entries[read_id(id)]
            more = [(b"deliveries", deliveries), (b"limitedby", name.encode())]
            parked = move.park(group, inbox, due, waiting, source, (id, fields), score, more)
            limits.join(name, key, parked)
            answers.append(0)
    for name in names:
        limits.serve(name)
    move.close()
    return [_wait(limits, move), *answers]


def serve_limits(store: Store, keys: list[str], given: list[bytes]) -> int:
    """serve_limits.lua."""
    due, waiting, registry, limits_key, paused, books = keys
    move = Move(store, books, registry)
    limits = Limits(move, due, waiting, limits_key)
    if given[0] in (store.find(paused, Names) or ()):
        return -1
    for name in [name for at, name in store.zset(limits_key) if at <= move.now]:
        limits.serve(name.decode())
    move.close()
    return _wait(limits, move)


def _wait(limits: Limits, move: Move) -> int:
    at = limits.opens_at()
    return -1 if at is None else max(0, at - move.now)
