"""DeadLetters: what one group gave up, to look through, to deliver again, or to drop for good."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from streams import chores, scripts
from streams.correction import corrected
from streams.entries import Entries, milliseconds, refusing
from streams.errors import NotFound, StreamsError
from streams.history import operator
from streams.keys import checked_name
from streams.kind import Kind
from streams.letter import Letter

if TYPE_CHECKING:
    from schemas.event import Event
    from streams.client import Streams

_CHUNK: Final = 100  # dead letters in one script call
_CHUNK_BYTES: Final = 1024 * 1024

Progress = Callable[["Tally"], None]


@dataclass(frozen=True, slots=True)
class Tally:
    """How many dead letters matched, and how many were replayed or discarded: fewer when somebody else was first.

    `parked` of them were left alone, since they were replayed too often already (`STREAMS_PARK_AFTER`).
    """

    matched: int = 0
    done: int = 0
    parked: int = 0


@dataclass(frozen=True, slots=True)
class Filter:
    """Which dead letters are meant. `type`, `reason` and `fingerprint` are exact, `error` is a part of the text in any
    case; `since`: given up within this time, `older_than`: longer ago than it, both by Redis' clock.
    """

    type: str | None = None
    error: str | None = None
    reason: str | None = None
    since: timedelta | None = None
    older_than: timedelta | None = None
    fingerprint: str | None = None

    def matches(self, letter: Letter) -> bool:
        """Whether all but the times fit; the times are a range of entry ids."""
        return (
            (self.type is None or self.type == letter.type)
            and (self.reason is None or self.reason == letter.reason)
            and (self.error is None or self.error.lower() in letter.error.lower())
            and (self.fingerprint is None or self.fingerprint == letter.fingerprint)
        )


EVERYTHING: Final = Filter()


class DeadLetters:
    """The dead letters of one group. Every method raises `NotFound` for a group that nobody has registered."""

    def __init__(self, client: Streams, group: str) -> None:
        self.group = checked_name("group", group)
        self._client = client
        self._redis: Any = client.redis  # redis-py's annotations are unions over both protocols
        self._keys = client.keys
        self._key = client.keys.dead(group)
        self._entries = Entries(client)

    async def count(self) -> int:
        """How many there are."""
        await self._must_exist()
        with refusing(self._client.connections):
            count: int = await self._redis.xlen(self._key)
        return count

    async def ls(self, only: Filter = EVERYTHING, *, limit: int | None = None) -> AsyncIterator[Letter]:
        """The dead letters, oldest first, in pages: a million of them need no more memory than a page."""
        await self._must_exist()
        async for letter in self._matching(only, await self._newest(), limit):
            yield letter

    async def show(self, id: str) -> Letter:
        """One dead letter by its own id or the event's; the newest when an event has several. Raises `NotFound`."""
        await self._must_exist()
        return (await self._named([id]))[0]

    async def replay(
        self,
        ids: Sequence[str] = (),
        only: Filter = EVERYTHING,
        *,
        limit: int | None = None,
        rate: float | None = None,
        force: bool = False,
        dry_run: bool = False,
        by: str = "",
        progress: Progress | None = None,
    ) -> Tally:
        """Delivers dead letters again, to this group only, each once however many people replay at the same time.

        Those named by `ids`, else those that match `only`; only what was dead when the call began, so that what fails
        again is not replayed in a circle. `rate` is a most per second, `by` goes to the history (or user@host).
        A replayed message starts with all its attempts; its errors stay with it. One that was replayed
        `STREAMS_PARK_AFTER` times is parked: it comes along only by its id or with `force`. Raises `NotFound` for an
        id, before anything is changed.
        """
        most = None if ids or force else self._client.settings.park_after
        return await self._apply(self._replay, ids, only, limit, rate, dry_run, by, progress, most)

    async def discard(
        self,
        ids: Sequence[str] = (),
        only: Filter = EVERYTHING,
        *,
        limit: int | None = None,
        dry_run: bool = False,
        by: str = "",
        progress: Progress | None = None,
    ) -> Tally:
        """Drops dead letters for good, with a line each in the group's history; which ones as for `replay`."""
        return await self._apply(self._discard, ids, only, limit, None, dry_run, by, progress, None)

    async def groups(self, only: Filter = EVERYTHING) -> list[Kind]:
        """The dead letters by fingerprint, the most frequent first: which failures there are, not which events."""
        kinds: dict[str, Kind] = {}
        async for letter in self.ls(only):
            known = kinds.get(letter.fingerprint)
            kinds[letter.fingerprint] = known.with_one_more(letter) if known else Kind.of(letter)
        return sorted(kinds.values(), key=lambda kind: (-kind.count, kind.fingerprint))

    async def edit(self, id: str, event: Event, *, by: str = "") -> Letter:
        """Puts a corrected event in the place of the one in a dead letter; returns the letter that has it now.

        Making the event has validated it; it is written as its current version. Id, envelope, reason and errors stay,
        the original data stays in the group's history. Raises `NotFound`, `StreamsError` for another type of event,
        `TooLarge` over the cap.
        """
        await self._client.check()
        letter = await self.show(id)
        fields, record = corrected(letter, event, by or operator(), most=self._client.settings.max_bytes)
        with refusing(self._client.connections):
            made = await chores.edit(
                self._redis.execute_command,
                dead=self._key, history=self._keys.history(self.group), books=self._keys.books(),
                entry_id=letter.id, letter=fields, record=record,
            )  # fmt: skip
        if not made:
            raise NotFound(f"{self.group} has no dead letter {id} any more: somebody replayed or discarded it")
        return await self.show(made)

    async def _apply(
        self,
        act: Callable[[list[Letter], str], Awaitable[int]],
        ids: Sequence[str],
        only: Filter,
        limit: int | None,
        rate: float | None,
        dry_run: bool,
        by: str,
        progress: Progress | None,
        park_after: int | None,
    ) -> Tally:
        if ids and only != EVERYTHING:
            raise StreamsError("give ids or filters, not both")
        if rate is not None and not rate > 0:
            raise StreamsError(f"rate={rate:g} must be above 0 (dead letters a second)")
        await self._must_exist()
        if not dry_run:
            await self._client.check()
        letters = _each(await self._named(ids)) if ids else self._matching(only, await self._newest(), limit)
        size = _CHUNK if rate is None else max(1, min(_CHUNK, int(rate / 10)))
        tally, began = Tally(), asyncio.get_running_loop().time()
        async for chunk in _chunks(letters, size):
            ready = [each for each in chunk if park_after is None or each.carried.replays < park_after]
            done = 0 if dry_run or not ready else await act(ready, by or operator())
            tally = Tally(tally.matched + len(chunk), tally.done + done, tally.parked + len(chunk) - len(ready))
            if progress is not None:
                progress(tally)
            if rate is not None and not dry_run:
                await asyncio.sleep(began + tally.matched / rate - asyncio.get_running_loop().time())
        return tally

    async def _replay(self, chunk: list[Letter], by: str) -> int:
        with refusing(self._client.connections):
            return await scripts.replay(
                self._redis.execute_command,
                dead=self._key,
                inbox=self._keys.inbox(self.group),
                groups=self._keys.groups(),
                history=self._keys.history(self.group),
                books=self._keys.books(),
                letters=[(letter.id, letter.again(), letter.record("replayed", by)) for letter in chunk],
            )

    async def _discard(self, chunk: list[Letter], by: str) -> int:
        with refusing(self._client.connections):
            return await scripts.discard(
                self._redis.execute_command,
                dead=self._key,
                history=self._keys.history(self.group),
                books=self._keys.books(),
                letters=[(letter.id, letter.record("discarded", by)) for letter in chunk],
            )

    async def _matching(self, only: Filter, newest: str, limit: int | None) -> AsyncIterator[Letter]:
        seconds, microseconds = await self._redis.time()
        now = seconds * 1000 + microseconds // 1000
        start = "-" if only.since is None else str(max(0, now - _milliseconds(only.since)))
        end = newest
        if only.older_than is not None:
            end = min(newest, str(max(0, now - _milliseconds(only.older_than))), key=milliseconds)
        left = limit
        async for entry in self._entries.forward(self._key, start, end):
            if left == 0:
                return
            letter = Letter.decode(self.group, entry)
            if only.matches(letter):
                left = None if left is None else left - 1
                yield letter

    async def _named(self, ids: Iterable[str]) -> list[Letter]:
        """The dead letters of these ids, in their order; raises `NotFound` with those that are not there."""
        found: dict[str, Letter] = {}
        wanted = dict.fromkeys(ids)
        for id in wanted:
            if _is_entry_id(id) and (entry := await self._entries.get(self._key, id)):
                found[id] = Letter.decode(self.group, entry)
        missing = {id for id in wanted if id not in found}
        if missing:  # by the event's id: nothing leads from it to the entry but a walk
            async for entry in self._entries.backward(self._key):
                letter = Letter.decode(self.group, entry)
                if letter.event_id in missing:
                    found[letter.event_id] = letter
                    missing.discard(letter.event_id)
                    if not missing:
                        break
        if missing:
            raise NotFound(
                f"{self.group} has no dead letter {', '.join(sorted(missing)[:5])}; see `streams dead ls {self.group}`"
            )
        return [found[id] for id in wanted]

    async def _newest(self) -> str:
        async for entry_id, _ in self._entries.backward(self._key, most=1):
            return entry_id.decode()
        return "0-1"  # nothing is dead: an empty range

    async def _must_exist(self) -> None:
        with refusing(self._client.connections):
            groups = [name.decode() for name in await self._redis.hkeys(self._keys.groups())]
            if self.group in groups or await self._redis.exists(self._key):
                return
        close = difflib.get_close_matches(self.group, groups, 1)
        told = f"did you mean {close[0]}?" if close else f"there are: {', '.join(sorted(groups)) or 'none yet'}"
        raise NotFound(f"no group {self.group} in {self._client.settings.app}; {told}")


async def _each(letters: list[Letter]) -> AsyncIterator[Letter]:
    for letter in letters:
        yield letter


async def _chunks(letters: AsyncIterator[Letter], most: int) -> AsyncIterator[list[Letter]]:
    chunk: list[Letter] = []
    size = 0
    async for letter in letters:
        chunk.append(letter)
        size += len(letter.data)
        if len(chunk) >= most or size >= _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _milliseconds(duration: timedelta) -> int:
    return round(duration.total_seconds() * 1000)


def _is_entry_id(text: str) -> bool:
    first, dash, second = text.partition("-")
    return bool(dash) and first.isdigit() and second.isdigit() and len(text) < 42
