"""DeadLetters: the dead letters of one group: list, show, edit, replay, discard."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from streams import clock
from streams.admin.claim_cleanup import release
from streams.dead_letters import scripts
from streams.dead_letters.edit import corrected
from streams.dead_letters.failure_groups import FailureGroup
from streams.dead_letters.search import EVERYTHING, LetterSearch
from streams.errors import NotFound, StreamsError
from streams.messages.history import operator
from streams.messages.letter import Letter
from streams.messages.message import DATA, Message, decode
from streams.redis.entries import Entries
from streams.redis.keys import checked_name
from streams.redis.refusal import refusing

if TYPE_CHECKING:
    from streams.app import App
    from streams.dead_letters.search import Filter
    from streams.events.event import Event
    from streams.redis.partition import Partition

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


class DeadLetters:
    """The dead letters of one group. Every method raises `NotFound` for a group that nobody has registered."""

    def __init__(self, client: App, group: str) -> None:
        self.group = checked_name("group", group)
        self._client = client
        self._found = LetterSearch(client, group)

    async def count(self) -> int:
        """How many there are."""
        await self._found.must_exist()
        count = 0
        for partition in self._client.partitions:
            with refusing(partition.connections):
                count += await partition.redis.xlen(partition.keys.dead(self.group))
        return count

    async def ls(self, only: Filter = EVERYTHING, *, limit: int | None = None) -> AsyncIterator[Letter]:
        """The dead letters, oldest first, in pages: a million of them need no more memory than a page."""
        await self._found.must_exist()
        async for letter in self._found.matching(only, await self._found.newest(), limit):
            yield letter

    async def show(self, id: str) -> Letter:
        """One dead letter by its own id or the event's; the newest when an event has several. Raises `NotFound`."""
        await self._found.must_exist()
        return (await self._found.named([id]))[0]

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

    async def groups(self, only: Filter = EVERYTHING) -> list[FailureGroup]:
        """The dead letters by fingerprint, the most frequent first: which failures there are, not which events."""
        kinds: dict[str, FailureGroup] = {}
        async for letter in self.ls(only):
            known = kinds.get(letter.fingerprint)
            kinds[letter.fingerprint] = known.with_one_more(letter) if known else FailureGroup.of(letter)
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
        partition = self._client.partitions[letter.partition]
        keys = partition.keys
        with refusing(partition.connections):
            made = await scripts.edit(
                partition.redis.execute_command,
                keys,
                group=self.group,
                entry_id=letter.entry_id,
                letter=fields,
                record=record,
            )
        if not made:
            raise NotFound(f"{self.group} has no dead letter {id} any more: it was replayed or discarded")
        return await self.show(partition.mark + made)

    async def _apply(
        self,
        act: Callable[[Partition, list[Letter], str], Awaitable[int]],
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
        await self._found.must_exist()
        if not dry_run:
            await self._client.check()
        letters = (
            _each(await self._found.named(ids))
            if ids
            else self._found.matching(only, await self._found.newest(), limit)
        )
        size = _CHUNK if rate is None else max(1, min(_CHUNK, int(rate / 10)))
        tally, began = Tally(), clock.timers().time()
        async for chunk in _chunks(letters, size):
            ready = [each for each in chunk if park_after is None or each.carried.replays < park_after]
            done = 0 if dry_run or not ready else await self._each_partition(act, ready, by or operator())
            tally = Tally(tally.matched + len(chunk), tally.done + done, tally.parked + len(chunk) - len(ready))
            if progress is not None:
                progress(tally)
            if rate is not None and not dry_run:
                await clock.sleep(began + tally.matched / rate - clock.timers().time())
        return tally

    async def _each_partition(
        self, act: Callable[[Partition, list[Letter], str], Awaitable[int]], letters: list[Letter], by: str
    ) -> int:
        parts: dict[int, list[Letter]] = {}
        for letter in letters:
            parts.setdefault(letter.partition, []).append(letter)
        return sum([await act(self._client.partitions[number], part, by) for number, part in parts.items()])

    async def _replay(self, partition: Partition, chunk: list[Letter], by: str) -> int:
        keys = partition.keys
        for number, letter in enumerate(chunk):
            if letter.left_behind:
                chunk[number] = await self._whole(partition, letter)
        with refusing(partition.connections):
            return await scripts.replay(
                partition.redis.execute_command,
                keys,
                group=self.group,
                letters=[(letter.entry_id, letter.again(), letter.record("replayed", by)) for letter in chunk],
            )

    async def _whole(self, partition: Partition, letter: Letter) -> Letter:
        """The letter with the data that were left in their stream; raises `NotFound` when they are there no more."""
        key, _, entry_id = letter.carried.origin.rpartition(" ")
        entry = None
        if key.startswith(f"{partition.keys.tag}:stream:"):
            with refusing(partition.connections):
                entry = await Entries(partition).get(key, entry_id)
        if entry is None:
            raise NotFound(f"dead letter {letter.id}: its data were in {letter.carried.origin}, which has them no more")
        message = Message([*letter.message.values])
        message.values[DATA] = decode(entry).values[DATA]
        return replace(letter, message=message)

    async def _discard(self, partition: Partition, chunk: list[Letter], by: str) -> int:
        keys = partition.keys
        with refusing(partition.connections):
            dropped = await scripts.discard(
                partition.redis.execute_command,
                keys,
                group=self.group,
                letters=[(letter.entry_id, letter.record("discarded", by)) for letter in chunk],
            )
        await release(self._client, [letter.message for letter in chunk])
        return dropped


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
