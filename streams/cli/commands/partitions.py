"""partitions: how many there are, what each has, and how to change that."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from streams.cli.exit import run
from streams.cli.output import print_rich, row, table, write, write_json
from streams.cli.session import opened


def partitions(
    set: Annotated[int | None, typer.Option("--set", min=1, help="The new number of partitions.", metavar="N")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print an array of objects.")] = False,
) -> None:
    """Shows the partitions, or changes their number.

    More at any time; fewer when the removed ones are empty and no consumer runs. Then start every process with
    STREAMS_PARTITIONS set to the new number.

    streams partitions
    """
    run(_partitions(json) if set is None else _set(set))


async def _set(to: int) -> None:
    from streams.admin.repartition import repartition

    async with opened() as streams:
        had = await repartition(streams, to)
    write(
        f"{streams.settings.app} has {to} partition(s), it had {had}: set STREAMS_PARTITIONS={to} and restart all of it"
    )


async def _partitions(json: bool) -> None:
    from streams.inspecting.snapshot_reader import snapshot_each

    async with opened() as streams:
        found = list(enumerate(await snapshot_each(streams)))
    rows: list[dict[str, Any]] = [
        {
            "partition": number,
            "server": part.server.place,
            "events": sum(stream.length for stream in part.streams),
            "unread": sum(group.lag for group in part.groups),
            "pending": sum(group.pending for group in part.groups),
            "waiting": part.waiting.total,
            "dead": sum(group.dead for group in part.groups),
        }
        for number, part in found
    ]
    if json:
        write_json(rows)
        return
    columns = ("EVENTS", "UNREAD", "PENDING", "WAITING", "DEAD")
    made = table("PARTITION", "SERVER", *columns, right=("PARTITION", *columns), whole=("PARTITION", "SERVER"))
    for each in rows:
        row(made, *(f"{value:,}" if isinstance(value, int) else value for value in each.values()))
    print_rich(made)
