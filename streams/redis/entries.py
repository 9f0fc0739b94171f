"""Entries: reads streams for people, page by page, so that a stream of any length fits into memory. Changes nothing."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from streams.redis.connection import Connections
from streams.redis.refusal import refusing
from streams.redis.script import Call, Script, run

if TYPE_CHECKING:
    import redis.asyncio

PAGE: Final = 200  # entries to a round trip: with the largest bodies (256 KiB) still only 50 MiB
_STEP: Final = 250  # entries looked through in one script call: about 1 ms in which Redis serves nobody else
_STEP_BYTES: Final = 1024 * 1024

T = TypeVar("T")
Entry = tuple[bytes, list[bytes]]
"""An entry id and its fields, flat: what `Message.decode` takes."""


class Reachable(Protocol):
    """A partition, or whatever else has connections and a client."""

    @property
    def connections(self) -> Connections:
        """How its server is reached."""

    @property
    def redis(self) -> redis.asyncio.Redis:
        """The client of that server."""


class Entries:
    """The entries of any stream of one partition (of a client: its first). Raises `Unreachable` or `Refused` when Redis
    does not serve them.
    """

    def __init__(self, client: Reachable) -> None:
        self._connections = client.connections
        self._redis: Any = client.redis  # its annotations are unions

    async def forward(
        self, key: str, start: str = "-", end: str = "+", *, most: int | None = None
    ) -> AsyncGenerator[Entry, None]:
        """Entries from `start` to `end` (as XRANGE takes them), oldest first, at most `most`."""
        async for entry in self._walk("XRANGE", key, start, end, most):
            yield entry

    async def backward(
        self, key: str, end: str = "+", start: str = "-", *, most: int | None = None
    ) -> AsyncGenerator[Entry, None]:
        """Entries from `end` back to `start`, newest first, at most `most`."""
        async for entry in self._walk("XREVRANGE", key, end, start, most):
            yield entry

    async def get(self, key: str, entry_id: str) -> Entry | None:
        """One entry by its id, or None."""
        page = await self._page("XRANGE", key, entry_id, entry_id, 1)
        return page[0] if page else None

    async def search(
        self,
        key: str,
        field: bytes,
        *values: bytes,
        start: str = "-",
        end: str = "+",
        most: int | None = None,
        backward: bool = False,
    ) -> AsyncGenerator[Entry | None, None]:
        """The entries whose `field` has one of the values, looked for inside Redis; last of all None, if `most` were
        looked through and there are more.
        """
        first, last = (end, start) if backward else (start, end)
        left = most
        while left is None or left > 0:
            count = _STEP if left is None else min(_STEP, left)
            with refusing(self._connections):
                seen, at, ended, found = await find_entries(
                    self._redis.execute_command,
                    key, start=first, end=last, most=count, field=field, values=values, backward=backward,
                )  # fmt: skip
            for entry in found:
                yield entry
            if ended:
                return
            first = f"({at}"
            left = None if left is None else left - seen
        yield None

    async def _walk(
        self, command: str, key: str, first: str, last: str, most: int | None
    ) -> AsyncGenerator[Entry, None]:
        left = most
        while left is None or left > 0:
            count = PAGE if left is None else min(PAGE, left)
            page = await self._page(command, key, first, last, count)
            for entry in page:
                yield entry
            if len(page) < count:
                return
            first = f"({page[-1][0].decode()}"
            left = None if left is None else left - len(page)

    async def _page(self, command: str, key: str, first: str, last: str, count: int) -> list[Entry]:
        with refusing(self._connections):
            page = await self._redis.execute_command(command, key, first, last, "COUNT", count)
        return [(entry_id, list(chain.from_iterable(fields.items()))) for entry_id, fields in page]


async def merged(sources: Sequence[AsyncIterator[T]], position: Callable[[T], Any]) -> AsyncGenerator[T, None]:
    """What several sources give, each in order, in the order of all."""
    if len(sources) == 1:
        async for item in sources[0]:
            yield item
        return
    heads = {index: head async for index, head in _heads(sources)}
    while heads:
        at = min(heads, key=lambda index: position(heads[index]))
        yield heads.pop(at)
        async for head in sources[at]:
            heads[at] = head
            break


async def _heads(sources: Sequence[AsyncIterator[T]]) -> AsyncGenerator[tuple[int, T], None]:
    for index, source in enumerate(sources):
        async for head in source:
            yield index, head
            break


def milliseconds(entry_id: bytes | str) -> int:
    """When an entry was added by Redis' clock, in ms since 1970: the first half of its id."""
    shown = entry_id.decode() if isinstance(entry_id, bytes) else entry_id
    return int(shown.partition("-")[0])


def position(entry_id: bytes | str) -> tuple[int, int]:
    """An entry id as numbers, for comparing two."""
    shown = entry_id.decode() if isinstance(entry_id, bytes) else entry_id
    first, _, second = shown.partition("-")
    return int(first), int(second or 0)


FIND_ENTRIES: Final = Script.load("redis/find_entries")


async def find_entries(
    call: Call, stream: str, *, start: str, end: str, most: int, field: bytes, values: Sequence[bytes],
    backward: bool = False,
) -> tuple[int, str, bool, list[tuple[bytes, list[bytes]]]]:  # fmt: skip
    """Looks through at most `most` entries from `start`, fewer if they are large; returns (looked at, the last id,
    whether that was the end, those with one of the values).
    """
    arguments = ("XREVRANGE" if backward else "XRANGE", start, end, most, _STEP_BYTES, field, *values)
    seen, last, ended, found = await run(call, FIND_ENTRIES, (stream,), arguments)
    return seen, last.decode(), bool(ended), [(entry_id, fields) for entry_id, fields in found]


FETCH: Final = Script.load("redis/fetch")


async def fetch(call: Call, source: str, *, ids: Sequence[bytes], cut: int) -> list[tuple[bytes, list[bytes]]]:
    """Reads single entries; of one with more than `cut` bytes only what says which it is."""
    return [(entry_id, fields) for entry_id, fields in await run(call, FETCH, (source,), (cut, *ids))]
