"""schema: the events there are, what is in them, and whether they may change as they did."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from streams.cli.event_input import event_class
from streams.cli.exit import run
from streams.cli.output import note, print_rich, row, safe, table, write, write_json
from streams.cli.session import load_events, load_processors
from streams.errors import StreamsError


def schema(
    type: Annotated[str, typer.Argument(help="An event type; without it, all are listed.", metavar="TYPE")] = "",
    json: Annotated[bool, typer.Option("--json", help="Print an array: JSON Schemas, changes, files.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Compare all events with their accepted contracts.")] = False,
    accept: Annotated[bool, typer.Option("--accept", help="Accept compatible changes.")] = False,
    contracts: Annotated[Path, typer.Option(help="The directory of the contracts.")] = Path("schemas/contracts"),
    asyncapi: Annotated[bool, typer.Option("--asyncapi", help="Print an AsyncAPI 3 document.")] = False,
    processor: Annotated[
        list[str] | None,
        typer.Option(help="Its processors receive, not those installed; may be repeated.", metavar="MODULE"),
    ] = None,
    yaml: Annotated[bool, typer.Option("--yaml", help="Print the AsyncAPI document as YAML.")] = False,
) -> None:
    """Lists events, prints JSON Schemas, or guards the contracts.

    streams schema UserRegistered

    streams schema --check
    """
    if check + accept + asyncapi + bool(type) > 1:
        raise typer.BadParameter("give one of TYPE, --check, --accept and --asyncapi")
    if (processor or yaml) and not asyncapi:
        raise typer.BadParameter("--processor and --yaml go with --asyncapi")
    if check or accept:
        run(_contracts(contracts, accept=accept, json=json))
    elif asyncapi:
        run(_asyncapi(processor or [], yaml=yaml))
    else:
        run(_schema(type, json))


def _events() -> list[Any]:
    from streams.events.event import registered, registered_types
    from streams.settings import Settings

    load_events(Settings.load())
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


async def _contracts(directory: Path, *, accept: bool, json: bool) -> None:
    """Ends with 1 when something breaks, or is not accepted yet."""
    from streams.events import contract

    events = _events()
    try:
        if accept:
            written = [str(path) for path in contract.accept(directory, events)]
            _write_found(written, [f"accepted {path}" for path in written], json=json)
            return
        changes = contract.compare(directory, events)
    except ValueError as error:
        raise StreamsError(str(error)) from error
    _write_found([change.as_json() for change in changes], changes, json=json)
    if changes:
        raise typer.Exit(1)
    note(f"{len(events)} events are as accepted in {directory}")


def _write_found(found: list[Any], lines: Sequence[object], *, json: bool) -> None:
    if json:
        write_json(found)
        return
    for line in lines:
        write(safe(line))


async def _asyncapi(modules: list[str], *, yaml: bool) -> None:
    from streams.events.asyncapi import document
    from streams.settings import Settings

    groups: dict[str, set[str]] = {}
    for processor in load_processors(modules):
        groups.setdefault(processor.name, set()).update(processor.subscriptions)
    described = document(Settings.load().app, version("planning-bord-streams"), _events(), groups)
    if not yaml:
        write_json(described)
        return
    try:
        from yaml import safe_dump
    except ImportError:
        raise StreamsError("--yaml needs PyYAML (pip install pyyaml); the JSON is YAML as well") from None
    write(safe_dump(described, sort_keys=False, allow_unicode=True, width=120).rstrip())
