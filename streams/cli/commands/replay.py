"""replay, replays: delivers a stream's history again to one group; shows, resumes and cancels what was begun."""

from __future__ import annotations

import asyncio
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.exit import Usage, run
from streams.cli.output import console, json_array, note, print_rich, row, table, write, write_json
from streams.cli.session import opened
from streams.cli.times import parse_moment
from streams.durations import format_duration

if TYPE_CHECKING:
    from streams.admin.replay_job import Replay

Rate = Annotated[float | None, typer.Option(help="The maximum number per second.", metavar="N")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Id = Annotated[str, typer.Argument(help="The replay's id, as `streams replays ls` shows it.", metavar="ID")]

replays = typer.Typer(help="Shows, resumes, cancels replays.", add_completion=False, rich_markup_mode=None)


def replay(
    stream: Annotated[
        str, typer.Argument(help="The stream (users) or one priority of it (users:low).", metavar="STREAM")
    ],
    group: Annotated[str, typer.Option("--group", help="The one group it is delivered to.", metavar="G")],
    since: Annotated[str, typer.Option("--from", help="From -1h, a time, or an entry id on.", metavar="TIME|ID")] = "",
    until: Annotated[str, typer.Option("--to", help="Up to a time or an entry id; now, else.", metavar="TIME|ID")] = "",
    type: Annotated[list[str] | None, typer.Option("--type", help="Only this type; several may be given.")] = None,
    id: Annotated[list[str] | None, typer.Option("--id", help="Only this event; several may be given.")] = None,
    rate: Rate = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count them.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Delivers history again.

    What is still in the stream, to this one group. It can be interrupted with Ctrl-C and resumed.

    streams replay users --group email --from -2h --type UserRegistered --dry-run
    """
    _check(rate)
    which = {
        "since": parse_moment(since, "--from"), "until": parse_moment(until, "--to"),
        "types": type or [], "ids": id or [],
    }  # fmt: skip
    run(_replay(stream, group, which, rate, dry_run, yes or bool(since or until or type or id), json))


async def _replay(
    stream: str, group: str, which: dict[str, Any], rate: float | None, dry_run: bool, yes: bool, json: bool
) -> None:
    async with opened() as streams:
        planned = await streams.replays.plan(stream, group=group, **which)
        if dry_run:
            if json:
                write_json({"stream": stream, "group": group, "matched": planned.matched, "dry_run": True})
            else:
                write(f"would replay {planned.matched:,} of {stream} to {group}")
            return
        if not yes:
            _confirm(planned)
        with ExitStack() as stack:
            progress = _Progress(stack)
            try:
                ended = await streams.replays.begin(planned, rate=rate, progress=progress)
            except (KeyboardInterrupt, asyncio.CancelledError):
                progress.interrupted()
                raise
    _write_replay(ended, json)


def _confirm(planned: Replay) -> None:
    text = f"{planned.matched:,} events of {planned.stream} to {planned.group}"
    if not sys.stdin.isatty():
        raise Usage(f"this would replay {text}; narrow it with --from, --to, --type or --id, or give --yes")
    if not typer.confirm(f"replay {text}?", err=True):
        raise typer.Abort


class _Progress:
    """How far it is, on stderr when that is a terminal."""

    def __init__(self, stack: ExitStack) -> None:
        self._line = stack.enter_context(console(stderr=True).status("counting")) if sys.stderr.isatty() else None
        self._last: Replay | None = None

    def __call__(self, job: Replay) -> None:
        if self._last is None:
            note(f"replay {job.id}: {job.matched:,} events of {job.stream} to {job.group}")
        self._last = job
        if self._line is not None:
            self._line.update(f"replayed {job.replayed:,} of {job.matched:,}")

    def interrupted(self) -> None:
        if self._last is not None:
            job = self._last
            note(
                f"interrupted at about {job.replayed:,} of {job.matched:,}; go on with streams replays resume "
                f"{job.id}, or end it with streams replays cancel {job.id}"
            )


def _write_replay(job: Replay, json: bool) -> None:
    if json:
        write_json(job.as_json())
        return
    fewer = job.matched - job.replayed
    text = f"replayed {job.replayed:,} of {job.stream} to {job.group}"
    if job.state == "cancelled":
        write(f"{text}; cancelled, {fewer:,} were left")
    else:
        write(text + (f"; {fewer:,} were trimmed meanwhile" if fewer > 0 else ""))


@replays.command("ls")
def ls(json: Json = False) -> None:
    """Lists replays.

    The unfinished ones, and the last hundred finished ones.

    streams replays ls
    """
    run(_ls(json))


async def _ls(json: bool) -> None:
    async with opened() as streams:
        jobs = await streams.replays.ls()
    if json:
        with json_array() as item:
            for job in jobs:
                item(job.as_json())
        return
    made = table(
        "ID", "STREAM", "GROUP", "STATE", "REPLAYED", "OF", "LAST STEP", "BY",
        right=("REPLAYED", "OF"), whole=("ID", "LAST STEP"),
    )  # fmt: skip
    now = datetime.now(UTC)
    for job in jobs:
        ago = f"{format_duration((now - datetime.fromisoformat(job.updated_at)).total_seconds())} ago"
        row(made, job.id, job.stream, job.group, job.state, f"{job.replayed:,}", f"{job.matched:,}", ago, job.by)
    if made.row_count:
        print_rich(made)
    else:
        note("no replay was begun yet")


@replays.command("resume")
def resume(id: Id, rate: Rate = None, json: Json = False) -> None:
    """Resumes a replay.

    One that was interrupted, from where it was; each event is replayed once.

    streams replays resume 1f0c22ab
    """
    _check(rate)
    run(_resume(id, rate, json))


async def _resume(id: str, rate: float | None, json: bool) -> None:
    async with opened() as streams:
        with ExitStack() as stack:
            progress = _Progress(stack)
            try:
                ended = await streams.replays.resume(id, rate=rate, progress=progress)
            except (KeyboardInterrupt, asyncio.CancelledError):
                progress.interrupted()
                raise
    _write_replay(ended, json)


@replays.command("cancel")
def cancel(id: Id, json: Json = False) -> None:
    """Ends a replay at its cursor.

    The messages that are in the group's inbox already are delivered.

    streams replays cancel 1f0c22ab
    """
    run(_cancel(id, json))


async def _cancel(id: str, json: bool) -> None:
    async with opened() as streams:
        job = await streams.replays.cancel(id)
    if json:
        write_json(job.as_json())
    elif job.state == "cancelled":
        write(f"cancelled {id} at {job.replayed:,} of {job.matched:,}")
    else:
        write(f"{id} was {job.state} before, {job.replayed:,} of {job.matched:,}")


def _check(rate: float | None) -> None:
    if rate is not None and not rate > 0:
        raise Usage(f"--rate {rate:g} must be above 0 (messages a second)")
