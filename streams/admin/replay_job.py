"""Replay job: one replay from history in one partition, step by step.

Each step adds its messages to the group's inbox and moves the cursor in one script, so an interrupted replay resumes
where it was, and no message comes twice, however many processes run it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

import orjson

from streams import clock
from streams.admin import scripts
from streams.errors import NotFound, StreamsError
from streams.messages.message import Carried, decode
from streams.redis.entries import Entries, position
from streams.redis.keys import PRIORITIES
from streams.redis.refusal import refusing, unless_odd

if TYPE_CHECKING:
    from streams.redis.entries import Entry
    from streams.redis.partition import Partition

_CHUNK_BYTES: Final = 1024 * 1024
_SCANNED: Final = 1_000  # entries one step passes at most, so that a rare match does not keep the cursor back


class PartitionReplay:
    """The replays of one partition."""

    def __init__(self, partition: Partition) -> None:
        self.number = partition.number
        self._partition = partition
        self._keys = partition.keys
        self._redis = partition.redis
        self._entries = Entries(partition)

    async def ls(self) -> list[Replay]:
        """All that are remembered."""
        with refusing(self._partition.connections):
            found = await unless_odd(self._redis.hvals(self._keys.replays())) or ()
        return [job for raw in found if (job := _read(raw)) is not None]

    async def read(self, id: str) -> tuple[Replay, bytes] | None:
        """One, and how it is written; None if it is not here."""
        with refusing(self._partition.connections):
            raw = await self._redis.hget(self._keys.replays(), id)
        job = None if raw is None else _read(raw)
        return None if job is None else (job, raw)

    async def plan(self, job: Replay, first: str, last: str, found: set[str]) -> tuple[Span, ...]:
        """What of the job's stream is here, and how many of each lane match; their ids go into `found`."""
        counted = []
        with refusing(self._partition.connections):
            for span in await self._spans(job.stream, job.group, first, last):
                matched = 0
                async for entry in self._entries.forward(self._keys.named(span.stream), span.first, span.last):
                    if job.matches(entry):
                        matched += 1
                        found |= {decode(entry).id, entry[0].decode()}
                counted.append(replace(span, matched=matched))
        return tuple(counted)

    async def registered(self, group: str) -> list[str] | None:
        """The keys that a group reads here; None for a group that nobody has registered."""
        with refusing(self._partition.connections):
            sources = await self._redis.hget(self._keys.groups(), group)
        return None if sources is None else self._keys.registry({group.encode(): sources}).get(group, [])

    async def next(self, job: Replay, size: int) -> tuple[Replay, list[list[bytes]]]:
        """The job one step further, and the messages of the step."""
        if job.span >= len(job.spans):
            return replace(job, state="done", updated_at=stamp()), []
        span = job.spans[job.span]
        key, cursor = self._keys.named(span.stream), job.cursor
        start = f"({cursor}" if cursor else span.first
        messages: list[list[bytes]] = []
        scanned = total = 0
        async for entry in self._entries.forward(key, start, span.last, most=_SCANNED):
            scanned += 1
            cursor = entry[0].decode()
            if job.matches(entry):
                carried = Carried(origin=f"{key} {cursor}", replays=1)
                messages.append(decode(entry).encode_back(carried))
                total += len(decode(entry).data)
                if len(messages) >= size or total >= _CHUNK_BYTES:
                    break
        else:
            if scanned < _SCANNED:  # the end of this span
                done = job.span + 1 == len(job.spans)
                return replace(
                    job,
                    state="done" if done else "running",
                    replayed=job.replayed + len(messages),
                    span=job.span + 1,
                    cursor="",
                    updated_at=stamp(),
                ), messages
        return replace(job, replayed=job.replayed + len(messages), cursor=cursor, updated_at=stamp()), messages

    async def step(self, id: str, before: bytes, after: bytes, group: str, messages: Sequence[list[bytes]] = ()) -> int:
        """Takes the job from one state to the next: 1 done, 0 it is in another state, -1 the group is gone."""
        with refusing(self._partition.connections):
            return await scripts.replay_step(
                self._redis.execute_command,
                self._keys,
                id=id,
                before=before,
                after=after,
                group=group,
                messages=messages,
            )

    async def _spans(self, stream: str, group: str, first: str, last: str) -> list[Span]:
        name, _, lane = stream.partition(":")
        if lane and lane not in PRIORITIES:
            raise NotFound(f"no priority {stream}; a stream has {name}:high, {name} and {name}:low")
        lanes = [self._keys.stream(name, lane)] if lane else self._keys.by_priority(name)
        sources = await self.registered(group)
        if sources is None:
            return []
        if not set(lanes) & set(sources):
            read = sorted({self._keys.short(key).partition(":")[0] for key in sources} - {"inbox"})
            raise StreamsError(f"{group} does not read {name}; it reads {', '.join(read)}")
        spans = []
        for key in lanes:
            newest = [entry_id async for entry_id, _ in self._entries.backward(key, most=1)]
            if newest:
                upper = newest[0].decode()
                upper = min(upper, last, key=position) if last else upper
                spans.append(Span(self._keys.short(key), first or "0-1", upper, self.number))
        return spans


