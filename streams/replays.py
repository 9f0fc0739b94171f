"""Replays: begins, resumes and cancels replays from history.

A replay is a job in Redis: what it is for, up to which entries, how far it is. Each step adds its messages to the
group's inbox and moves the cursor in one script, so an interrupted one is resumed where it was, and none comes twice.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from streams import chores
from streams.entries import Entries, decode, milliseconds, position, refusing
from streams.errors import NotFound, StreamsError
from streams.history import operator
from streams.keys import LANES, checked_name
from streams.message import Carried
from streams.replay import Replay, Span

if TYPE_CHECKING:
    from streams.client import Streams

_CHUNK: Final = 100  # messages in one step
_CHUNK_BYTES: Final = 1024 * 1024
_SCANNED: Final = 1_000  # entries one step passes at most, so that a rare match does not keep the cursor back
_KEPT: Final = 100  # finished replays that are remembered

Progress = Callable[[Replay], None]


class Replays:
    """The replays of one client's app."""

    def __init__(self, client: Streams) -> None:
        self._client = client
        self._keys = client.keys
        self._redis: Any = client.redis  # redis-py's annotations are unions over both protocols
        self._entries = Entries(client)

    async def ls(self) -> list[Replay]:
        """Those that are not finished and the last finished ones, oldest first."""
        with refusing(self._client.connections):
            jobs = [Replay.decode(raw) for raw in await self._redis.hvals(self._keys.replays())]
        return sorted(jobs, key=lambda job: (job.created_at, job.id))

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
        with refusing(self._client.connections):
            spans = await self._spans(stream, group, _edge(since, "since"), _edge(until, "until"))
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            job = Replay(
                "", stream, group, by or operator(), tuple(types), tuple(ids), spans, 0, created_at=now, updated_at=now
            )
            matched, found = 0, set[str]()
            for span in spans:
                async for entry in self._entries.forward(self._key(span.stream), span.first, span.last):
                    if job.matches(entry):
                        matched += 1
                        found |= {decode(entry).id, entry[0].decode()}
        if missing := [id for id in ids if id not in found]:
            raise NotFound(f"{stream} has no event {', '.join(missing[:5])} in that range; see `streams tail {stream}`")
        if not matched:
            raise NotFound(f"nothing in {stream} matches between {_told(since)} and {_told(until, 'now')}")
        return replace(job, matched=matched)

    async def begin(self, planned: Replay, *, rate: float | None = None, progress: Progress | None = None) -> Replay:
        """Begins what was planned and sees it through: see `resume`."""
        await self._client.check()
        job = replace(planned, id=secrets.token_hex(4))
        with refusing(self._client.connections):
            await self._forget()
            done = await self._step(job.id, b"", job.encode(), job.group)
        if done != 1:
            raise StreamsError(f"the replay {job.id} could not be begun; try again")
        return await self.resume(job.id, rate=rate, progress=progress)

    async def resume(self, id: str, *, rate: float | None = None, progress: Progress | None = None) -> Replay:
        """Goes on with a replay until it is done or somebody cancels it; returns how it ended.

        `rate` is a most per second. Any number of processes may be at the same one: together they replay each message
        once. Raises `NotFound` for an unknown one, or when its group was retired.
        """
        if rate is not None and not rate > 0:
            raise StreamsError(f"rate={rate:g} must be above 0 (messages a second)")
        await self._client.check()
        size = _CHUNK if rate is None else max(1, min(_CHUNK, int(rate / 10)))
        began, sent = asyncio.get_running_loop().time(), 0
        job, raw = await self._read(id)
        while job.state == "running":
            if progress is not None:
                progress(job)
            following, messages = await self._next(job, size)
            written = following.encode()
            with refusing(self._client.connections):
                done = await self._step(id, raw, written, job.group, messages)
            if done < 0:
                raise NotFound(f"the group {job.group} is registered no more; cancel the replay {id}")
            if done == 0:  # another process was faster, or somebody cancelled it
                job, raw = await self._read(id)
                continue
            job, raw = following, written
            sent += len(messages)
            if rate is not None and messages:
                await asyncio.sleep(began + sent / rate - asyncio.get_running_loop().time())
        if progress is not None:
            progress(job)
        return job

    async def cancel(self, id: str) -> Replay:
        """Ends a replay where it is; what is in the inbox already is delivered. One that is finished stays as it is."""
        await self._client.check()
        while True:
            job, raw = await self._read(id)
            if job.state != "running":
                return job
            ended = replace(job, state="cancelled", updated_at=_now())
            with refusing(self._client.connections):
                if await self._step(id, raw, ended.encode(), job.group):
                    return ended

    async def _next(self, job: Replay, size: int) -> tuple[Replay, list[list[bytes]]]:
        """The job one step further, and the messages of the step."""
        if job.span >= len(job.spans):
            return replace(job, state="done", updated_at=_now()), []
        span = job.spans[job.span]
        key, cursor = self._key(span.stream), job.cursor
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
                    updated_at=_now(),
                ), messages
        return replace(job, replayed=job.replayed + len(messages), cursor=cursor, updated_at=_now()), messages

    async def _step(
        self, id: str, before: bytes, after: bytes, group: str, messages: Sequence[list[bytes]] = ()
    ) -> int:
        return await chores.replay_step(
            self._redis.execute_command,
            replays=self._keys.replays(), inbox=self._keys.inbox(group), groups=self._keys.groups(),
            books=self._keys.books(), id=id, before=before, after=after, group=group, messages=messages,
        )  # fmt: skip

    async def _read(self, id: str) -> tuple[Replay, bytes]:
        with refusing(self._client.connections):
            raw = await self._redis.hget(self._keys.replays(), id)
        if raw is None:
            raise NotFound(f"no replay {id} in {self._client.settings.app}; see `streams replays ls`")
        return Replay.decode(raw), raw

    async def _forget(self) -> None:
        finished = [job async for job in self._finished()]
        for job in finished[: max(0, len(finished) - _KEPT + 1)]:
            await self._step(job.id, job.encode(), b"", job.group)

    async def _finished(self) -> AsyncIterator[Replay]:
        for job in await self.ls():
            if job.state != "running":
                yield job

    async def _spans(self, stream: str, group: str, first: str, last: str) -> tuple[Span, ...]:
        name, _, lane = stream.partition(":")
        if lane and lane not in LANES:
            raise NotFound(f"no lane {stream}; a stream's lanes are {name}:high, {name} and {name}:low")
        lanes = [self._keys.stream(name, lane)] if lane else self._keys.lanes(name)
        sources = await self._redis.hget(self._keys.groups(), group)
        if sources is None:
            raise NotFound(f"no group {group} in {self._client.settings.app}; `streams status` lists them")
        if not {key.encode() for key in lanes} & set(sources.split()):
            read = sorted({self._keys.short(key.decode()).partition(":")[0] for key in sources.split()} - {"inbox"})
            raise StreamsError(f"{group} does not read {name}; it reads {', '.join(read)}")
        spans = []
        for key in lanes:
            newest = [entry_id async for entry_id, _ in self._entries.backward(key, most=1)]
            if newest:
                upper = newest[0].decode()
                upper = min(upper, last, key=position) if last else upper
                spans.append(Span(self._keys.short(key), first or "0-1", upper))
        if not spans:
            raise NotFound(f"there is nothing in {stream}")
        return tuple(spans)

    def _key(self, short: str) -> str:
        name, _, lane = short.partition(":")
        return self._keys.stream(name, lane or "normal")  # type: ignore[arg-type]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _edge(moment: datetime | str | None, name: str) -> str:
    """An entry id of a moment: of the first that can be in a millisecond, or, for the end, the last."""
    if moment is None:
        return ""
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise StreamsError(f"{name}={moment.isoformat()} has no time zone; use an aware datetime")
        return f"{max(0, round(moment.timestamp() * 1000))}-{0 if name == 'since' else 2**64 - 1}"
    first, dash, second = moment.partition("-")
    if not first.isdigit() or (dash and not second.isdigit()) or len(moment) > 41:
        raise StreamsError(f"{name}={moment[:60]!r} is neither a time nor an entry id")
    return moment if dash else f"{milliseconds(moment)}-{0 if name == 'since' else 2**64 - 1}"


def _told(moment: datetime | str | None, otherwise: str = "its beginning") -> str:
    return moment.isoformat(timespec="seconds") if isinstance(moment, datetime) else moment or otherwise
