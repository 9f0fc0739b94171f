"""schedules: what publishes by itself: listed, paused, run by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.exit import run as go
from streams.cli.output import json_array, note, print_rich, row, table, write, write_json
from streams.cli.session import opened
from streams.cli.times import parse_seconds
from streams.durations import format_duration

if TYPE_CHECKING:
    from streams.scheduling.admin import Run, ScheduleState

schedules = typer.Typer(help="Shows, pauses, runs schedules.", add_completion=False, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(help="The schedule, such as report.weekly.", metavar="NAME")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@schedules.command("ls")
def ls(json: Json = False) -> None:
    """Lists schedules, with their next slot and the last one that published.

    streams schedules ls
    """
    go(_ls(json))


async def _ls(json: bool) -> None:
    async with opened() as streams:
        states = await streams.schedules.ls()
    if json:
        with json_array() as item:
            for state in states:
                item(state.as_json())
        return
    if not states:
        note("no processor with schedules has started yet")
        return
    made = table("NAME", "WHEN", "ZONE", "NEXT", "LAST", "MISSED", "STATE", right=("MISSED",), whole=("NAME",))
    for state in states:
        row(
            made, state.name, state.words or state.problem, state.tz, _moment(state.next), _moment(state.last),
            state.missed, _condition(state),
        )  # fmt: skip
    print_rich(made)


def _moment(at: datetime | None) -> str:
    """The instant in the schedule's zone, and how far it is from now."""
    if at is None:
        return "-"
    away = (at - datetime.now(UTC)).total_seconds()
    distance = f"in {format_duration(away)}" if away >= 0 else f"{format_duration(-away)} ago"
    return f"{at:%Y-%m-%d %H:%M:%S%z} ({distance})"


def _condition(state: ScheduleState) -> str:
    if state.paused:
        return "paused"
    return "" if state.alive else f"no consumer: {state.processor}"


@schedules.command("pause")
def pause(name: Name, json: Json = False) -> None:
    """Pauses a schedule; slots that pass are skipped.

    streams schedules pause report.weekly
    """
    go(_switch(name, True, json))


@schedules.command("resume")
def resume(name: Name, json: Json = False) -> None:
    """Resumes a paused schedule with its next slot.

    streams schedules resume report.weekly
    """
    go(_switch(name, False, json))


async def _switch(name: str, on: bool, json: bool) -> None:
    async with opened() as streams:
        changed = await (streams.schedules.pause(name) if on else streams.schedules.resume(name))
    if json:
        write_json({"name": name, "paused": on, "changed": changed})
    else:
        write(f"{'paused' if on else 'resumed'} {name}" if changed else f"{name} was {'' if on else 'not '}paused")


@schedules.command("run")
def run(
    name: Name,
    wait: Annotated[str, typer.Option(help="Time to wait for what it publishes: 5, 1m.")] = "5",
    json: Json = False,
) -> None:
    """Runs a schedule now, independent of its slots, also while it is paused.

    A running consumer of its processor does it; without one, the request expires after a minute.

    streams schedules run report.weekly
    """
    go(_run(name, parse_seconds(wait, "--wait"), json))


async def _run(name: str, wait: float, json: bool) -> None:
    async with opened() as streams:
        ran = await streams.schedules.run(name, timeout=wait)
    if json:
        write_json(_as_json(ran))
    elif ran.ids:
        write(f"ran {name}: published {' '.join(ran.ids)}")
    elif ran.ids is not None and not ran.failed:
        write(f"ran {name}: it published nothing")
    _complain(ran)


def _complain(ran: Run) -> None:
    from streams.errors import StreamsError

    if ran.failed:
        raise StreamsError(f"{ran.schedule}: its function failed; the log of its consumer says why (schedule.failed)")
    if ran.ids is None:
        raise StreamsError(f"{ran.schedule}: no consumer of its processor answers; start one within a minute")


def _as_json(ran: Run) -> dict[str, Any]:
    return {
        "name": ran.schedule, "at": ran.at.isoformat(), "answered": ran.ids is not None, "failed": ran.failed,
        "ids": list(ran.ids or ()),
    }  # fmt: skip


@schedules.command("forget")
def forget(name: Name, json: Json = False) -> None:
    """Removes a schedule that no code declares any more.

    streams schedules forget report.weekly
    """
    go(_forget(name, json))


async def _forget(name: str, json: bool) -> None:
    async with opened() as streams:
        await streams.schedules.forget(name)
    if json:
        write_json({"name": name, "forgotten": True})
    else:
        write(f"forgot {name}")