def _read(raw: bytes) -> Replay | None:
    """A replay, or None for what no replay has written: it is left where it is."""
    try:
        return Replay.decode(raw)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def stamp() -> str:
    """Now, as a replay notes it."""
    return clock.now().isoformat(timespec="milliseconds")


# Replay: one job that delivers again, from a stream's history to ONE group, what is still in the stream.

State = Literal["running", "done", "cancelled"]
_STATES: Final[tuple[State, ...]] = ("running", "cancelled", "done")


@dataclass(frozen=True, slots=True)
class Span:
    """What is replayed of one lane: the entries from `first` to `last`, both included, `matched` of them. The end is
    fixed when the replay begins.
    """

    stream: str
    first: str
    last: str
    partition: int = 0
    matched: int = 0


@dataclass(frozen=True, slots=True)
class Replay:
    """One replay: what for, and how far. `matched` was counted before it began; `replayed` of them are in the group's
    inbox. It goes on behind `cursor` (empty: at the beginning) of the span number `span`.

    `running` means not finished: `updated_at` shows whether a process works on it.
    """

    id: str
    stream: str
    group: str
    by: str
    types: tuple[str, ...]
    ids: tuple[str, ...]
    spans: tuple[Span, ...]
    matched: int
    state: State = "running"
    replayed: int = 0
    span: int = 0
    cursor: str = ""
    created_at: str = ""
    updated_at: str = ""

    @classmethod
    def decode(cls, raw: bytes) -> Replay:
        """Reads the job as it stands in Redis."""
        document = orjson.loads(raw)
        spans = tuple(Span(**span) for span in document.pop("spans"))
        types, ids = tuple(document.pop("types")), tuple(document.pop("ids"))
        return cls(**document, spans=spans, types=types, ids=ids)

    def encode(self) -> bytes:
        """Writes it."""
        return orjson.dumps(self)

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return asdict(self)

    def matches(self, entry: Entry) -> bool:
        """Whether this entry is one of those it is for."""
        message = decode(entry)
        return (not self.types or message.type in self.types) and (
            not self.ids or message.id in self.ids or entry[0].decode() in self.ids
        )


def joined(jobs: Sequence[Replay]) -> Replay:
    """One replay of its jobs in all partitions: running while one of them is."""
    if len(jobs) == 1:
        return jobs[0]
    states = {job.state for job in jobs}
    going = next((job for job in jobs if job.state == "running"), jobs[-1])
    return replace(
        going,
        spans=tuple(span for job in jobs for span in job.spans),
        matched=sum(job.matched for job in jobs),
        state=next(state for state in _STATES if state in states),
        replayed=sum(job.replayed for job in jobs),
        updated_at=max(job.updated_at for job in jobs),
    )
