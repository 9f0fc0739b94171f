"""event: where one event is, in every group."""

from __future__ import annotations

import sys
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from streams.cli.body import body, body_text
from streams.cli.exit import run
from streams.cli.output import console, json_text, note, pairs, print_rich, row, safe, table, write, write_json
from streams.cli.session import opened
from streams.durations import format_duration

if TYPE_CHECKING:
    from streams.handlers.progress import ProgressReport
    from streams.inspecting.event_status import EventStatus
    from streams.inspecting.follow import Update
    from streams.inspecting.group_status import GroupStatus

_STYLES: Final = {
    "expired": "yellow",
    "skipped": "dim",
    "queued": "yellow",
    "acked": "green",
    "dead": "bold red",
    "retrying": "yellow",
    "snoozed": "yellow",
    "running": "cyan",
}


def event(
    id: Annotated[str, typer.Argument(help="The event's id (of an entry without one: the entry's).", metavar="ID")],
    reveal: Annotated[bool, typer.Option("--reveal", help="Show personal data too.")] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show its progress until it is settled.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object (with --follow one a line).")] = False,
) -> None:
    """Shows where an event is.

    In every group: its state, attempts and errors; and its follow-up events. With --follow: the progress of its
    handlers, until every group has finished it.

    streams event 019ab2c4-5d6e-7f80-9a1b-2c3d4e5f6071
    """
    run(follow_event(id, json=json) if follow else _event(id, reveal, json))


async def _event(id: str, reveal: bool, json: bool) -> None:
    async with opened() as streams:
        trail = await streams.event(id)
    message = trail.message
    if json:
        data = body(message.type, message.data, reveal=reveal) if message is not None else None
        write_json(trail.as_json() | {"data": data})
        return
    print_rich(_head(trail, reveal))
    write()
    if trail.groups:
        _show_groups(trail)
    elif trail.cancelled is not None:
        by = trail.cancelled.get("consumer", "")
        at = trail.cancelled.get("at", "")[:19].replace("T", " ")
        write(safe(f"It was cancelled at {at} UTC by {by}, before any group had it."))
    elif not trail.stream:
        write("It is not in its stream any more.")
    elif trail.due_in is None:
        write("No group reads its stream yet.")
    if trail.follow_ups:
        write()
        followed = table("FOLLOW-UP", "TYPE", "STREAM", whole=("FOLLOW-UP", "TYPE"))
        for follow_up in trail.follow_ups:
            row(followed, follow_up.id, follow_up.type, follow_up.stream)
        print_rich(followed)
    if not trail.complete:
        note(f"searched: {trail.searched}; there may be more beyond that")


def _head(trail: EventStatus, reveal: bool) -> Any:
    message = trail.message
    where = f"{trail.stream} {trail.entry_id}".strip()
    if trail.due_in is not None:
        due = (
            f"due in {format_duration(trail.due_in)}"
            if trail.due_in >= 0
            else f"overdue for {format_duration(-trail.due_in)}"
        )
        where = f"waits for {trail.stream}, {due}"
    if message is None:
        was = (trail.cancelled or {}).get("stream", "")
        gone = "no stream any more" + (f" (it was for {was})" if was else "")
        return pairs([("id", trail.id), ("type", trail.known_type), ("in", gone)])
    return pairs(
        [
            ("id", trail.id),
            ("type", f"{message.type} (version {message.version})"),
            ("in", where),
            ("made", message.time),
            ("source", message.source),
            ("key", message.key),
            ("cause", message.causation_id),
            ("trace", message.traceparent),
            ("data", body_text(message.type, message.data, reveal=reveal)),
        ]
    )


def _show_groups(trail: EventStatus) -> None:
    from rich.text import Text

    made = table("GROUP", "STATE", "ATTEMPTS", "WHERE", "DETAIL", right=("ATTEMPTS",), whole=("GROUP", "STATE"))
    for group in trail.groups:
        state = Text(group.state, style=_STYLES.get(group.state, ""))
        row(made, group.group, state, group.attempts, group.where, _detail(group))
    print_rich(made)
    history = table("GROUP", "AT", "OUTCOME", "ATTEMPT", "ERROR", right=("ATTEMPT",), whole=("GROUP", "AT", "OUTCOME"))
    for group in trail.groups:
        for line in group.history:
            why = line.get("error") or line.get("reason", "")
            at = line.get("at", "")[:23].replace("T", " ")
            row(history, group.group, at, line.get("outcome", ""), line.get("attempt", ""), why)
    if history.row_count:
        write()
        print_rich(history)


def _detail(group: GroupStatus) -> str:
    parts = []
    if group.progress:
        parts.append(amount(group.progress))
    if group.consumer:
        parts.append(f"held by {group.consumer}, lease renewed {format_duration(group.idle)} ago")
    if group.due_in is not None:
        parts.append(
            f"due in {format_duration(group.due_in)}"
            if group.due_in >= 0
            else f"overdue for {format_duration(-group.due_in)}"
        )
    if group.reason:
        parts.append(group.reason)
    if group.error and not group.history:
        parts.append(group.error)
    if group.deliveries > max(1, group.attempts):
        parts.append(f"{group.deliveries} deliveries")
    if group.replays:
        parts.append(f"replayed {group.replays} x")
    if group.dead_letter:
        parts.append(f"streams dead show {group.group} {group.dead_letter}")
    return "; ".join(parts)


# following: how far the handlers of an event come, drawn as it goes on.


async def follow_event(id: str, *, json: bool) -> None:
    """Shows the steps of an event: bars on a terminal, else a line or an object for each."""
    async with opened() as streams, aclosing(streams.progress(id)) as steps:
        if json or not sys.stdout.isatty():
            async for step in steps:
                write(json_text(step.as_json()) if json else _line(step))
                sys.stdout.flush()
            return
        with _bars() as bars:
            tasks: dict[str, Any] = {}
            async for step in steps:
                if step.group not in tasks:
                    tasks[step.group] = bars.add_task(step.group, total=None, state="", amount="")
                _draw(bars, tasks[step.group], step)


def amount(reached: ProgressReport) -> str:
    """How far it has come, in words: `40 of 100, 40 %: reading`."""
    done = f"{reached.done:g}" if reached.total is None else f"{reached.done:g} of {reached.total:g}"
    if reached.share is not None:
        done += f", {reached.share:.0%}".replace("%", " %")
    return f"{done}: {reached.text}" if reached.text else done


def _line(step: Update) -> str:
    done = f"  {amount(step.reached)}" if step.reached else ""
    return safe(f"{step.group}  {step.state}  attempt {step.attempt}{done}")


def _bars() -> Any:
    from rich.progress import BarColumn, Progress, TextColumn

    def text(template: str) -> TextColumn:
        return TextColumn(template, markup=False)  # what a handler says is text

    columns = (text("{task.description}"), text("{task.fields[state]}"), BarColumn(), text("{task.fields[amount]}"))
    return Progress(*columns, console=console())


def _draw(bars: Any, task: Any, step: Update) -> None:
    state = step.state if step.attempt < 2 else f"{step.state}, attempt {step.attempt}"
    reached = step.reached
    total, done = (reached.total, reached.done) if reached else (None, 0.0)
    if step.is_last:
        total = total or 1.0  # nothing moves any more
        done = total if step.state == "acked" else min(done, total)
    bars.update(task, total=total, completed=done, state=state, amount=safe(amount(reached)) if reached else "")
