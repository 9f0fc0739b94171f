"""schema: the events there are, what is in them, and whether they may change as they did."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from streams.cli.ending import run
from streams.cli.fields import event_class
from streams.cli.output import print_rich, row, table, write, write_json
from streams.cli.session import load_events, settings
from streams.errors import StreamsError
from streams.processor import Processor


def schema(
    type: Annotated[str, typer.Argument(help="An event type; without it, all are listed.", metavar="TYPE")] = "",
    json: Annotated[bool, typer.Option("--json", help="Print the JSON Schema of every event as an array.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Compare all events with their accepted contracts.")] = False,
    accept: Annotated[bool, typer.Option("--accept", help="Accept what is new and breaks nothing.")] = False,
    contracts: Annotated[Path, typer.Option(help="Where the contracts are kept.")] = Path("schemas/contracts"),
    asyncapi: Annotated[bool, typer.Option("--asyncapi", help="Print an AsyncAPI 3 document.")] = False,
    processor: Annotated[
        list[str] | None,
        typer.Option(help="A module with processors, for --asyncapi; may be repeated.", metavar="MODULE"),
    ] = None,
) -> None:
    """Lists events, prints JSON Schemas, or guards the contracts.

    streams schema UserRegistered

    streams schema --check
    """
    if check + accept + asyncapi + bool(type) > 1:
        raise typer.BadParameter("give one of TYPE, --check, --accept and --asyncapi")
    if check or accept:
        run(_contracts(contracts, accept=accept))
    elif asyncapi:
        run(_asyncapi(processor or []))
    else:
        run(_schema(type, json))


def _events() -> list[Any]:
    from schemas.event import registered, registered_types

    load_events(settings())
    return [event for event in map(registered, registered_types()) if event is not None]


async def _schema(type: str, json: bool) -> None:
    events = _events()
    if type:
        write_json(event_class(type).json_schema())
        return
    if json:
        write_json([event.json_schema() for event in events])
        return
    shown = table("TYPE", "STREAM", "VERSION", "FIELDS", right=("VERSION",), whole=("TYPE", "STREAM"))
    for event in events:
        names = (name if field.is_required() else f"[{name}]" for name, field in event.model_fields.items())
        row(shown, event.type, event.stream, event.version, " ".join(names))
    print_rich(shown)


async def _contracts(directory: Path, *, accept: bool) -> None:
    """Ends with 1 when something breaks, or is not accepted yet."""
    from schemas import contract

    events = _events()
    try:
        if accept:
            for path in contract.accept(directory, events):
                write(f"accepted {path}")
            return
        changes = contract.compare(directory, events)
    except ValueError as error:
        raise StreamsError(str(error)) from error
    for change in changes:
        write(str(change))
    if changes:
        raise typer.Exit(1)
    write(f"{len(events)} events are as accepted in {directory}")


async def _asyncapi(modules: list[str]) -> None:
    from schemas.asyncapi import document

    groups: dict[str, set[str]] = {}
    for name in modules:
        try:
            module = import_module(name)
        except ImportError as error:
            raise StreamsError(f"--processor {name} cannot be imported: {error}") from error
        found = [value for value in vars(module).values() if isinstance(value, Processor)]
        if not found:
            raise StreamsError(f"--processor {name} has no processors in it")
        for each in found:
            groups.setdefault(each.name, set()).update(each.subscriptions)
    write_json(document(settings().app, version("planning-bord-streams"), _events(), groups))
