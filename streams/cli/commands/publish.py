"""publish: appends events to their streams: one, many alike, or a file of them."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import ExitStack, aclosing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from streams.cli.event_input import event_class, make_event, parse_data, read_events, split_fields
from streams.cli.exit import Usage, run
from streams.cli.output import Lenient, json_array, write, write_json
from streams.cli.session import opened
from streams.cli.times import parse_duration, parse_instant
from streams.durations import format_duration

if TYPE_CHECKING:
    from streams.client.client import Streams
    from streams.events.event import Event
    from streams.receipt import Receipt

_BATCH: Final = 500


def publish(
    type: Annotated[str, typer.Argument(help="The event's type, as `streams schema` lists them.", metavar="TYPE")] = "",
    fields: Annotated[
        list[str] | None, typer.Argument(help="Its fields, each as name=value.", metavar="K=V...")
    ] = None,
    data: Annotated[str, typer.Option(help="Its fields as a JSON object; K=V override it.", metavar="JSON")] = "",
    delay: Annotated[str, typer.Option(help="Delay it: 10s, 5m, 2h, 1h30m.", metavar="TIME")] = "",
    at: Annotated[str, typer.Option(help="Delay it until a time: 2026-11-24T09:00:00+01:00.", metavar="ISO")] = "",
    once: Annotated[str, typer.Option(help="Publish one event under this name in 24 hours.", metavar="NAME")] = "",
    key: Annotated[str, typer.Option(help="The ordering key.")] = "",
    expires: Annotated[
        str, typer.Option(help="Start no handler for it after this time: 30s, 5m.", metavar="TIME")
    ] = "",
    priority: Annotated[
        Literal["high", "normal", "low"] | None, typer.Option(help="Its priority; default: the event's own.")
    ] = None,
    count: Annotated[
        int | None, typer.Option(min=1, help="Publish N events, with {n} in values replaced by 1, 2, ...", metavar="N")
    ] = None,
    ndjson: Annotated[
        str, typer.Option(help='Publish a file (- is stdin) of lines {"type": ..., "data": {...}}.', metavar="FILE")
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="Print the receipt as JSON; of many, an array.")] = False,
) -> None:
    """Publishes an event.

    streams publish UserRegistered user_id=7 email=ada@example.com name=Ada
    """
    hold = _hold(delay, at) | ({"expires": parse_duration(expires, "--expires")} if expires else {})
    if once and (ndjson or count is not None):
        raise Usage("--once names one event; leave it out with --ndjson and --count")
    if ndjson:
        if type or fields or data or count:
            raise Usage("--ndjson takes every type and field from the file; leave TYPE, K=V, --data and --count out")
        events = read_events(ndjson)
        run(_publish_many(lambda: events, hold, key, priority, json))
        return
    if not type:
        raise Usage("name the TYPE of the event, or give --ndjson FILE; see streams publish --help")
    given = split_fields(fields or [])
    if count is not None:
        run(_publish_many(lambda: _copies(type, given, data, count), hold, key, priority, json, total=count))
    else:
        run(_publish_one(type, given, data, hold | ({"once": once} if once else {}), key, priority, json))


async def _publish_one(
    type: str, fields: dict[str, str], data: str, hold: dict[str, Any], key: str, priority: Any, json: bool
) -> None:
    sys.stdout = Lenient(sys.stdout)
    async with opened() as streams:
        await streams.check()  # a Redis that is away is said at once; publish() would try for a while
        event = make_event(event_class(type), parse_data(data) if data else {}, fields)
        receipt = await streams.publish(event, key=key, priority=priority, **hold)
    if json:
        write_json(_as_json(receipt))
    else:
        write(f"published {type} {receipt.id} to {receipt.stream}{_held_back(hold)}")


async def _publish_many(
    events: Callable[[], Iterator[Event]],
    hold: dict[str, Any],
    key: str,
    priority: Any,
    json: bool,
    *,
    total: int | None = None,
) -> None:
    sys.stdout = Lenient(sys.stdout)  # what cannot be printed ends no publishing, and makes no script publish it again
    began, published, names = time.monotonic(), 0, set[str]()
    async with opened() as streams:
        await streams.check()
        with ExitStack() as stack:
            show = stack.enter_context(json_array()) if json else None
            advance = _progress(stack, total)
            async with aclosing(_receipts(streams, events(), hold, key, priority)) as batches:
                async for receipts in batches:
                    published += len(receipts)
                    names.update(receipt.stream for receipt in receipts)
                    if show is not None:
                        for receipt in receipts:
                            show(_as_json(receipt))
                    advance(len(receipts))
    if not json:
        seconds = max(time.monotonic() - began, 0.001)
        where = f" to {', '.join(sorted(names))}" if names else ""
        speed = f"{format_duration(seconds)} ({published / seconds:,.0f}/s)"
        write(f"published {published:,} events{where} in {speed}{_held_back(hold)}")


async def _receipts(
    streams: Streams, events: Iterator[Event], hold: dict[str, Any], key: str, priority: Any
) -> AsyncGenerator[list[Receipt], None]:
    """Publishes batch by batch; when an event cannot be made, what came before it is published first."""
    import asyncio

    batch: list[Event] = []
    problem: Usage | None = None
    published = 0
    while problem is None:
        try:
            event = next(events, None)
        except Usage as error:
            event, problem = None, error
        if event is not None:
            batch.append(event)
        if len(batch) == _BATCH or (event is None and batch):
            if hold:
                each = (streams.publish(event, key=key, priority=priority, **hold) for event in batch)
                receipts = await asyncio.gather(*each)
            else:
                receipts = await streams.publish_many(batch, key=key, priority=priority)
            published += len(receipts)
            batch = []
            yield receipts
        if event is None:
            break
    if problem is not None:
        raise Usage(f"{problem}; published before it: {published:,}, after it: none")


def _copies(type: str, fields: dict[str, str], data: str, count: int) -> Iterator[Event]:
    model = event_class(type)
    for n in range(1, count + 1):
        numbered = {name: value.replace("{n}", str(n)) for name, value in fields.items()}
        yield make_event(model, parse_data(data.replace("{n}", str(n))) if data else {}, numbered)


def _progress(stack: ExitStack, total: int | None) -> Callable[[int], None]:
    """A bar on stderr when that is a terminal."""
    if not sys.stderr.isatty():
        return _unseen
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from streams.cli.output import console

    bar = Progress(
        TextColumn("publishing"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=console(stderr=True), transient=True,
    )  # fmt: skip
    stack.enter_context(bar)
    task = bar.add_task("publishing", total=total)
    return lambda count: bar.advance(task, count)


def _unseen(count: int) -> None:
    """The progress when stderr is no terminal."""


def _hold(delay: str, at: str) -> dict[str, Any]:
    if delay and at:
        raise Usage("give --delay or --at, not both")
    if delay:
        return {"delay": parse_duration(delay, "--delay")}
    if not at:
        return {}
    when = parse_instant(at, "--at")
    if when is None:  # now
        return {}
    if when < datetime.now(UTC) - timedelta(seconds=1):
        raise Usage(f"--at {at!r} is in the past")
    return {"at": when}


def _held_back(hold: dict[str, Any]) -> str:
    if "delay" in hold:
        return f", due in {format_duration(hold['delay'].total_seconds())}"
    return f", due at {hold['at'].isoformat()}" if "at" in hold else ""


def _as_json(receipt: Receipt) -> dict[str, Any]:
    return {"id": receipt.id, "stream": receipt.stream, "partition": receipt.partition}
