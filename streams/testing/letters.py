"""MemoryLetters: the dead letters of one group in a harness, under the names and types of `DeadLetters`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from streams.correction import corrected
from streams.dead_letters import EVERYTHING, DeadLetters, Filter
from streams.entries import milliseconds
from streams.errors import NotFound
from streams.history import operator
from streams.letter import Letter
from streams.letters import Letters

if TYPE_CHECKING:
    from schemas.event import Event
    from streams.client import Streams
    from streams.testing.memory import Memory


class _Found(Letters):
    """The look-up, over the memory."""

    def __init__(self, client: Streams, group: str, memory: Memory) -> None:
        super().__init__(client, group)
        self._memory = memory

    def all(self) -> list[Letter]:
        return [
            Letter.decode(self._group, entry) for entry in self._memory.entries(self._memory.keys.dead(self._group))
        ]

    async def matching(self, only: Filter, newest: Sequence[str], limit: int | None) -> AsyncIterator[Letter]:
        now, found = self._memory.now(), 0
        for letter in self.all():
            age = now - milliseconds(letter.entry_id)
            late = only.since is None or age <= only.since.total_seconds() * 1000
            early = only.older_than is None or age >= only.older_than.total_seconds() * 1000
            if late and early and only.matches(letter) and found != limit:
                found += 1
                yield letter

    async def named(self, ids: Iterable[str]) -> list[Letter]:
        known = {name: letter for letter in self.all() for name in (letter.id, letter.event_id)}
        wanted = list(dict.fromkeys(ids))
        missing = sorted(id for id in wanted if id not in known)
        if missing:
            raise NotFound(
                f"{self._group} has no dead letter {', '.join(missing[:5])}; see `streams dead ls {self._group}`"
            )
        return [known[id] for id in wanted]

    async def newest(self) -> list[str]:
        return []

    async def must_exist(self) -> None:
        if self._group not in self._memory.groups:
            there = ", ".join(sorted(self._memory.groups))
            raise NotFound(f"no group {self._group} in {self._client.settings.app}; there are: {there}")


class MemoryLetters(DeadLetters):
    """What one group gave up: a sequence for asserts, and the verbs of `DeadLetters`."""

    def __init__(self, client: Streams, group: str, memory: Memory) -> None:
        super().__init__(client, group)
        self._found: _Found = _Found(client, group, memory)
        self._memory = memory

    def __len__(self) -> int:
        return len(self._found.all())

    def __getitem__(self, position: int) -> Letter:
        return self._found.all()[position]

    async def count(self) -> int:
        """How many there are."""
        await self._found.must_exist()
        return len(self)

    async def ls(self, only: Filter = EVERYTHING, *, limit: int | None = None) -> AsyncIterator[Letter]:
        """The dead letters, oldest first."""
        await self._found.must_exist()
        async for letter in self._found.matching(only, [], limit):
            yield letter

    async def edit(self, id: str, event: Event, *, by: str = "") -> Letter:
        """As there: the corrected one takes the place of the other."""
        letter = await self.show(id)
        fields, record = corrected(letter, event, by or operator(), most=self._client.settings.max_bytes)
        keys = self._memory.keys
        self._memory.append(keys.history(self.group), record)
        made = self._memory.append(keys.dead(self.group), fields)
        self._memory.delete(keys.dead(self.group), letter.entry_id.encode())
        return await self.show(made.decode())

    async def _replay(self, partition: Any, chunk: list[Letter], by: str) -> int:
        return self._each(chunk, "replayed", by)

    async def _discard(self, partition: Any, chunk: list[Letter], by: str) -> int:
        return self._each(chunk, "discarded", by)

    def _each(self, chunk: list[Letter], outcome: str, by: str) -> int:
        memory, keys = self._memory, self._memory.keys
        for letter in chunk:
            if outcome == "replayed":
                memory.append(keys.inbox(self.group), letter.again())
            memory.append(keys.history(self.group), letter.record(outcome, by))
            memory.delete(keys.dead(self.group), letter.entry_id.encode())
        return len(chunk)
