"""tail: what is in a stream, and what comes into it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from streams.cli.body import body, body_text
from streams.cli.exit import Usage, run
from streams.cli.output import brief, json_array, json_text, note, safe, write
from streams.cli.session import opened
from streams.cli.times import parse_moment
from streams.phrases import listed, meant

if TYPE_CHECKING:
    from streams.client.client import Streams
    from streams.redis.entries import Entry
    from streams.redis.partition import Partition

_BLOCK_MS: Final = 1_000
_FOLLOW_PAGE: Final = 100


def tail(
    stream: Annotated[
        str, typer.Argument(help="A stream (users), one priority of it (users:high), or inbox:GROUP.", metavar="STREAM")
    ],
    start: Annotated[
        str, typer.Option("--from", help="From -1h, a time, or after an entry id.", metavar="TIME|ID")
    ] = "",
    limit: Annotated[int | None, typer.Option(min=1, help="The maximum number (default 20; with --from all).")] = None,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", "-f", help="Follow new entries.")] = False,
    reveal: Annotated[bool, typer.Option("--reveal", help="Show personal data too.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print an array; with --follow one object a line.")] = False,
) -> None:
    """Shows the messages of a stream.

    The newest 20 or, with --from, all since then; all priorities together, oldest first. Times are UTC.

    streams tail users --from -1h --follow
    """
    parse_moment(start, "--from")  # what is wrong with it is shown before anything is started
    run(_tail(stream, start, limit, follow, reveal, json))


async def _tail(stream: str, start: str, limit: int | None, follow: bool, reveal: bool, json: bool) -> None:
    async with opened() as streams:
        keys = await _keys(streams, stream)
        since = await _since(streams, start)
        shown = _Shown(streams, reveal)
        if json and not follow:
            with json_array() as item:
                await _print_past(streams, keys, since, limit, lambda key, entry: item(shown.as_json(key, entry)))
            return
        line = shown.json_line if json else shown.line
        last = await _print_past(streams, keys, since, limit, lambda key, entry: write(line(key, entry)))
        if not follow and set(last.values()) <= {since or "0-0"}:
            note(f"nothing in {stream}" + (f" since {start}" if start else ""))
        if follow:
            await _follow(streams, last, lambda key, entry: write(line(key, entry)))


async def _keys(streams: Streams, name: str) -> list[str]:
    """The stream keys meant; raises `NotFound` for a stream that neither exists nor belongs to a registered event."""
    from streams.errors import NotFound
    from streams.events.event import registered, registered_types
    from streams.redis.keys import PRIORITIES

    base, _, suffix = name.partition(":")
    if base == "inbox":
        keys = [partition.keys.inbox(suffix) for partition in streams.partitions]
    elif suffix:
        if suffix not in PRIORITIES:
            raise Usage(f"{name!r}: a priority is one of {', '.join(PRIORITIES)}")
        keys = [partition.keys.stream(base, suffix) for partition in streams.partitions]
    else:
        keys = [key for partition in streams.partitions for key in partition.keys.by_priority(base)]
    known = {event.stream for event in map(registered, registered_types()) if event is not None}
    if base in known or any([await _at(streams, key).redis.exists(key) for key in keys]):
        return keys
    raise NotFound(f"no stream {name} in {streams.settings.app}; {meant(base, known, listed(known))}")


def _at(streams: Streams, key: str) -> Partition:
    return streams.partitions[streams.partition_of(key)]


async def _since(streams: Streams, start: str) -> str:
    """The entry id to begin after, empty for the newest entries. A time ago is one by Redis' clock."""
    from streams.redis.partition import Reads

    now = datetime.fromtimestamp(await Reads(streams.partitions[0]).now_ms() / 1000, UTC)
    found = parse_moment(start, "--from", now=now)
    if isinstance(found, datetime):
        return f"{max(0, round(found.timestamp() * 1000))}-0"
    if found is None:
        return f"{round(now.timestamp() * 1000)}-0" if start else ""
    return found if "-" in found else f"{found}-0"


