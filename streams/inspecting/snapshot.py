"""Snapshot: the state at one moment: server, streams, groups, waiting messages, dead letters, live consumers.

Pure: `streams/inspecting/snapshot_reader.py` takes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

from streams.inspecting.reconciliation import Accounts
from streams.redis.server import Server

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StreamPosition:
    """One group's place in one stream. Ages in seconds, None where there is nothing of that kind.

    `lag` is exact: entries not yet delivered. `oldest_idle` is how long ago the oldest pending entry was last delivered
    or its lease renewed.
    """

    stream: str
    lag: int
    oldest_unread: float | None
    pending: int
    oldest_idle: float | None


@dataclass(frozen=True, slots=True)
class StreamState:
    """The stream of one priority of a domain stream; `oldest` is the age of its first entry in seconds."""

    name: str
    priority: str
    length: int
    oldest: float | None


@dataclass(frozen=True, slots=True)
class ConsumerState:
    """One consumer of a group. `heartbeat` is the age of its last one in seconds, None for a consumer that never sent
    one; it is `alive` when that is within a lease.
    """

    name: str
    heartbeat: float | None
    pending: int
    alive: bool


@dataclass(frozen=True, slots=True)
class GroupState:
    """One consumer group: what it has not read, what it holds, what comes back to it, what it gave up."""

    name: str
    streams: tuple[StreamPosition, ...]
    inbox: StreamPosition
    waiting: int
    dead: int
    consumers: tuple[ConsumerState, ...]

    @property
    def readings(self) -> tuple[StreamPosition, ...]:
        """The inbox and every stream it reads."""
        return (self.inbox, *self.streams)

    @property
    def lag(self) -> int:
        """Everything that is not yet delivered to it."""
        return sum(reading.lag for reading in self.readings)

    @property
    def pending(self) -> int:
        """Everything that is delivered to it and not settled."""
        return sum(reading.pending for reading in self.readings)

    @property
    def alive(self) -> int:
        """How many of its consumers are alive."""
        return sum(consumer.alive for consumer in self.consumers)

    @property
    def oldest_unread(self) -> float | None:
        """The age in seconds of the oldest entry it has not been given, None when there is none."""
        return max((r.oldest_unread for r in self.readings if r.oldest_unread is not None), default=None)


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits in the `due` set. `delayed` are events for everybody, `queued` waits for its turn or at a limit, the
    rest are retries and snoozes of one group; `next_due` is in seconds from now, below zero when it is overdue.
    """

    total: int
    delayed: int
    overdue: int
    next_due: float | None
    queued: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How it stood at `at`, by Redis' clock. `server` has partition 0, `servers` are all that have one; `partitions`
    were looked at, `registered` are there.
    """

    at: datetime
    app: str
    server: Server
    streams: tuple[StreamState, ...]
    groups: tuple[GroupState, ...]
    waiting: Waiting
    accounts: Accounts
    servers: tuple[Server, ...] = ()
    partitions: int = 1
    registered: int = 1

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values, with the sums of each group."""
        document = asdict(self)
        document["at"] = self.at.isoformat(timespec="milliseconds")
        for shown, group in zip(document["groups"], self.groups, strict=True):
            shown |= {"lag": group.lag, "pending": group.pending, "alive": group.alive}
        document["accounts"] = self.accounts.as_json()
        return document


def join(parts: Sequence[Snapshot], accounts: Accounts) -> Snapshot:
    """One snapshot of those of all partitions, in their order."""
    waiting = replace(
        parts[0].waiting,
        total=sum(part.waiting.total for part in parts),
        delayed=sum(part.waiting.delayed for part in parts),
        overdue=sum(part.waiting.overdue for part in parts),
        queued=sum(part.waiting.queued for part in parts),
        next_due=min((due for part in parts if (due := part.waiting.next_due) is not None), default=None),
    )
    return replace(
        parts[0],
        at=max(part.at for part in parts),
        streams=tuple(_by((one for part in parts for one in part.streams), lambda it: (it.name, it.priority), _stream)),
        groups=tuple(
            sorted(_by((g for part in parts for g in part.groups), lambda it: it.name, _group), key=lambda it: it.name)
        ),
        waiting=waiting,
        accounts=accounts,
        servers=tuple({part.server.run_id: part.server for part in parts}.values()),
        partitions=len(parts),
    )


def _by(items: Iterable[T], key: Callable[[T], object], join: Callable[[T, T], T]) -> Iterable[T]:
    found: dict[object, T] = {}
    for item in items:
        at = key(item)
        found[at] = join(found[at], item) if at in found else item
    return found.values()


def _stream(one: StreamState, other: StreamState) -> StreamState:
    return replace(one, length=one.length + other.length, oldest=_most(one.oldest, other.oldest))


def _group(one: GroupState, other: GroupState) -> GroupState:
    consumers = _by((*one.consumers, *other.consumers), lambda consumer: consumer.name, _consumer)
    return replace(
        one,
        streams=tuple(_by((*one.streams, *other.streams), lambda reading: reading.stream, _reading)),
        inbox=_reading(one.inbox, other.inbox),
        waiting=one.waiting + other.waiting,
        dead=one.dead + other.dead,
        consumers=tuple(sorted(consumers, key=lambda it: (not it.alive, it.name))),
    )


def _reading(one: StreamPosition, other: StreamPosition) -> StreamPosition:
    return replace(
        one,
        lag=one.lag + other.lag,
        oldest_unread=_most(one.oldest_unread, other.oldest_unread),
        pending=one.pending + other.pending,
        oldest_idle=_most(one.oldest_idle, other.oldest_idle),
    )


def _consumer(one: ConsumerState, other: ConsumerState) -> ConsumerState:
    """One that is silent in a single partition is not well: others take over there what it has."""
    return replace(
        one,
        heartbeat=_most(one.heartbeat, other.heartbeat),
        pending=one.pending + other.pending,
        alive=one.alive and other.alive,
    )


def _most(one: float | None, other: float | None) -> float | None:
    return max((age for age in (one, other) if age is not None), default=None)
