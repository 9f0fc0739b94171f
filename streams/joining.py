"""Joining: how all partitions stand, as one. Ages and next instants are the worst, counts are sums. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from streams.accounting import Accounts
    from streams.snapshot import ConsumerState, GroupState, Reading, Snapshot, StreamState

T = TypeVar("T")


def join(parts: Sequence[Snapshot], accounts: Accounts) -> Snapshot:
    """One snapshot of those of all partitions, in their order."""
    waiting = replace(
        parts[0].waiting,
        total=sum(part.waiting.total for part in parts),
        delayed=sum(part.waiting.delayed for part in parts),
        overdue=sum(part.waiting.overdue for part in parts),
        in_line=sum(part.waiting.in_line for part in parts),
        next_due=min((due for part in parts if (due := part.waiting.next_due) is not None), default=None),
    )
    return replace(
        parts[0],
        at=max(part.at for part in parts),
        streams=tuple(_by((lane for part in parts for lane in part.streams), lambda it: (it.name, it.lane), _stream)),
        groups=tuple(
            sorted(_by((g for part in parts for g in part.groups), lambda it: it.name, _group), key=lambda it: it.name)
        ),
        waiting=waiting,
        accounts=accounts,
        servers=tuple({part.server.place: part.server for part in parts}.values()),
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


def _reading(one: Reading, other: Reading) -> Reading:
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
