"""cancel, pause, resume: calls one event off, stops a group from beginning anything, lets it go on."""

from __future__ import annotations

from typing import Annotated

import typer

from streams.cli.exit import run
from streams.cli.output import write, write_json
from streams.cli.session import opened

_SAID = {
    "cancelled": "cancelled: it will not be handled",
    "running": "running: it has been delivered, and its consumer is asked to stop it (see streams event)",
    "acked": "acked: it was handled before",
    "dead": "dead: it was dead-lettered before",
    "expired": "expired before",
    "skipped": "skipped: this group has nothing to do with it",
}


def cancel(
    id: Annotated[str, typer.Argument(help="The event's id.", metavar="ID")],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Cancels one event.

    In every group that has not finished it: a waiting or unread event is removed, a running handler is cancelled.

    streams cancel 019ab2c4-5d6e-7f80-9a1b-2c3d4e5f6071
    """
    run(_cancel(id, json))


async def _cancel(id: str, json: bool) -> None:
    async with opened() as streams:
        cancellation = await streams.cancel(id)
    if json:
        write_json(cancellation.as_json())
        return
    if not cancellation.groups:
        write("cancelled before" if cancellation.before else "cancelled: no group had read it")
    for group, state in sorted(cancellation.groups.items()):
        write(f"{group}: {_SAID.get(state, state)}")


def pause(
    group: Annotated[str, typer.Argument(help="The group (a processor's name).", metavar="GROUP")],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Pauses a group.

    Running handlers finish, published events wait in the stream; consumers that start meanwhile are paused too.

    streams pause email
    """
    run(_pause(group, True, json))


def resume(
    group: Annotated[str, typer.Argument(help="The group (a processor's name).", metavar="GROUP")],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Resumes a paused group.

    streams resume email
    """
    run(_pause(group, False, json))


async def _pause(group: str, on: bool, json: bool) -> None:
    async with opened() as streams:
        changed = await (streams.pause(group) if on else streams.resume(group))
    if json:
        write_json({"group": group, "paused": on, "changed": changed})
        return
    state = "paused" if on else "running"
    write(f"{group} is {state}" if changed else f"{group} was {state} already")
