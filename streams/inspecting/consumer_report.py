"""Consumer report: what a consumer reports of itself on request; it costs nothing without a request.

The question goes over the channel on which a group is also paused; each consumer that receives it writes its answer
under `Keys.reports`. One that does not answer while its heartbeat goes on has a blocked event loop.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import orjson

from streams.redis.refusal import refusing, unless_odd
from streams.redis.untrusted import text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streams.app import App
    from streams.inspecting.snapshot import GroupState, Snapshot
    from streams.redis.partition import Partition

_PATIENCE: Final = 2.0  # seconds an answer may take
_POLL: Final = 0.02

Phase = Literal["", "ready", "suspect", "running", "settling"]


@dataclass(frozen=True, slots=True)
class Question:
    """Which entry is asked about; `token` tells the answers to this question from those to another."""

    type: str
    source: str
    entry_id: str
    token: str = ""

    def encode(self) -> bytes:
        """As it goes over the channel."""
        return b"report " + orjson.dumps(asdict(self))

    @classmethod
    def decode(cls, text: bytes) -> Question:
        """Raises `ValueError` for what is no question: anybody may publish to the channel."""
        found = orjson.loads(text)
        names = tuple(cls.__slots__)
        if not isinstance(found, dict) or not all(isinstance(found.get(name), str) for name in names):
            raise ValueError("no question")
        return cls(*(found[name] for name in names))


@dataclass(frozen=True, slots=True)
class Report:
    """One consumer's answer. `version` is the newest it knows of the asked type, 0 when it has no handler for it.

    `phase` is what it does with the entry: nothing (it does not hold it), `ready` (in memory, its turn is to come),
    `suspect` (will run alone), `running` for `seconds` of at most `limit`, or `settling`. `longest` is how long its
    longest handler runs, `reserved` how many of its slots are not for the entry's lane, `breaker` the dependency that
    does not answer, tried again in `breaker_for` seconds. `stuck` is how many deliveries it holds that could go on and
    do not, and `quiet` for how many seconds it has begun and settled nothing; `overdue` is how long a handler is over
    its time. `in_thread` says that the handler of the asked entry is in a thread.
    """

    token: str
    version: int
    concurrency: int
    running: int
    held: int
    longest: float
    paused: bool
    breaker: str = ""
    breaker_for: float = 0.0
    phase: Phase = ""
    seconds: float = 0.0
    limit: float = 0.0
    reserved: int = 0
    stuck: int = 0
    quiet: float = 0.0
    overdue: float = 0.0
    in_thread: bool = False

    def encode(self) -> bytes:
        """As it is kept."""
        return orjson.dumps(asdict(self))

    @classmethod
    def decode(cls, text: bytes) -> Report:
        """Reads one; raises `TypeError` or `ValueError` for one of an earlier version of this code. What a later one
        says beside is left out.
        """
        found = orjson.loads(text)
        if not isinstance(found, dict):
            raise TypeError("no report")
        return cls(**{name: value for name, value in found.items() if name in cls.__slots__})

    @property
    def is_full(self) -> bool:
        """Whether every handler it may run at once for the entry is running."""
        return self.running >= self.concurrency - self.reserved


async def ask(partition: Partition, group: str, question: Question, consumers: Iterable[str]) -> dict[str, Report]:
    """Asks the consumers of a group in one partition; returns what was answered within 2 s, by consumer."""
    redis = partition.redis
    asked = Question(question.type, question.source, question.entry_id, secrets.token_hex(8))
    wanted = set(consumers)
    if not wanted or not await redis.publish(partition.keys.control(group), asked.encode()):
        return {}
    loop = asyncio.get_running_loop()
    give_up = loop.time() + _PATIENCE
    while True:
        found = await unless_odd(redis.hgetall(partition.keys.reports(group))) or {}
        answers = {text(name): report for name, written in found.items() if (report := _read(written, asked.token))}
        if wanted <= answers.keys() or loop.time() >= give_up:
            return answers
        await asyncio.sleep(_POLL)


def _read(written: bytes, token: str) -> Report | None:
    try:
        report = Report.decode(written)
    except (TypeError, ValueError):
        return None
    return report if report.token == token else None


# Standstill: asks every consumer that is alive and holds something whether it does anything with it.

_NOTHING = Question("", "", "")


class Answer(NamedTuple):
    """What one consumer of a group says in one partition; None when it does not answer though its heartbeat goes on."""

    group: str
    consumer: str
    report: Report | None


async def ask_holders(client: App, parts: Sequence[Snapshot]) -> list[Answer]:
    """Asks in each partition those that hold something, all at once: one message a group, at most 2 s. One that has
    missed two heartbeats is not asked: it was stopped or killed, and others have what it held in a moment. Raises
    `Unreachable` or `Refused`.
    """
    asked = [
        _ask(partition, group.name, holders)
        for partition, part in zip(client.partitions, parts, strict=True)
        for group in part.groups
        if (holders := _holders(group, client.settings.lease / 2))
    ]
    return [answer for answers in await asyncio.gather(*asked) for answer in answers]


def _holders(group: GroupState, lately: float) -> list[str]:
    beating = [each for each in group.consumers if each.heartbeat is not None and each.heartbeat <= lately]
    return [consumer.name for consumer in beating if consumer.pending]


async def _ask(partition: Partition, group: str, holders: list[str]) -> list[Answer]:
    with refusing(partition.connections):
        reports = await ask(partition, group, _NOTHING, holders)
    return [Answer(group, name, reports.get(name)) for name in holders]
