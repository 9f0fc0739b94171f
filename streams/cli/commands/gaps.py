"""gaps: what is unaccounted for: published, and neither settled nor anywhere."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli.exit import EXIT_FAILED, Usage, run
from streams.cli.output import json_array, note, print_rich, row, table, write
from streams.cli.session import opened
from streams.phrases import counted

if TYPE_CHECKING:
    from streams.inspecting.ledger import Gap


def gaps(
    accept: Annotated[str, typer.Option(help="Acknowledge the gaps of this group (or `all`).", metavar="GROUP")] = "",
    json: Annotated[bool, typer.Option("--json", help="Print an array.")] = False,
) -> None:
    """Shows events that were removed before they were settled.

    Entries that XTRIM, XDEL or DEL removed before every group had settled them, with the ids around them. Exits 1
    when it finds any; --accept acknowledges the present ones.

    streams gaps
    """
    if accept and json:
        raise Usage("give --accept or --json, not both")
    run(_gaps(accept, json))


async def _gaps(accept: str, json: bool) -> None:
    async with opened() as streams:
        accounts = await streams.accounts()
        if accept:
            count = await accounts.accept(streams, "" if accept == "all" else accept)
            write(f"accepted {counted(count, 'gap')}")
            return
    found = list(accounts.gaps())
    if json:
        with json_array() as item:
            for gap in found:
                item(asdict(gap))
    else:
        _show(found)
    if found:
        raise typer.Exit(EXIT_FAILED)


def _show(found: list[Gap]) -> None:
    made = table("GROUP", "WHERE", "MISSING", "BETWEEN", right=("MISSING",), whole=("GROUP", "WHERE"))
    for gap in found:
        row(made, gap.group or "-", gap.where, f"{gap.count:,}", f"{gap.after} and {gap.before}" if gap.before else "-")
    if made.row_count:
        print_rich(made)
    else:
        note("everything that was published is accounted for")
