"""Ledger: what became of the events that were published, for one stream or one group, and how many are missing."""

from __future__ import annotations

from dataclasses import astuple, dataclass, replace
from operator import add
from typing import Final

_COUNTS: Final = (
    "published", "replayed", "acked", "dead", "discarded", "cancelled", "expired", "waiting", "pending", "unread",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Gap:
    """So many are unaccounted for in `where`: they were between the entry ids `after` and `before` (empty: not known).

    Below zero there is more than was published: the stream or its group was deleted and made again. `place` is its
    name in the books of its partition.
    """

    group: str
    where: str
    count: int
    after: str
    before: str
    place: str
    partition: int = 0


@dataclass(frozen=True, slots=True)
class StreamAccount:
    """One stream for one group: published = acked + dead + cancelled + expired + returned + pending + unread + gap.

    `published` counts from when the group was made; `returned` went on to a retry, a snooze or another consumer.
    """

    stream: str
    published: int
    acked: int
    dead: int
    cancelled: int
    expired: int
    returned: int
    pending: int
    unread: int
    gap: int

    def with_those_of(self, other: StreamAccount | None) -> StreamAccount:
        """Together with the same stream of another partition."""
        return self if other is None else StreamAccount(self.stream, *map(add, astuple(other)[1:], astuple(self)[1:]))


@dataclass(frozen=True, slots=True)
class GroupAccount:
    """One group: published + replayed = what is over (acked + dead + discarded + cancelled + expired) + what is not
    (waiting + pending + unread) + gap.

    `acked` includes what was skipped, `dead` is what is dead now, `replayed` what was delivered again from history.
    `last_seen` is when it had a consumer, in seconds since 1970, 0 when nobody knows.
    """

    group: str
    published: int
    replayed: int
    acked: int
    dead: int
    discarded: int
    cancelled: int
    expired: int
    waiting: int
    pending: int
    unread: int
    streams: tuple[StreamAccount, ...]
    gaps: tuple[Gap, ...]
    last_seen: int

    def with_those_of(self, other: GroupAccount | None) -> GroupAccount:
        """Together with the same group of another partition."""
        if other is None:
            return self
        streams: dict[str, StreamAccount] = {}
        for stream in (*other.streams, *self.streams):
            streams[stream.stream] = stream.with_those_of(streams.get(stream.stream))
        counts: dict[str, int] = {name: getattr(other, name) + getattr(self, name) for name in _COUNTS}
        return replace(
            self,
            **counts,  # type: ignore[arg-type]
            streams=tuple(streams.values()),
            gaps=other.gaps + self.gaps,
            last_seen=max(other.last_seen, self.last_seen),
        )

    @property
    def gap(self) -> int:
        """How many are unaccounted for."""
        return sum(gap.count for gap in self.gaps)
