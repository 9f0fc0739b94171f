"""Replay: one job that delivers again, from a stream's history to ONE group, what is still in the stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

import orjson

from streams.entries import decode

if TYPE_CHECKING:
    from streams.entries import Entry

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

    `running` means not finished: whether a process is at it, `updated_at` tells.
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
