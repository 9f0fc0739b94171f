"""Commands: the Redis commands that the engine's looks use, and those that processors commonly keep own keys with.

Replies are what Redis sends, before redis-py reads them. Anything else is refused by name: a wrong answer would make a
test lie.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from redis.exceptions import ResponseError

from streams.errors import StreamsError
from streams.testing.store import Hash, Names, Store, Stream, Zset, read_range, write_id

_INFO: Final = b"redis_version:in-memory\r\nredis_mode:standalone\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\n"


class Commands:
    """Answers plain commands from a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, Callable[..., Any]] = {
            "XADD": self.xadd, "XLEN": self.xlen, "XRANGE": self.xrange, "XREVRANGE": self.xrevrange,
            "XPENDING": self.xpending, "XINFO STREAM": self.xinfo_stream, "XINFO GROUPS": self.xinfo_groups,
            "XINFO CONSUMERS": self.xinfo_consumers,
            "HGET": self.hget, "HGETALL": self.hgetall, "HKEYS": self.hkeys, "HVALS": self.hvals,
            "HSET": self.hset, "HEXISTS": self.hexists,
            "ZRANGE": self.zrange, "ZCOUNT": self.zcount, "ZCARD": self.zcard,
            "ZSCORE": self.zscore, "ZSCAN": self.zscan,
            "SISMEMBER": self.sismember, "SMEMBERS": self.smembers,
            "GET": self.get, "SET": self.set, "DEL": self.delete, "INCRBY": self.incrby, "EXISTS": self.exists,
            "PEXPIRE": self.pexpire, "EXPIRE": self.expire, "PTTL": self.pttl, "TTL": self.ttl, "TYPE": self.type,
            "TIME": self.time, "INFO": lambda *_: _INFO, "CONFIG GET": lambda *_: [b"appendfsync", b"always"],
        }  # fmt: skip

    def answer(self, name: str, arguments: list[bytes]) -> Any:
        """Answers one command; raises `StreamsError` for one that is not modelled."""
        if name in ("XINFO", "CONFIG"):
            name = f"{name} {arguments[0].decode().upper()}"
            arguments = arguments[1:]
        if name == "ZREVRANGE":
            name, arguments = "ZRANGE", [*arguments, b"REV"]
        if name == "INCR":
            name, arguments = "INCRBY", [*arguments, b"1"]
        known = self._known.get(name)
        if known is None:
            raise StreamsError(
                f"the harness has no Redis command {name}; override the dependency that sends it, or test that part "
                "with a real Redis"
            )
        return known(arguments[0].decode() if arguments else "", *arguments[1:])

    def xadd(self, key: str, *given: bytes) -> bytes:
        """XADD KEY * name value ...: a foreign publisher."""
        if given[:1] != (b"*",):
            raise StreamsError("the harness gives entries their ids itself: XADD KEY * name value ...")
        return self._store.stream(key).add(list(given[1:]), self._store.now())

    def _stream(self, key: str) -> Stream:
        found = self._store.find(key, Stream)
        if found is None:
            raise ResponseError("no such key")
        return found

    def xlen(self, key: str) -> int:
        """XLEN."""
        found = self._store.find(key, Stream)
        return len(found.ids) if found else 0

    def xrange(self, key: str, first: bytes, last: bytes, *count: bytes, backward: bool = False) -> list[Any]:
        """XRANGE."""
        found = self._store.find(key, Stream) or Stream()
        ids = found.between(*read_range(first, last))
        ids = (ids[::-1] if backward else ids)[: int(count[1]) if count else None]
        return [[write_id(id), list(found.entries[id])] for id in ids]

    def xrevrange(self, key: str, last: bytes, first: bytes, *count: bytes) -> list[Any]:
        """XREVRANGE."""
        return self.xrange(key, first, last, *count, backward=True)

    def xpending(self, key: str, group: bytes, first: bytes, last: bytes, count: bytes) -> list[Any]:
        """XPENDING with a range."""
        low, high = read_range(first, last)
        pending = self._stream(key).group(group, key).pending
        return [
            [write_id(id), held.consumer, self._store.now() - held.at, held.count]
            for id, held in sorted(pending.items())
            if low <= id <= high
        ][: int(count)]

    def xinfo_stream(self, key: str) -> list[Any]:
        """XINFO STREAM."""
        found = self._stream(key)
        ends = [[write_id(id), list(found.entries[id])] for id in (found.ids[0], found.ids[-1])] if found.ids else []
        return [
            b"length", len(found.ids), b"radix-tree-keys", 1, b"radix-tree-nodes", 2,
            b"last-generated-id", write_id(found.last), b"max-deleted-entry-id", write_id(found.deleted),
            b"entries-added", found.added, b"groups", len(found.groups),
            b"first-entry", ends[0] if ends else None, b"last-entry", ends[1] if ends else None,
        ]  # fmt: skip

    def xinfo_groups(self, key: str) -> list[Any]:
        """XINFO GROUPS."""
        found = self._stream(key)
        return [
            [b"name", name, b"consumers", 1, b"pending", len(group.pending), b"last-delivered-id",
             write_id(group.last), b"entries-read", 0,
             b"lag", len(found.between((group.last[0], group.last[1] + 1), (2**64, 0)))]
            for name, group in found.groups.items()
        ]  # fmt: skip

    def xinfo_consumers(self, key: str, group: bytes) -> list[Any]:
        """XINFO CONSUMERS."""
        counts: dict[bytes, int] = {}
        for held in self._stream(key).group(group, key).pending.values():
            counts[held.consumer] = counts.get(held.consumer, 0) + 1
        return [[b"name", name, b"pending", count, b"idle", 0] for name, count in counts.items()]

    def hget(self, key: str, field: bytes) -> bytes | None:
        """HGET."""
        return self._store.hash(key).get(field)

    def hgetall(self, key: str) -> list[bytes]:
        """HGETALL."""
        return [part for pair in self._store.hash(key).items() for part in pair]

    def hkeys(self, key: str) -> list[bytes]:
        """HKEYS."""
        return list(self._store.hash(key))

    def hvals(self, key: str) -> list[bytes]:
        """HVALS."""
        return list(self._store.hash(key).values())

    def hset(self, key: str, *pairs: bytes) -> int:
        """HSET."""
        found = self._store.make(key, Hash)
        before = len(found)
        found.update(zip(pairs[::2], pairs[1::2], strict=True))
        return len(found) - before

    def hexists(self, key: str, field: bytes) -> int:
        """HEXISTS."""
        return int(field in self._store.hash(key))

    def zrange(self, key: str, first: bytes, last: bytes, *options: bytes) -> list[bytes]:
        """ZRANGE by position."""
        set = self._store.find(key, Zset)
        found = list(set) if set is not None else []
        found = found[::-1] if b"REV" in options else found
        end = int(last)
        found = found[int(first) : end + 1 if end >= 0 else len(found) + end + 1]
        if b"WITHSCORES" in options:
            return [part for score, member in found for part in (member, b"%d" % score)]
        return [member for _, member in found]

    def zcount(self, key: str, low: bytes, high: bytes) -> int:
        """ZCOUNT."""
        set = self._store.find(key, Zset)
        return sum(float(low) <= score <= float(high) for score, _ in set) if set is not None else 0

    def zcard(self, key: str) -> int:
        """ZCARD."""
        set = self._store.find(key, Zset)
        return len(set) if set is not None else 0

    def zscore(self, key: str, member: bytes) -> bytes | None:
        """ZSCORE."""
        set = self._store.find(key, Zset)
        score = set.scores.get(member) if set is not None else None
        return None if score is None else b"%d" % score

    def zscan(self, key: str, _: bytes, *options: bytes) -> list[Any]:
        """ZSCAN, all at once."""
        set, pattern = self._store.find(key, Zset), b"*"
        for name, value in zip(options[::2], options[1::2], strict=True):
            pattern = value if name.upper() == b"MATCH" else pattern
        prefix = pattern.removesuffix(b"*")
        members = [(member, score) for score, member in set or () if member.startswith(prefix)]
        return [b"0", [part for member, score in members for part in (member, b"%d" % score)]]

    def sismember(self, key: str, member: bytes) -> int:
        """SISMEMBER."""
        return int(member in (self._store.find(key, Names) or ()))

    def smembers(self, key: str) -> list[bytes]:
        """SMEMBERS."""
        return sorted(self._store.find(key, Names) or ())

    def get(self, key: str) -> bytes | None:
        """GET."""
        return self._store.find(key, bytes)

    def set(self, key: str, value: bytes, *options: bytes) -> bytes | None:
        """SET with NX, XX, GET, EX, PX, EXAT, PXAT."""
        before, now, until = self.get(key), self._store.now(), None
        flags = iter(options)
        names: list[str] = []
        for flag in flags:
            name = flag.decode().upper()
            names.append(name)
            if name in ("EX", "PX", "EXAT", "PXAT"):
                number = int(next(flags)) * (1000 if name.startswith("EX") else 1)
                until = number if name.endswith("AT") else now + number
        written = not (("NX" in names and before is not None) or ("XX" in names and before is None))
        if written:
            self._store.drop(key)
            self._store.keys[key] = value
            if until is not None:
                self._store.until[key] = until
        if "GET" in names:
            return before
        return b"OK" if written else None

    def delete(self, *keys: bytes | str) -> int:
        """DEL."""
        return sum(self._store.drop(key.decode() if isinstance(key, bytes) else key) for key in keys)

    def incrby(self, key: str, by: bytes) -> int:
        """INCRBY."""
        number = int(self.get(key) or 0) + int(by)
        self._store.keys[key] = b"%d" % number
        return number

    def exists(self, *keys: bytes | str) -> int:
        """EXISTS."""
        names = [key.decode() if isinstance(key, bytes) else key for key in keys]
        return sum(self._store.is_there(name) for name in names)

    def pexpire(self, key: str, ms: bytes) -> int:
        """PEXPIRE."""
        if not self._store.is_there(key):
            return 0
        self._store.until[key] = self._store.now() + int(ms)
        return 1

    def expire(self, key: str, seconds: bytes) -> int:
        """EXPIRE."""
        return self.pexpire(key, b"%d" % (int(seconds) * 1000))

    def pttl(self, key: str) -> int:
        """PTTL."""
        if not self._store.is_there(key):
            return -2
        return self._store.until[key] - self._store.now() if key in self._store.until else -1

    def ttl(self, key: str) -> int:
        """TTL."""
        left = self.pttl(key)
        return left if left < 0 else round(left / 1000)

    def type(self, key: str) -> bytes:
        """TYPE."""
        if not self._store.is_there(key):
            return b"none"
        kinds = {Stream: b"stream", Zset: b"zset", Names: b"set", bytes: b"string", list: b"list"}
        return kinds.get(type(self._store.keys[key]), b"hash")

    def time(self, *_: object) -> list[bytes]:
        """TIME, by the test's clock."""
        seconds, ms = divmod(self._store.now(), 1000)
        return [b"%d" % seconds, b"%d" % (ms * 1000)]
