"""doctor: is all well, and if not, what repairs it; and why one event is not done."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Annotated, Final

import typer

from streams.cli.exit import EXIT_FAILED, run
from streams.cli.output import json_array, print_rich, row, safe, table, write, write_json
from streams.cli.reaching import check_connection
from streams.cli.session import opened
from streams.inspecting.doctor import (
    Finding,
    check_clock,
    check_damage,
    check_ledger,
    check_newer,
    check_partitions,
    check_schedules,
    check_server,
    check_settings,
    check_standstill,
    check_state,
)

if TYPE_CHECKING:
    from streams.client.client import Streams

_STYLES: Final = {"ok": "green", "warn": "yellow", "fail": "bold red"}


doctor = typer.Typer(add_completion=False, rich_markup_mode=None)


@doctor.callback(invoke_without_command=True)
def examine(
    context: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Print an array of findings.")] = False,
) -> None:
    """Checks the server, the settings and the groups.

    Also the clock and the waiting messages. Exits 1 when it finds a problem.

    streams doctor; streams doctor why 019ab2c4-5d6e-7f80-9a1b-2c3d4e5f6071
    """
    if context.invoked_subcommand is None:
        run(_doctor(json))


@doctor.command()
def why(
    id: Annotated[str, typer.Argument(help="The event's id (of an entry without one: the entry's).", metavar="ID")],
    json: Annotated[bool, typer.Option("--json", help="Print an array.")] = False,
) -> None:
    """Says why an event is not done.

    One sentence for each group, and the remedy; exits 1 when the event does not exist.

    streams doctor why 019ab2c4-5d6e-7f80-9a1b-2c3d4e5f6071
    """
    run(_why(id, json))


async def _why(id: str, json: bool) -> None:
    async with opened() as streams:
        reasons = await streams.why(id)
    if json:
        with json_array() as item:
            for reason in reasons:
                item(reason.as_json())
    else:
        for reason in reasons:
            write(safe(f"{reason.group}: {reason.why}" if reason.group else reason.why))
            if reason.remedy:
                write(safe(f"  -> {reason.remedy}"))
    if not all(reason.state for reason in reasons):
        raise typer.Exit(EXIT_FAILED)


async def _doctor(json: bool) -> None:
    from dataclasses import asdict

    from rich.text import Text

    async with opened() as streams:
        findings = await _examine(streams)
    if json:
        write_json([asdict(finding) for finding in findings])
    else:
        made = table("", "CHECK", "FOUND", whole=("", "CHECK"))
        for finding in findings:
            status = Text(finding.status, style=_STYLES[finding.status])
            row(made, status, finding.check, finding.text)
            if finding.remedy:
                row(made, "", "", f"-> {finding.remedy}", style="dim")
        print_rich(made)
    if any(finding.status == "fail" for finding in findings):
        raise typer.Exit(EXIT_FAILED)


async def _examine(streams: Streams) -> list[Finding]:
    from streams.inspecting.consumer_report import ask_holders
    from streams.inspecting.damage import damage
    from streams.inspecting.snapshot_reader import snapshot_each
    from streams.redis.partition import Reads
    from streams.settling.unsupported import newer_than_code

    began = time.time()
    now = await Reads(streams.partitions[0]).now_ms()
    difference = (began + time.time()) / 2 - now / 1000
    snapshot = await streams.snapshot()
    answers = await ask_holders(streams, await snapshot_each(streams))
    return [
        *check_connection(streams.connections),
        *check_settings(streams.settings, os.environ),
        *(finding for server in snapshot.servers for finding in check_server(server)),
        check_partitions(snapshot),
        check_clock(difference),
        *check_state(snapshot, streams.settings.lease),
        *check_standstill(answers, streams.settings.lease),
        *check_newer(await newer_than_code(streams), streams.settings, snapshot.at),
        *check_damage(await damage(streams)),
        *check_ledger(snapshot, streams.settings),
        *check_schedules(await streams.schedules.ls()),
    ]
