"""dead edit: corrects dead letters by hand, groups them by failure, and replays them in stages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from pydantic_core import from_json, to_json

from streams.cli.event_input import event_class, make_event, parse_data, split_fields
from streams.cli.exit import EXIT_FAILED, Usage, run
from streams.cli.output import json_array, note, print_rich, row, safe, table, write, write_json
from streams.cli.session import opened
from streams.messages.publishable import encoded
from streams.phrases import counted

if TYPE_CHECKING:
    from datetime import timedelta

    from streams.dead_letters.canary import Stage
    from streams.dead_letters.search import Filter
    from streams.events.event import Event

_ENDINGS: Final = {
    "passed": "all settled",
    "came_back": "stopped: {back} failed as before",
    "too_slow": "stopped: not settled in time",
}


def edit(
    group: Annotated[str, typer.Argument(help="The group, such as email.", metavar="GROUP")],
    id: Annotated[str, typer.Argument(help="The dead letter's id, or its event's.", metavar="ID")],
    data: Annotated[str, typer.Option(help="The whole event as a JSON object.", metavar="JSON")] = "",
    set: Annotated[list[str] | None, typer.Option("--set", help="One field of it.", metavar="NAME=VALUE")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Corrects the event of a dead letter.

    It is checked against the current version of its schema; what it was stays in the group's history.

    streams dead edit email 1763960000000-0 --set user_id=7
    """
    if bool(data) == bool(set):
        raise Usage("give --data JSON for the whole event, or --set NAME=VALUE for a field of it")
    run(_edit(group, id, parse_data(data) if data else None, split_fields(set or []), dry_run, json))


async def _edit(
    group: str, id: str, data: dict[str, Any] | None, fields: dict[str, str], dry_run: bool, json: bool
) -> None:
    from streams.dead_letters.edit import fields_of

    async with opened() as streams:
        letters = streams.dead_letters(group)
        letter = await letters.show(id)
        event = make_event(event_class(letter.type), fields_of(letter) if data is None else data, fields)
        changes = _changes(letter.data, event)
        new = letter if dry_run else await letters.edit(letter.id, event)
    if json:
        write_json({"group": group, "id": new.id, "event_id": new.event_id, "changes": changes, "dry_run": dry_run})
        return
    for name, (before, after) in changes.items():
        write(safe(f"{name}: {_text(before)} -> {_text(after)}"))
    if dry_run:
        write(f"would change {counted(len(changes), 'field')} of {letter.id}")
    else:
        write(f"{letter.id} is now {new.id}; deliver it:  streams dead replay {group} {new.id}")


def _changes(before: bytes, event: Event) -> dict[str, tuple[Any, Any]]:
    """Each field that changes, before and after, with personal values hidden."""
    from streams.events.privacy import redact

    try:
        document = from_json(before, allow_inf_nan=False)
    except ValueError:
        document = None
    old = document if isinstance(document, dict) else {}
    new = from_json(encoded(event))
    changed = [name for name in {**old, **new} if name not in old or name not in new or old[name] != new[name]]
    shown_old, shown_new = redact(type(event), old), redact(type(event), new)
    return {name: (shown_old.get(name), shown_new.get(name)) for name in changed}


def _text(value: Any) -> str:
    return to_json(value).decode()


async def list_kinds(group: str, only: Filter, json: bool) -> None:
    """Prints the dead letters by fingerprint."""
    async with opened() as streams:
        kinds = await streams.dead_letters(group).groups(only)
    if json:
        with json_array() as item:
            for kind in kinds:
                item(kind.as_json())
        return
    made = table(
        "FINGERPRINT", "COUNT", "TYPE", "REASON", "LAST", "ERROR OF THE LAST",
        right=("COUNT",), whole=("FINGERPRINT", "TYPE", "REASON", "LAST"),
    )  # fmt: skip
    for kind in kinds:
        last = kind.last[:19].replace("T", " ")
        row(made, kind.fingerprint, f"{kind.count:,}", kind.type, kind.reason, last, kind.error)
    if made.row_count:
        print_rich(made)
    else:
        note(f"{group} has no such dead letters")


async def replay_in_stages(
    group: str, only: Filter, *, limit: int | None, rate: float | None, force: bool, within: timedelta, json: bool
) -> None:
    """Replays by `canary` and prints each stage; ends with 1 when it was stopped."""
    from streams.dead_letters.canary import canary

    async with opened() as streams:
        stages = await canary(
            streams, group, only, limit=limit, rate=rate, force=force, within=within.total_seconds(),
            on_stage=None if json else _write_stage,
        )  # fmt: skip
    if json:
        with json_array() as item:
            for stage in stages:
                item(stage.as_json())
    elif not stages:
        note(f"{group} has no such dead letters, or they are parked")
    if stages and stages[-1].ending != "passed":
        raise typer.Exit(EXIT_FAILED)


def _write_stage(stage: Stage) -> None:
    ending = _ENDINGS[stage.ending].format(back=stage.back)
    left = f"; {stage.left:,} left" if stage.left else ""
    write(f"stage {stage.stage}: replayed {stage.replayed:,}, {ending}{left}")
