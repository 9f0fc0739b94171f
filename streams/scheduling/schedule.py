"""Schedule: when a processor publishes by itself. Pure: clocks and Redis are the scheduler's business.

A slot is one instant at which a schedule publishes. Slots depend on the schedule and the calendar alone, never on
when a process started, so that all processes agree on them. They are milliseconds since 1970, as Redis counts.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cached_property
from hashlib import blake2b
from typing import Any, Final, Literal, Protocol, get_args
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from streams.durations import Duration, seconds
from streams.errors import StreamsError
from streams.events.event import Priority
from streams.phrases import meant
from streams.redis.keys import PRIORITIES

Misfire = Literal["skip", "once", "all"]

ON_TIME: Final = 30.0
"""Seconds: a slot that is later is missed, and the misfire policy decides. A restart of Redis is no missed slot."""

_LOOKED_AT: Final = 1000  # missed slots that are told one by one: a year of missed seconds must not be walked through
_SHORTEST_MS: Final = 100
_LONGEST_KEY: Final = 200  # bytes, as for publish()
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True, slots=True)
class Slot:
    """What a schedule's function is told: the slot's instant (in the schedule's time zone), and how late it is called.

    Run by hand (`streams schedules run`), the instant is when that was asked for.
    """

    schedule: str
    at: datetime
    late: timedelta


class _CronSim(CronSim):
    """cronsim, going on from full hour to full hour also where the clocks move by half an hour.

    By itself it goes on in steps of 60 minutes from 02:30, and passes over 09:00 on that day (2.8, Lord Howe).
    """

    def tick(self, seconds: int = 1) -> None:
        if seconds == 3600:
            seconds -= self.dt.minute * 60
        super().tick(seconds)


@dataclass(frozen=True)
class Cron:
    """Slots by a cron expression of five fields, or of six beginning with seconds, in a time zone.

    What happens when the clocks change is what Debian's cron does (docs/concepts/schedules.md).
    """

    expression: str
    tz: str = "UTC"

    def __post_init__(self) -> None:
        if len(self.expression) > 200:
            raise StreamsError("a cron expression is text of at most 200 characters")
        try:
            first = next(_CronSim(self.expression, datetime(2024, 1, 1, tzinfo=UTC)), None)
        except CronSimError as error:
            raise StreamsError(f"cron {self.expression!r}: {error}; it is `minute hour day month weekday`") from None
        if first is None:
            raise StreamsError(f"cron {self.expression!r} never comes: no such day in 50 years")
        _ = self.zone

    @cached_property
    def zone(self) -> tzinfo:
        """The time zone; raises `StreamsError` for one that is not known here."""
        if self.tz == "UTC":
            return UTC
        try:
            return ZoneInfo(self.tz)
        except (KeyError, ValueError, TypeError, OSError):
            hint = meant(str(self.tz), available_timezones(), "use a name such as Europe/Berlin")
            raise StreamsError(f"time zone {self.tz!r} is not known; {hint}") from None

    def next_after(self, moment: int) -> int | None:
        """The first slot after a moment; None when there is none in 50 years."""
        for found in _CronSim(self.expression, _when(moment, self.zone)):
            # Compared as instants: in the repeated hour cronsim answers with its first pass, which may be over.
            at = round(found.timestamp() * 1000)
            if at > moment:
                return at
        return None

    def slots_between(self, after: int, until: int, most: int) -> list[int]:
        """The slots in (after, until], the newest `most` of them, oldest first."""
        # cronsim cannot be asked backwards for this: in the hour that is left out it does not answer as forwards.
        reach = 120_000
        while True:
            start = max(after, until - reach)
            found = deque(self._walk(start, until), maxlen=most)
            if len(found) == most or start == after:
                return list(found)
            reach *= 4

    def _walk(self, after: int, until: int) -> list[int]:
        found = []
        at = self.next_after(after)
        while at is not None and at <= until:
            found.append(at)
            at = self.next_after(at)
        return found

    @property
    def text(self) -> str:
        """The expression, as given."""
        return self.expression

    def explain(self) -> str:
        """In words: `At 07:00 on Monday through Friday`."""
        return CronSim(self.expression, datetime(2024, 1, 1, tzinfo=UTC)).explain()


@dataclass(frozen=True)
class Every:
    """Slots at a fixed distance, counted from 1970-01-01T00:00Z: every 10 minutes is at :00, :10, :20 past, for all."""

    interval_ms: int

    def __post_init__(self) -> None:
        if self.interval_ms < _SHORTEST_MS:
            raise StreamsError(f"an interval of {self.interval_ms / 1000:g} s is too short: at least 0.1 s")

    @classmethod
    def of(cls, interval: Duration) -> Every:
        """From seconds or a timedelta; raises `StreamsError` unless it is between 0.1 s and ten years."""
        try:
            return cls(round(seconds(interval) * 1000))
        except (ValueError, TypeError) as error:
            raise StreamsError(f"every({interval!r}): {error}") from None

    tz = "UTC"
    zone = UTC

    def next_after(self, moment: int) -> int | None:
        """The first slot after a moment."""
        return (moment // self.interval_ms + 1) * self.interval_ms

    def slots_between(self, after: int, until: int, most: int) -> list[int]:
        """The slots in (after, until], the newest `most` of them, oldest first."""
        first = max(after // self.interval_ms, until // self.interval_ms - most) + 1
        return [number * self.interval_ms for number in range(first, until // self.interval_ms + 1)]

    @property
    def text(self) -> str:
        """The interval in seconds: `every 90 s`."""
        return f"every {self.interval_ms / 1000:g} s"

    def explain(self) -> str:
        """In words: `Every 1:30:00`."""
        return f"Every {timedelta(milliseconds=self.interval_ms)}"


@dataclass(frozen=True, slots=True)
class Due:
    """What is to be done now: the slots to fire, oldest first; how many are dropped, and the newest that is passed."""

    slots: tuple[int, ...] = ()
    dropped: int = 0
    until: int = 0


NOTHING: Final = Due()


@dataclass(frozen=True)
class Schedule:
    """One entry: its timing, what it does about missed slots, and the function that makes the event of a slot."""

    name: str
    timing: Cron | Every
    function: Callable[..., Any]
    misfire: Misfire = "once"
    most: int | None = None
    priority: Priority | None = None
    key: str = ""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise StreamsError(f"schedule {self.name!r}: give name= of 1-128 of A-Z a-z 0-9 _ . -")
        if self.misfire not in get_args(Misfire):
            raise StreamsError(f"schedule {self.name}: misfire={self.misfire!r} must be skip, once or all")
        if self.most is not None and (self.misfire != "all" or not 1 <= self.most <= _LOOKED_AT):
            raise StreamsError(
                f"schedule {self.name}: most={self.most} goes with misfire='all', from 1 to {_LOOKED_AT}"
            )
        if self.priority is not None and self.priority not in PRIORITIES:
            raise StreamsError(
                f"schedule {self.name}: priority={self.priority!r} must be one of {', '.join(PRIORITIES)}"
            )
        if len(self.key.encode()) > _LONGEST_KEY:
            raise StreamsError(f"schedule {self.name}: the ordering key is longer than {_LONGEST_KEY} bytes")

    def due(self, last: int, now: int) -> Due:
        """What is to be done when `last` was the last slot that was decided, after the misfire policy.

        Up to 30 s late is on time, whatever the policy. `skip` drops what is missed, `once` fires the newest slot for
        all that is due, `all` fires the newest `most` missed ones (1,000 unless given), and what is on time.
        """
        slots = self.timing.slots_between(last, now, _LOOKED_AT)
        if not slots:
            return NOTHING
        missed = sum(1 for at in slots if now - at > ON_TIME * 1000)
        first = 0
        if missed:
            match self.misfire:
                case "skip":
                    first = missed
                case "once":
                    first = len(slots) - 1
                case "all":
                    first = max(0, missed - (self.most or _LOOKED_AT))
        return Due(tuple(slots[first:]), first, slots[-1])

    def slot(self, at: int, now: int) -> Slot:
        """The slot for the function."""
        return Slot(self.name, _when(at, self.timing.zone), timedelta(milliseconds=max(0, now - at)))

    def definition(self, processor: str) -> dict[str, Any]:
        """What Redis is told about it, so that it can be listed where its code is not."""
        cron = isinstance(self.timing, Cron)
        return {
            "processor": processor,
            "cron": self.timing.text if cron else None,
            "tz": self.timing.tz,
            "every_ms": None if isinstance(self.timing, Cron) else self.timing.interval_ms,
            "misfire": self.misfire,
            "most": self.most,
            "priority": self.priority,
            "key": self.key,
        }


class Calls(Protocol):
    """What runs the functions of schedules."""

    async def call(self, schedule: Schedule, slot: Slot) -> Any:
        """Returns or raises what the function of a schedule does for a slot."""

    def close(self) -> None:
        """Ends the threads of plain functions."""


def timing_of(definition: dict[str, Any]) -> Cron | Every:
    """The timing in a definition read from Redis; raises `StreamsError` for one that makes no sense."""
    cron, every = definition.get("cron"), definition.get("every_ms")
    if isinstance(cron, str):
        return Cron(cron, str(definition.get("tz")))
    if isinstance(every, int):
        return Every(every)
    raise StreamsError("the definition has neither cron nor every_ms")


def event_id(app: str, schedule: str, kind: str, at: int, index: int) -> str:
    """The id of the `index`-th event of a slot: the same wherever it is made, so that a slot's event is recognised.

    A UUIDv8 whose first 48 bits are the slot's ms since 1970, laid out as in a UUIDv7.
    """
    digest = blake2b(f"{app}\n{schedule}\n{kind}\n{at}\n{index}".encode(), digest_size=10).digest()
    number = int.from_bytes(digest, "big")
    return (
        f"{at >> 16 & 0xFFFFFFFF:08x}-{at & 0xFFFF:04x}-8{number & 0xFFF:03x}"
        f"-{0x8000 | number >> 12 & 0x3FFF:04x}-{number >> 26 & 0xFFFFFFFFFFFF:012x}"
    )


def _when(moment: int, zone: tzinfo) -> datetime:
    return datetime.fromtimestamp(moment / 1000, zone)
