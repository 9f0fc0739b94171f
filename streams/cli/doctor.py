"""doctor: is all well, and if not, what mends it."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Annotated, Final

import typer

from streams.cli.checks import (
    Finding,
    check_books,
    check_clock,
    check_partitions,
    check_server,
    check_settings,
    check_state,
)
from streams.cli.ending import EXIT_FAILED, run
from streams.cli.output import print_rich, row, table, write_json
from streams.cli.session import opened

if TYPE_CHECKING:
    from streams.client import Streams

_STYLES: Final = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(json: Annotated[bool, typer.Option("--json", help="Print an array of findings.")] = False) -> None:
    """Checks that all is well.

    Redis, the settings, the groups, what waits; exits 1 when something must be mended.

    streams doctor
    """
    run(_doctor(json))


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
            if finding.mend:
                row(made, "", "", f"-> {finding.mend}", style="dim")
        print_rich(made)
    if any(finding.status == "fail" for finding in findings):
        raise typer.Exit(EXIT_FAILED)


async def _examine(streams: Streams) -> list[Finding]:
    began = time.time()
    seconds, microseconds = await streams.redis.time()
    difference = (began + time.time()) / 2 - (seconds + microseconds / 1e6)
    snapshot = await streams.snapshot()
    return [
        Finding("reachable", "ok", f"Redis at {streams.connections.place} answers"),
        *check_settings(streams.settings, os.environ),
        *(finding for server in snapshot.servers for finding in check_server(server)),
        check_partitions(snapshot),
        check_clock(difference),
        *check_state(snapshot, streams.settings.lease),
        *check_books(snapshot, streams.settings),
    ]
