"""status: how it stands: streams, groups, consumers, what waits, what is dead."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from streams.cli.exit import run
from streams.cli.output import console, json_text, print_rich, row, safe, table, write, write_json
from streams.cli.session import opened
from streams.cli.times import parse_seconds
from streams.durations import format_duration

if TYPE_CHECKING:
    from rich.console import Group
    from rich.text import Text

    from streams.client.client import Streams
    from streams.inspecting.reconciliation import Accounts
    from streams.inspecting.snapshot import GroupState, Snapshot, Waiting

_COUNTS: Final = (
    "published", "replayed", "acked", "dead", "discarded", "cancelled", "expired",
    "waiting", "pending", "unread", "gap",
)  # fmt: skip
_ALWAYS: Final = ("published", "acked", "unread", "gap")
_LATE: Final = 2.0  # seconds that something due may wait without a word: movers look every half second


def status(
    watch: Annotated[bool, typer.Option("--watch", help="Repeat until Ctrl-C.")] = False,
    every: Annotated[str, typer.Option(help="Time between two outputs of --watch: 2, 500ms.")] = "2",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object; with --watch one a line.")] = False,
) -> None:
    """Shows streams, groups and consumers.

    streams status --watch
    """
    run(_watch(parse_seconds(every, "--every", least=0.2), json) if watch else _status(json))


async def _status(json: bool) -> None:
    async with opened() as streams:
        snapshot = await streams.snapshot()
    if json:
        write_json(snapshot.as_json())
    else:
        print_rich(picture(snapshot))


async def _watch(every: float, json: bool) -> None:
    async with opened() as streams:
        if json:
            await _watch_json(streams, every)
        from rich.live import Live

        with Live(console=console(), auto_refresh=False, screen=console().is_terminal) as live:
            while True:
                live.update(await _look(streams), refresh=True)
                await asyncio.sleep(every)


async def _watch_json(streams: Streams, every: float) -> None:
    import sys

    while True:
        write(json_text((await streams.snapshot()).as_json()))
        sys.stdout.flush()
        await asyncio.sleep(every)


async def _look(streams: Streams) -> Any:
    from rich.text import Text

    from streams.errors import Unreachable

    try:
        return picture(await streams.snapshot())
    except Unreachable as error:  # a restart of Redis is what people watch
        return Text(safe(error), style="red")


def picture(snapshot: Snapshot, width: int | None = None) -> Group:
    """The snapshot for people whose terminal has `width` columns, by itself this one."""
    from rich.console import Group
    from rich.text import Text

    server = snapshot.server
    fsync = f" {server.appendfsync}" if server.appendfsync else ""
    head = Text.assemble(
        (snapshot.app, "bold"), f" on {safe(server.place)}, Redis {safe(server.version)}, ",
        (server.maxmemory_policy, "" if server.maxmemory_policy == "noeviction" else "bold red"), ", ",
        (f"AOF{fsync}" if server.aof else "AOF off", "" if server.aof else "bold red"),
        f", {_size(sum(each.used_memory for each in snapshot.servers))} used",
        _partitions(snapshot),
    )  # fmt: skip
    parts: list[Any] = [head, Text()]
    if not snapshot.streams and not snapshot.groups:
        is_new = not snapshot.waiting.total and not snapshot.accounts.cancelled
        start = "nothing is published yet" if is_new else "nothing is in a stream"
        parts.append(Text(f"{start}, and no group has started: streams publish --help"))
        return Group(*parts, *(() if is_new else _waiting(snapshot.waiting, snapshot.accounts.cancelled)))
    parts += [_streams(snapshot), Text(), _groups(snapshot), Text()]
    consumers = _consumers(snapshot)
    parts += [consumers, Text()] if consumers else []
    parts += [*_accounts(snapshot, width or console().width), Text()] if snapshot.accounts.groups else []
    return Group(*parts, *_waiting(snapshot.waiting, snapshot.accounts.cancelled))


def _partitions(snapshot: Snapshot) -> Text:
    from rich.text import Text

    if snapshot.registered != snapshot.partitions:
        difference = f", STREAMS_PARTITIONS is {snapshot.partitions}, but there are {snapshot.registered}"
        return Text(difference, style="bold red")
    many = snapshot.partitions > 1
    return Text(f", {snapshot.partitions} partitions on {len(snapshot.servers)} server(s)" if many else "")


def _waiting(waiting: Waiting, cancelled: int) -> Iterator[Text]:
    from rich.text import Text

    before = f"; {cancelled:,} delayed cancelled before they were due" if cancelled else ""
    if not waiting.total:
        yield Text(f"waiting 0{before}")
        return
    due = waiting.next_due
    back = waiting.total - waiting.delayed - waiting.queued
    soon = f"; next due in {format_duration(due)}" if due is not None and due >= 0 else ""
    line = f", {waiting.queued:,} queued" if waiting.queued else ""
    yield Text(
        f"waiting {waiting.total:,}: {waiting.delayed:,} delayed, {back:,} retries and snoozes{line}{soon}{before}"
    )
    if due is not None and due < -_LATE:
        late = f"{waiting.overdue:,} overdue, the oldest for {format_duration(-due)}: a running consumer moves them"
        yield Text(late, style="bold red")


def _streams(snapshot: Snapshot) -> Any:
    made = table("STREAM", "LENGTH", "OLDEST", right=("LENGTH", "OLDEST"), whole=("STREAM",))
    for stream in snapshot.streams:
        if stream.priority != "normal" and not stream.length:
            continue  # a priority that is not used
        name = stream.name if stream.priority == "normal" else f"{stream.name}:{stream.priority}"
        row(made, name, f"{stream.length:,}", format_duration(stream.oldest))
    return made


def _groups(snapshot: Snapshot) -> Any:
    columns = ("LAG", "UNREAD FOR", "PENDING", "IDLE", "WAITING", "DEAD", "ALIVE")
    made = table("GROUP", *columns, right=columns, whole=("GROUP",))
    for group in snapshot.groups:
        idle = max((r.oldest_idle for r in group.readings if r.oldest_idle is not None), default=None)
        row(
            made, group.name, f"{group.lag:,}", format_duration(group.oldest_unread), f"{group.pending:,}",
            format_duration(idle), f"{group.waiting:,}",
            _loud(f"{group.dead:,}", group.dead > 0), _loud(str(group.alive), _is_stuck(group)),
        )  # fmt: skip
        for reading in group.readings:
            if (reading.lag or reading.pending) and len(group.readings) > 1:
                row(
                    made, f"  {reading.stream}", f"{reading.lag:,}", format_duration(reading.oldest_unread),
                    f"{reading.pending:,}", format_duration(reading.oldest_idle), "", "", "", style="dim",
                )  # fmt: skip
    return made


def _accounts(snapshot: Snapshot, width: int) -> Iterator[Any]:
    """What was published, and its outcomes: the line of a group adds up, or there is a gap.

    Columns without anything in them are left out; what is too wide all the same goes on in a further table.
    """
    accounts = snapshot.accounts
    shown = [name for name in _COUNTS if name in _ALWAYS or any(getattr(group, name) for group in accounts.groups)]
    lines: list[list[str]] = [[]]
    for name in shown:
        if _measure(_account(accounts, [*lines[-1], name])) > width and lines[-1]:
            lines.append([])
        lines[-1].append(name)
    for names in lines:
        yield _account(accounts, names)
    for gap in accounts.gaps():
        between = f", between {gap.after} and {gap.before}" if gap.before else ""
        of = f" of {gap.group}" if gap.group and gap.group not in gap.where else ""
        yield _loud(safe(f"GAP {gap.count:,} missing in {gap.where}{of}{between}: streams gaps"), True)


def _account(accounts: Accounts, names: list[str]) -> Any:
    columns = [name.upper() for name in names]
    made = table("ACCOUNT", *columns, right=columns, whole=("ACCOUNT",))
    for group in accounts.groups:
        counts = (_loud(f"{getattr(group, name):,}", name == "gap" and group.gap != 0) for name in names)
        row(made, group.group, *counts)
    return made


def _measure(made: Any) -> int:
    from rich.console import Console

    return Console(width=10_000).measure(made).maximum


def _is_stuck(group: GroupState) -> bool:
    return not group.alive and bool(group.lag or group.pending or group.waiting)


def _consumers(snapshot: Snapshot) -> Any:
    made = table("CONSUMER", "GROUP", "HEARTBEAT", "PENDING", right=("HEARTBEAT", "PENDING"), whole=("CONSUMER",))
    for group in snapshot.groups:
        for consumer in group.consumers:
            beat = "never" if consumer.heartbeat is None else f"{format_duration(consumer.heartbeat)} ago"
            style = "" if consumer.alive else "dim"
            row(made, consumer.name, group.name, _loud(beat, bool(style)), f"{consumer.pending:,}", style=style)
    return made if made.row_count else None


def _loud(text: str, on: bool) -> Any:
    from rich.text import Text

    return Text(text, style="bold red" if on else "")


def _size(count: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1024 or unit == "GB":
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
