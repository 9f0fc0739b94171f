"""Replay: starts, resumes and cancels replays from history.

A replay is a job in Redis: its group, the last entries it covers, and how far it is. `PartitionReplay` runs its steps.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Final

from streams import clock
from streams.admin.replay_job import PartitionReplay, Replay, joined, stamp
from streams.errors import NotFound, StreamsError
from streams.messages.history import operator
from streams.redis.entries import milliseconds
from streams.redis.keys import checked_name

if TYPE_CHECKING:
    from streams.app import App

_CHUNK: Final = 100  # messages in one step
_KEPT: Final = 100  # finished replays that are remembered

Progress = Callable[[Replay], None]


class Replays:
    """The replays of one client's app. With several partitions a replay is a job in each, under one id."""

    def __init__(self, client: App) -> None:
        self._client = client
        self._parts = [PartitionReplay(partition) for partition in client.partitions]

    async def ls(self) -> list[Replay]:
        """Those that are not finished and the last finished ones, oldest first."""
        jobs: dict[str, list[Replay]] = {}
        for part in self._parts:
            for job in await part.ls():
                jobs.setdefault(job.id, []).append(job)
        return sorted(map(joined, jobs.values()), key=lambda job: (job.created_at, job.id))

    async def plan(
        self,
        stream: str,
        *,
        group: str,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        types: Sequence[str] = (),
        ids: Sequence[str] = (),
        by: str = "",
    ) -> Replay:
        """Counts what would be replayed, and changes nothing. `stream` is a stream with all its lanes or one of them
        (`users:high`); `since` and `until` are aware datetimes or entry ids, both included; `types` and `ids` (of
        events or entries; an entry id is unique in its lane only) narrow it further.

        Raises `NotFound` for an unknown group or stream, an id that is not there, or when nothing matches,
        `StreamsError` for a group that does not read the stream.
        """
        checked_name("group", group)
        first, last, now = _edge(since, "since"), _edge(until, "until"), stamp()
        job = Replay(
            "", stream, group, by or operator(), tuple(types), tuple(ids), (), 0, created_at=now, updated_at=now
        )
        found = set[str]()
        spans = tuple([span for part in self._parts for span in await part.plan(job, first, last, found)])
        if not spans:
            if all([await part.registered(group) is None for part in self._parts]):
                raise NotFound(f"no group {group} in {self._client.settings.app}; `streams status` lists them")
            raise NotFound(f"there is nothing in {stream}")
        if missing := [id for id in ids if id not in found]:
            raise NotFound(f"{stream} has no event {', '.join(missing[:5])} in that range; see `streams tail {stream}`")
        matched = sum(span.matched for span in spans)
        if not matched:
            raise NotFound(f"nothing in {stream} matches between {_told(since)} and {_told(until, 'now')}")
        return replace(job, spans=spans, matched=matched)

    async def begin(self, planned: Replay, *, rate: float | None = None, progress: Progress | None = None) -> Replay:
        """Begins what was planned and sees it through: see `resume`."""
        await self._client.check()
        id = secrets.token_hex(4)
        for part in self._parts:
            spans = tuple(span for span in planned.spans if span.partition == part.number)
            matched = sum(span.matched for span in spans)
            if not matched:
                continue
            await self._forget(part)
            job = replace(planned, id=id, spans=spans, matched=matched)
            if await part.step(id, b"", job.encode(), job.group) != 1:
                raise StreamsError(f"the replay {id} could not be begun; try again")
        return await self.resume(id, rate=rate, progress=progress)

    async def resume(self, id: str, *, rate: float | None = None, progress: Progress | None = None) -> Replay:
        """Goes on with a replay until it is done or somebody cancels it; returns how it ended.

        `rate` is a most per second. Any number of processes may be at the same one: together they replay each message
        once. Raises `NotFound` for an unknown one, or when its group was retired.
        """
        if rate is not None and not rate > 0:
            raise StreamsError(f"rate={rate:g} must be above 0 (messages a second)")
        await self._client.check()
        jobs = {part.number: job for part, job, _ in await self._read(id)}
        pace = _Pace(rate)

        def tell(number: int, job: Replay) -> None:
            jobs[number] = job
            if progress is not None:
                progress(joined(list(jobs.values())))

        for part in self._parts:
            if part.number in jobs:
                await self._see_through(part, id, pace, partial(tell, part.number))
        return joined(list(jobs.values()))

    async def _see_through(self, part: PartitionReplay, id: str, pace: _Pace, tell: Progress) -> None:
        read = await part.read(id)
        while read is not None and read[0].state == "running":
            job, raw = read
            tell(job)
            following, messages = await part.next(job, pace.size)
            written = following.encode()
            done = await part.step(id, raw, written, job.group, messages)
            if done < 0:
                raise NotFound(f"the group {job.group} is registered no more; cancel the replay {id}")
            if done == 0:  # another process was faster, or somebody cancelled it
                read = await part.read(id)
                continue
            read = following, written
            await pace.sent(len(messages))
        if read is None:
            raise self._unknown(id)
        tell(read[0])

    async def cancel(self, id: str) -> Replay:
        """Ends a replay where it is; what is in the inbox already is delivered. One that is finished stays as it is."""
        await self._client.check()
        return joined([await self._cancel(part, id) for part, _, _ in await self._read(id)])

    async def _cancel(self, part: PartitionReplay, id: str) -> Replay:
        while (read := await part.read(id)) is not None:
            job, raw = read
            if job.state != "running":
                return job
            ended = replace(job, state="cancelled", updated_at=stamp())
            if await part.step(id, raw, ended.encode(), job.group):
                return ended
        raise self._unknown(id)

    async def _read(self, id: str) -> list[tuple[PartitionReplay, Replay, bytes]]:
        found = [(part, *read) for part in self._parts if (read := await part.read(id)) is not None]
        if not found:
            raise self._unknown(id)
        return found

    def _unknown(self, id: str) -> NotFound:
        return NotFound(f"no replay {id} in {self._client.settings.app}; see `streams replays ls`")

    async def _forget(self, part: PartitionReplay) -> None:
        finished = sorted(
            (job for job in await part.ls() if job.state != "running"), key=lambda job: (job.created_at, job.id)
        )
        for job in finished[: max(0, len(finished) - _KEPT + 1)]:
            await part.step(job.id, job.encode(), b"", job.group)