async def _print_past(
    streams: Streams, keys: list[str], since: str, limit: int | None, show: Callable[[str, Entry], None]
) -> dict[str, str]:
    """Shows what is there; returns the last entry id that was seen of each key: what follows comes after that."""
    last = dict.fromkeys(keys, since or "0-0")
    if since:
        async with aclosing(_merged(streams, keys, since)) as entries:
            async for key, entry in entries:
                if limit == 0:
                    break
                limit = None if limit is None else limit - 1
                show(key, entry)
                last[key] = entry[0].decode()
        return last
    from streams.redis.entries import Entries, position

    count = limit or 20
    found = [(key, entry) for key in keys async for entry in Entries(_at(streams, key)).backward(key, most=count)]
    found.sort(key=lambda one: position(one[1][0]))
    for key, entry in found:
        last[key] = entry[0].decode()
    for key, entry in found[-count:]:
        show(key, entry)
    return last


def _merged(streams: Streams, keys: list[str], since: str) -> AsyncGenerator[tuple[str, Entry], None]:
    """The entries of several streams in the order they were added, a page of each in memory."""
    from streams.redis.entries import Entries, merged, position

    async def of(key: str) -> AsyncGenerator[tuple[str, Entry], None]:
        async for entry in Entries(_at(streams, key)).forward(key, f"({since}"):
            yield key, entry

    return merged([of(key) for key in keys], lambda one: position(one[1][0]))


async def _follow(streams: Streams, last: dict[str, str], show: Callable[[str, Entry], None]) -> None:
    sys.stdout.flush()
    # One read may touch the keys of one partition only.
    parts = [
        {key: after for key, after in last.items() if streams.partition_of(key) == partition.number}
        for partition in streams.partitions
    ]
    await asyncio.gather(*map(_follow_partition, streams.partitions, parts, [show] * len(parts)))


async def _follow_partition(partition: Partition, last: dict[str, str], show: Callable[[str, Entry], None]) -> None:
    connection = partition.connections.direct(timeout=10.0)
    try:
        while True:
            reply = await connection.call(
                b"XREAD", b"COUNT", _FOLLOW_PAGE, b"BLOCK", _BLOCK_MS, b"STREAMS", *last, *last.values()
            )
            for name, entries in reply or ():
                for entry_id, fields in entries:
                    show(name.decode(), (entry_id, fields))
                    last[name.decode()] = entry_id.decode()
            sys.stdout.flush()
    finally:
        await connection.aclose()


class _Shown:
    """How one message is shown."""

    def __init__(self, streams: Streams, reveal: bool) -> None:
        self._streams = streams
        self._reveal = reveal

    def as_json(self, key: str, entry: Entry) -> dict[str, Any]:
        from streams.messages.message import decode
        from streams.redis.keys import came_back

        message = decode(entry, came_back=came_back(key))
        return {
            "entry_id": entry[0].decode(),
            "stream": _at(self._streams, key).keys.short(key),
            "partition": self._streams.partition_of(key),
            "id": message.id,
            "type": message.type,
            "version": message.version,
            "source": message.source,
            "time": message.time,
            "key": message.key,
            "correlation_id": message.correlation_id,
            "causation_id": message.causation_id,
            "traceparent": message.traceparent,
            "attempts": message.carried.failures if message.carried else 0,
            "replays": message.carried.replays if message.carried else 0,
            "data": body(message.type, message.data, reveal=self._reveal),
        }

    def json_line(self, key: str, entry: Entry) -> str:
        return json_text(self.as_json(key, entry))

    def line(self, key: str, entry: Entry) -> str:
        from streams.messages.message import decode
        from streams.redis.entries import milliseconds
        from streams.redis.keys import came_back
        from streams.redis.untrusted import moment

        message = decode(entry, came_back=came_back(key))
        at = moment(milliseconds(entry[0])).strftime("%H:%M:%S.%f")[:-3]
        short = _at(self._streams, key).keys.short(key)
        priority = f" [{short}]" if ":" in short else ""
        shown = body_text(message.type, message.data, reveal=self._reveal)
        return f"{at}  {safe(brief(message.id))}  {safe(brief(message.type))}{priority}  {safe(shown)}"
