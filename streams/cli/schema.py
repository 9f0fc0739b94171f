"""schema: the events there are, and what is in them."""

from __future__ import annotations

from typing import Annotated

import typer

from streams.cli.ending import run
from streams.cli.fields import event_class
from streams.cli.output import print_rich, row, table, write_json
from streams.cli.session import load_events, settings


def schema(
    type: Annotated[str, typer.Argument(help="An event type; without it, all are listed.", metavar="TYPE")] = "",
    json: Annotated[bool, typer.Option("--json", help="Print the JSON Schema of every event as an array.")] = False,
) -> None:
    """Lists events, or prints a JSON Schema.

    streams schema UserRegistered
    """
    run(_schema(type, json))


async def _schema(type: str, json: bool) -> None:
    from schemas.event import registered, registered_types

    load_events(settings())
    if type:
        write_json(event_class(type).json_schema())
        return
    events = [event for event in map(registered, registered_types()) if event is not None]
    if json:
        write_json([event.json_schema() for event in events])
        return
    shown = table("TYPE", "STREAM", "VERSION", "FIELDS", right=("VERSION",), whole=("TYPE", "STREAM"))
    for event in events:
        names = (name if field.is_required() else f"[{name}]" for name, field in event.model_fields.items())
        row(shown, event.type, event.stream, event.version, " ".join(names))
    print_rich(shown)