class _Pace:
    """How many messages a step has, and how long is waited after it."""

    def __init__(self, rate: float | None) -> None:
        self.size = _CHUNK if rate is None else max(1, min(_CHUNK, int(rate / 10)))
        self._rate = rate
        self._began, self._sent = clock.timers().time(), 0

    async def sent(self, count: int) -> None:
        self._sent += count
        if self._rate is not None and count:
            await clock.sleep(self._began + self._sent / self._rate - clock.timers().time())


def _edge(moment: datetime | str | None, name: str) -> str:
    """An entry id of a moment: of the first that can be in a millisecond, or, for the end, the last."""
    if moment is None:
        return ""
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise StreamsError(f"{name}={moment.isoformat()} has no time zone; use an aware datetime")
        return f"{max(0, round(moment.timestamp() * 1000))}-{0 if name == 'since' else 2**64 - 1}"
    first, dash, second = moment.partition("-")
    if not moment.isascii() or not first.isdigit() or (dash and not second.isdigit()) or len(moment) > 41:
        raise StreamsError(f"{name}={moment[:60]!r} is neither a time nor an entry id")
    return moment if dash else f"{milliseconds(moment)}-{0 if name == 'since' else 2**64 - 1}"


def _told(moment: datetime | str | None, otherwise: str = "its beginning") -> str:
    return moment.isoformat(timespec="seconds") if isinstance(moment, datetime) else moment or otherwise
