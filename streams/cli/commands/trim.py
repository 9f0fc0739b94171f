"""trim, retire, orphans: removes what every group has finished, groups without consumers, objects without events."""

from __future__ import annotations

from typing import Annotated

import typer

from streams.cli.exit import Usage, run
from streams.cli.output import print_rich, row, table, write, write_json
from streams.cli.session import opened
from streams.cli.times import parse_age

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count them.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def trim(
    streams: Annotated[
        list[str] | None, typer.Argument(help="Streams (users), or priorities of them (users:low); default: all.")
    ] = None,
    keep: Annotated[
        int | None, typer.Option(min=0, help="Number of entries of each priority that stay.", metavar="N")
    ] = None,
    older_than: Annotated[
        str, typer.Option("--older-than", help="Remove entries older than this: 24h, 30d.", metavar="TIME")
    ] = "",
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Removes old events.

    Only what is settled in every group, beyond --keep or older than --older-than.

    streams trim users --older-than 30d --dry-run
    """
    if keep is None and not older_than:
        raise Usage("say what may go: --keep N, --older-than TIME, or both")
    run(_trim(streams or [], keep, older_than, dry_run, json))


async def _trim(names: list[str], keep: int | None, older_than: str, dry_run: bool, json: bool) -> None:
    age = parse_age(older_than, "--older-than") if older_than else None
    async with opened() as streams:
        done = await streams.trim(*names, keep=keep, older_than=age, dry_run=dry_run)
    if json:
        write_json([{**stream.as_json(), "dry_run": dry_run} for stream in done])
        return
    made = table(
        "STREAM", "WOULD GO" if dry_run else "REMOVED", "KEPT", "HELD BY",
        right=("WOULD GO", "REMOVED", "KEPT"), whole=("STREAM",),
    )  # fmt: skip
    for stream in done:
        if stream.removed or stream.kept:
            row(made, stream.stream, f"{stream.removed:,}", f"{stream.kept:,}", stream.held_by or "-")
    if made.row_count:
        print_rich(made)
    else:
        write("nothing is there to trim")


def retire(
    group: Annotated[str, typer.Argument(help="The group, such as email.", metavar="GROUP")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Apply it; without it, only print the effect.")] = False,
    json: Json = False,
) -> None:
    """Removes a group without consumers.

    Trimming does not wait for it any more. Its unhandled events are not delivered; its dead letters stay.

    streams retire old-reports
    """
    run(_retire(group, yes, json))


async def _retire(group: str, yes: bool, json: bool) -> None:
    from dataclasses import asdict

    async with opened() as streams:
        retired = await streams.retire(group, apply=yes)
    if json:
        write_json(asdict(retired))
        return
    effect = "retired" if retired.done else "would retire"
    text = (
        f"{effect} {group}: drops {retired.unread:,} unread, {retired.pending:,} pending, "
        f"{retired.waiting:,} waiting; keeps {retired.dead:,} dead letters"
    )
    write(text if retired.done else f"{text} (--yes does it)")


def orphans(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove them; without it, only count them.")] = False,
    older_than: Annotated[
        str, typer.Option("--older-than", help="Only those stored before: 2h, 1d.", metavar="TIME")
    ] = "1d",
    json: Json = False,
) -> None:
    """Removes stored data without an event.

    Objects in the claim store (STORAGE_URL, this app's alone) whose event is gone from every stream and group.

    streams orphans --older-than 7d
    """
    run(_orphans(yes, older_than, json))


async def _orphans(yes: bool, older_than: str, json: bool) -> None:
    from streams.admin.claim_cleanup import sweep

    async with opened() as streams:
        swept = await sweep(streams, older_than=parse_age(older_than, "--older-than"), apply=yes)
    if json:
        write_json(swept.as_json())
        return
    size = f"{swept.bytes / 2**20:,.1f} MB"
    text = f"{'removed' if yes else 'would remove'} {swept.orphans:,} of {swept.objects:,} objects, {size}"
    write(text if yes or not swept.orphans else f"{text} (--yes does it)")
